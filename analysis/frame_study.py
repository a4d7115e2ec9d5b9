"""From a frame, of whatever kind, to a study's result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.curve_study import analyse
from analysis.errors import AnalysisError
from analysis.final_loss_study import analyse_final_losses, check_tuned
from analysis.groups import listed
from analysis.read.curves import CURVES_NEED, tidy_curves
from analysis.read.final_losses import FINAL_LOSSES_NEED, tidy_final_losses
from analysis.read.frames import check_mapping, plain_frame
from analysis.read.names import check_ours, near_names
from analysis.read.steps import STEPS_NEED, tidy_steps
from analysis.result import StudyResult
from analysis.step_study import analyse_steps

_TABLE = "the frame"


def analyse_frame(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    kind: str | None = None,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    study: str | None = None,
    **options: Any,
) -> StudyResult:
    """A frame of curves, of steps or of final losses in, the study's statistics out.

    frame: of curves, a row an evaluation: batch_size (examples), lr, step (optimizer updates) or
    examples (seen), loss (held-out); of steps, a row a trial: batch_size, steps (updates until the
    target was reached); or of final losses, a row a run: batch_size, lr, steps (or examples or
    tokens: its length), loss (at its end). Optional columns as in read_curves_csv, read_steps_csv
    and read_final_losses_csv. Named levels of its index are columns. columns: our names to the
    frame's, {"batch_size": "bs"}. kind: curves, steps or final_losses, where the columns fit
    several; with examples and loss they are taken for curves. targets: held-out losses; group_by:
    columns that tell groups apart; tuned: columns that the frontier is minimised over; study: its
    name in the report; options: n_bootstrap, seed, fit_objective, jointly: all as in analyse,
    analyse_steps and analyse_final_losses. Raises AnalysisError, one line, for a frame that is of
    no kind or of several, and for what these cannot use.

    >>> frame = pd.DataFrame({"bs": [8, 32, 128, 512, 2048], "steps": [461, 146, 65.6, 46.8, 41.5]})
    >>> result = analyse_frame(frame, {"batch_size": "bs"}, n_bootstrap=10)
    >>> round(result.fits[0].critical_batch_size)
    84
    >>> analyse_frame(frame)
    Traceback (most recent call last):
    ...
    analysis.errors.AnalysisError: the frame has columns bs, steps; curves need batch_size, lr, step
    or examples and loss, steps need batch_size and steps, final_losses need batch_size, lr, steps
    or examples or tokens and loss; perhaps columns={'batch_size': 'bs'} (steps)
    """
    frame = plain_frame(frame, _TABLE)
    columns = dict(columns or {})
    check_ours(columns, _TABLE)
    check_mapping(columns, list(frame.columns), _TABLE)
    names = {*columns, *(set(frame.columns) - set(columns.values()))}
    asked = _Asked(columns, group_by, tuned, study, options | {"targets": targets})
    return _KINDS[_kind_of(names, columns, kind)].analyse(frame, asked)


@dataclass(frozen=True)
class _Asked:
    """What is asked of a frame; options: of the statistics, targets among them."""

    columns: Mapping[str, str]
    group_by: Sequence[str] | None
    tuned: Sequence[str]
    study: str | None
    options: Mapping[str, Any]


def _analyse_curves(frame: pd.DataFrame, asked: _Asked) -> StudyResult:
    given: dict[str, Any] = {"group_by": asked.group_by, "tuned": asked.tuned}
    read = tidy_curves(frame, asked.columns, study=asked.study or "curves", **given)
    return analyse(*read, **given, **asked.options)


def _analyse_steps(frame: pd.DataFrame, asked: _Asked) -> StudyResult:
    given: dict[str, Any] = {"group_by": asked.group_by, "tuned": asked.tuned}
    table = tidy_steps(frame, asked.columns, **given)
    return analyse_steps(table, study=asked.study, **given, **asked.options)


def _analyse_final_losses(frame: pd.DataFrame, asked: _Asked) -> StudyResult:
    check_tuned(asked.tuned)
    table = tidy_final_losses(frame, asked.columns, group_by=asked.group_by)
    return analyse_final_losses(table, study=asked.study, group_by=asked.group_by, **asked.options)


@dataclass(frozen=True)
class _Kind:
    """needed: its columns, "a|b" for either; shared: of these what another kind has as well."""

    needed: tuple[str, ...]
    analyse: Callable[[pd.DataFrame, _Asked], StudyResult]
    shared: tuple[str, ...] = ()

    def missing(self, names: Collection[str]) -> list[str]:
        return [name for name in self.needed if not set(name.split("|")) & set(names)]


_KINDS = {
    "curves": _Kind(CURVES_NEED, _analyse_curves),
    "steps": _Kind(STEPS_NEED, _analyse_steps),
    "final_losses": _Kind(FINAL_LOSSES_NEED, _analyse_final_losses, shared=("examples",)),
}


def _kind_of(names: set[str], columns: Mapping[str, str], kind: str | None) -> str:
    """names: the columns after the mapping."""
    if kind is not None and kind not in _KINDS:
        raise AnalysisError(f"kind={kind}: must be one of {', '.join(_KINDS)}")
    possible = [kind] if kind else list(_KINDS)
    told_by = {name: names - set(() if kind else _KINDS[name].shared) for name in possible}
    fitting = [name for name in possible if not _KINDS[name].missing(told_by[name])]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        either = " or ".join(f"kind={name!r}" for name in fitting)
        raise AnalysisError(f"{_TABLE} may be of {listed(fitting)}; say which with {either}")
    needs = ", ".join(f"{name} need {_needs_words(name)}" for name in possible)
    raise AnalysisError(
        f"{_TABLE} has {_columns_words(names)}; {needs}{_suggestion(names, columns, possible)}"
    )


def _needs_words(kind: str) -> str:
    return listed([name.replace("|", " or ") for name in _KINDS[kind].needed])


_MOST_LISTED = 20


def _columns_words(names: Collection[str]) -> str:
    if not names:
        return "no columns"
    some = sorted(names)[:_MOST_LISTED]
    more = len(names) - len(some)
    return f"columns {', '.join(some)}" + (f" and {more} more" if more else "")


def _suggestion(names: set[str], columns: Mapping[str, str], kinds: Sequence[str]) -> str:
    """ "; perhaps columns={..} (steps) or columns={..} and lr (curves)": what lacks least first."""
    found = {kind: _mapping(_KINDS[kind], names) for kind in kinds}
    lacking = {kind: _KINDS[kind].missing(names | set(found[kind])) for kind in kinds}
    likely = [kind for kind in kinds if found[kind] and len(lacking[kind]) <= 1]
    texts = []
    for kind in sorted(likely, key=lambda one: (len(lacking[one]), -len(_KINDS[one].needed))):
        more = "".join(f" and a column {name.replace('|', ' or ')}" for name in lacking[kind])
        texts.append(f"columns={dict(columns) | found[kind]}{more} ({kind})")
    return f"; perhaps {', or '.join(texts)}" if texts else ""


def _mapping(kind: _Kind, names: set[str]) -> dict[str, str]:
    """Our names that are missing to what may be meant by them."""
    found: dict[str, str] = {}
    for needed in kind.missing(names):
        for ours in needed.split("|"):
            free = names - {*found.values(), *kind.needed}
            if near := near_names(ours, free):
                found[ours] = near[0]
                break
    return found
