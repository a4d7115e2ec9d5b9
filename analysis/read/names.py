"""Our column names for theirs, and what to say where a name finds nothing."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import PARAMS, their_name
from scaling.schema import MODEL_SIZE

# What other projects call a column, as far as a suggestion may go; nothing is renamed by itself.
ALSO_CALLED = {
    "run_id": ("run", "run_name", "id", "trial", "run_uuid"),
    "batch_size": ("bs", "batch", "batchsize", "global_batch_size", "train_batch_size", "b"),
    "lr": ("learning_rate", "peak_lr", "base_lr", "max_lr", "eta", "alpha"),
    "step": ("iter", "iteration", "iterations", "global_step", "steps", "update", "updates"),
    "steps": ("steps_to_target", "iterations", "iters", "step", "num_steps", "updates"),
    "loss": ("val_loss", "valid_loss", "validation_loss", "eval_loss", "test_loss", "ce"),
    "seed": ("random_seed", "rng_seed", "seed_id", "replicate"),
    "model_size": ("n_params", "num_params", "params", "parameters", "width", "n"),
    "examples": ("samples", "num_samples", "examples_seen", "tokens"),
    "target_loss": ("target", "goal", "threshold", "loss"),
    "outcome": ("status", "result"),
}
OURS = (
    *ALSO_CALLED, "train_loss", "accuracy", "irreducible_loss", "initial_loss", "step_seconds",
    "flops_per_example", "tokens",
)  # fmt: skip
# Numbers of ours that other projects also use as names ("small", "fast").
OR_LABEL = (MODEL_SIZE, "step_seconds", "flops_per_example")
_MOST_LISTED = 20


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of the names there that may be meant by `name`, the likeliest first."""
    goals = [_bare(name), *(_bare(other) for other in ALSO_CALLED.get(name, ()))]
    scored = []
    for candidate in known:
        forms = {_bare(candidate), _bare(re.split(r"[./]", candidate)[-1])}
        likeness = max(
            difflib.SequenceMatcher(None, goal, form).ratio() - 0.01 * (rank > 0)
            for rank, goal in enumerate(goals)
            for form in forms
        )
        if likeness >= 0.6:
            scored.append((-likeness, candidate))
    return [candidate for _, candidate in sorted(scored)[:3]]


def suggestion(name: str, known: Iterable[str]) -> str:
    """ "; did you mean a or b? There are a, b, c": what follows a name that found nothing."""
    names = sorted(map(str, known))
    near = near_names(name, names)
    question = f"; did you mean {' or '.join(near)}? There are" if near else "; there are"
    rest = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    listed = ", ".join(names[:_MOST_LISTED]) or "none"
    return f"{question} {listed}{rest}"


def mapped(table: str, ours: str, theirs: str = "...") -> str:
    """How a user maps a name: an option of the command, or a dictionary where a frame is given.

    >>> mapped("source.path=mine.csv", "lr", "eta"), mapped("the frame", "lr", "eta")
    ('source.columns.lr=eta', "columns={'lr': 'eta'}")
    """
    if table.startswith("source"):
        return f"source.columns.{ours}={theirs}"
    return f"columns={{{ours!r}: {theirs if theirs == '...' else repr(theirs)}}}"


def check_ours(columns: Mapping[str, str], table: str = "source") -> None:
    """Refuse a name of ours that looks mistyped: source.columns.batchsize."""
    for ours, theirs in columns.items():
        near = difflib.get_close_matches(ours, OURS, n=1, cutoff=0.8)
        if ours not in OURS and near:
            raise AnalysisError(
                f"{mapped(table, ours, theirs)}: there is no such column here; did you mean "
                f"{near[0]}?"
            )


def rename(frame: pd.DataFrame, columns: Mapping[str, str], where: str) -> pd.DataFrame:
    """The frame with their columns under our names; what bore one of these names goes.

    columns: ours -> theirs. Raises AnalysisError if theirs is not there.
    """
    check_ours(columns, where)
    for ours, theirs in columns.items():
        if theirs not in frame:
            raise AnalysisError(
                f"{mapped(where, ours, theirs)}: {where} has no such column"
                f"{suggestion(theirs, frame.columns)}"
            )
    given = {ours: frame[theirs] for ours, theirs in columns.items()}
    return frame.drop(columns=list({*columns, *columns.values()} & set(frame.columns))).assign(
        **given
    )


def namespaced(
    frame: pd.DataFrame, documented: Iterable[str], columns: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Their columns under groups.PARAMS, and the key of each name that they have.

    What is `documented` is ours. A name of OR_LABEL whose column holds no number at all is a label
    of theirs, unless `columns` maps it. A model size may tell groups apart: it stands in both.

    >>> frame = pd.DataFrame({"batch_size": [8], "steps": ["a"], "step_seconds": ["slow"]})
    >>> namespaced(frame, ["batch_size", "step_seconds"], {})[1]
    {'steps': 'params.steps', 'step_seconds': 'params.step_seconds'}
    """
    ours = set(documented)
    ours -= {n for n in OR_LABEL if n in frame and n not in columns and not any_number(frame[n])}
    theirs = [str(name) for name in frame if name not in ours]
    keys = {}
    for name in theirs:
        # as MLflow exports them
        apart = name.startswith(PARAMS) and their_name(name) not in {"", *theirs}
        keys[name] = name if apart else PARAMS + name
    frame = frame.rename(columns=keys)
    if MODEL_SIZE in frame:
        keys[MODEL_SIZE] = PARAMS + MODEL_SIZE
        frame = frame.assign(**{keys[MODEL_SIZE]: frame[MODEL_SIZE]})
    return frame, keys


def any_number(column: pd.Series) -> bool:
    """Whether a cell is a number, or none is known."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    known = column.dropna().map(str)
    return known.empty or bool(pd.to_numeric(known, errors="coerce").notna().any())


def our_names(wanted: Iterable[str], columns: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Names that group_by or tuned give, ours where `columns` has renamed what they name."""
    ours = {theirs: name for name, theirs in columns.items()}
    known_names = set(known)
    return [name if name in known_names else ours.get(name, name) for name in wanted]


def their_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that stand under groups.PARAMS."""
    return [name for name in map(str, frame.columns) if name.startswith(PARAMS)]


def need(frame: pd.DataFrame, names: Iterable[str], where: str) -> None:
    """Raise AnalysisError for the first of `names` that the frame does not have."""
    for name in names:
        if name not in frame:
            raise AnalysisError(
                f"{where} has no column {name}{suggestion(name, frame.columns)}; "
                f"name it with {mapped(where, name)}"
            )


def check_names(table: str, names: Sequence[str]) -> None:
    """Raise AnalysisError for a name that two columns of a table have."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        places = [str(i + 1) for i, name in enumerate(names) if name == repeated[0]]
        raise AnalysisError(
            f"{table}: column {repeated[0]} stands {len(places)} times in the header "
            f"(as number {' and '.join(places)}); rename or delete all but one"
        )


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
