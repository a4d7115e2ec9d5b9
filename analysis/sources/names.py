"""Our column names for theirs, and what to say where a name finds nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

import pandas as pd

from analysis.errors import AnalysisError

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
OURS = (*ALSO_CALLED, "train_loss", "accuracy", "irreducible_loss", "initial_loss")
_MOST_LISTED = 20


def near_names(name: str, there: Iterable[str]) -> list[str]:
    """Up to three of the names there that may be meant by `name`, the likeliest first."""
    goals = [_bare(name), *(_bare(other) for other in ALSO_CALLED.get(name, ()))]
    scored = []
    for candidate in there:
        forms = {_bare(candidate), _bare(re.split(r"[./]", candidate)[-1])}
        likeness = max(
            difflib.SequenceMatcher(None, goal, form).ratio() - 0.01 * (rank > 0)
            for rank, goal in enumerate(goals)
            for form in forms
        )
        if likeness >= 0.6:
            scored.append((-likeness, candidate))
    return [candidate for _, candidate in sorted(scored)[:3]]


def suggestion(name: str, there: Iterable[str]) -> str:
    """ "; did you mean a or b? There are a, b, c": what follows a name that found nothing."""
    names = sorted(map(str, there))
    near = near_names(name, names)
    question = f"; did you mean {' or '.join(near)}?" if near else ";"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    listed = ", ".join(names[:_MOST_LISTED]) or "none"
    return f"{question} There are {listed}{more}"


def check_ours(columns: Mapping[str, str]) -> None:
    """Refuse a name of ours that looks mistyped: source.columns.batchsize."""
    for ours in columns:
        near = difflib.get_close_matches(ours, OURS, n=1, cutoff=0.8)
        if ours not in OURS and near:
            raise AnalysisError(
                f"source.columns.{ours}: there is no such column here; did you mean {near[0]}?"
            )


def rename(frame: pd.DataFrame, columns: Mapping[str, str], where: str) -> pd.DataFrame:
    """The frame with their columns under our names; what bore one of these names goes.

    columns: ours -> theirs. Raises AnalysisError if theirs is not there.
    """
    check_ours(columns)
    for ours, theirs in columns.items():
        if theirs not in frame:
            said = suggestion(theirs, frame.columns)
            raise AnalysisError(f"source.columns.{ours}={theirs}: {where} has no such column{said}")
    given = {ours: frame[theirs] for ours, theirs in columns.items()}
    return frame.drop(columns=list({*columns, *columns.values()} & set(frame.columns))).assign(
        **given
    )


def need(frame: pd.DataFrame, names: Iterable[str], where: str) -> None:
    """Raise AnalysisError for the first of `names` that the frame lacks."""
    for name in names:
        if name not in frame:
            raise AnalysisError(
                f"{where} has no column {name}{suggestion(name, frame.columns)}; "
                f"name it with source.columns.{name}=..."
            )


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
