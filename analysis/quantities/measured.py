"""A quantity found from several trials, and the part of a study that a prediction speaks of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.read.selection import NONE
from scaling.schema import current_name

if TYPE_CHECKING:
    from analysis.study import StudyResult


@dataclass(frozen=True)
class Measured:
    """A number that an analysis found.

    what: of what, where a quantity has several ("batch size 8"); value: None where it cannot be
    found, and then reason says why; standard_error: None where the value is exact or no error is
    known; low, high: a 95 % interval, None where an end is open or not known; predicted: the
    quantity's own closed form, None without one.
    """

    what: str
    value: float | None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    predicted: float | None = None
    reason: str = ""


class Quantity(Protocol):
    """Finds one or several numbers in the trials, curves and fits of a study (restricted).

    Raises AnalysisError, in one sentence, where the study cannot have it.
    """

    def __call__(self, result: StudyResult) -> Sequence[Measured]: ...


def chosen(trials: pd.DataFrame, where: Mapping[str, Any] | None) -> NDArray[np.bool_]:
    """Which trials [n] have these params; a list stands for any of its values.

    None: trials that do not have the param.
    """
    found = np.ones(len(trials), dtype=bool)
    for param, wanted in (where or {}).items():
        values = wanted if isinstance(wanted, list) else [wanted]
        allowed = [_plain(current_name(param, value)) for value in values]
        known = trials[param].map(_plain) if param in trials else pd.Series(NONE, trials.index)
        found &= known.isin(allowed).to_numpy()
    return found


def restricted(result: StudyResult, where: Mapping[str, Any] | None) -> StudyResult:
    """The study as these trials alone are part of it.

    Trials and curves are theirs; of fits and every other frame those groups are kept that have such
    a trial. Nothing is fitted anew: a `where` on batch_size, lr or seed, which tell no groups
    apart, leaves fits and frontier as they are.
    """
    trials = result.trials[chosen(result.trials, where)]
    curves = result.curves[result.curves["run_id"].isin(trials["run_id"])]
    groups = {_key(row) for row in trials.reindex(columns=result.group_by).to_numpy(object)}

    def kept(group: Mapping[str, Any]) -> bool:
        return _key([group.get(name) for name in result.group_by]) in groups

    changes: dict[str, Any] = {"trials": trials, "curves": curves}
    for item in fields(result):
        value = getattr(result, item.name)
        if item.name in changes or not isinstance(value, pd.DataFrame):
            continue
        if result.group_by and set(result.group_by) <= set(value.columns):
            rows = [_key(row) in groups for row in value[result.group_by].to_numpy(object)]
            changes[item.name] = value[np.array(rows, dtype=bool)]
    fits = [fit for fit in result.fits if kept(fit.group)]
    return replace(result, fits=fits, **changes)


def _key(values: Sequence[Any] | NDArray[Any]) -> tuple[Any, ...]:
    return tuple(_plain(value) for value in values)


def _plain(value: Any) -> Any:
    """A param as MLflow holds it: lists as JSON text, numbers as numbers."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list | tuple):
        return json.dumps([_plain(item) for item in value])
    if isinstance(value, bool | str):
        return value
    return NONE if value is None or np.isnan(value) else float(value)
