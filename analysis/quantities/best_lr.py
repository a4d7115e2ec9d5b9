"""How the best learning rate moves with the batch size, as quantities of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import group_label
from analysis.measure.frontier import usable
from analysis.quantities.measured import Measured

if TYPE_CHECKING:
    from analysis.study import StudyResult

_95 = 1.96
_AT_ENDS = 3  # batch sizes at either end, of which a slope is taken
_POWERS = ("constant", "linear", "square_root", "power")


def best_lr(result: StudyResult) -> Sequence[Measured]:
    """The lr of the fewest steps at each batch size and target; predicted: the exact optimum.

    Best lrs at an edge of what was tried are left out. standard_error: of log lr times lr.
    """
    found: list[Measured] = []
    for label, rows in _frontiers(result):
        errors = _log_errors(rows)
        for row, error in zip(rows.to_dict("records"), errors, strict=True):
            what = f"{label}batch size {row['batch_size']:.0f}, target {row['target_loss']:.4g}"
            lr, exact = float(row["best"]), float(row["exact"])
            low, high = lr * np.exp(-_95 * error), lr * np.exp(_95 * error)
            predicted = None if np.isnan(exact) else exact
            found.append(Measured(what, lr, lr * error, float(low), float(high), predicted))
    return found


def lr_slope_small_batches(result: StudyResult) -> Sequence[Measured]:
    """d log lr / d log B over the three smallest batch sizes: 1 where gradient noise rules sgd."""
    return [_slope(label, rows.iloc[:_AT_ENDS]) for label, rows in _frontiers(result)]


def lr_slope_large_batches(result: StudyResult) -> Sequence[Measured]:
    """d log lr / d log B over the three largest batch sizes: 0 where curvature limits the lr."""
    return [_slope(label, rows.iloc[-_AT_ENDS:]) for label, rows in _frontiers(result)]


def lr_saturation(result: StudyResult) -> Sequence[Measured]:
    """AICc of the best power law (lr = c B^k: k = 0, 1/2, 1 or free) less the saturating rule's.

    Not known below lr_rules.FEWEST_FOR_VERDICT batch sizes. Above 0 the saturating rule is
    preferred; a difference of 2 is weak, of 10 strong evidence.
    """
    found: list[Measured] = []
    columns = [*result.group_by, "target_loss"]
    for key, rules in result.lr_rules.groupby(columns, sort=False, dropna=False):
        of = dict(zip(columns, key if isinstance(key, tuple) else (key,), strict=True))
        what = f"{_label(result, of)}target {of['target_loss']:.4g}"
        aicc = rules.set_index("rule")["aicc"].astype(float)
        gain = float(aicc.reindex(_POWERS).min() - aicc["saturating"])
        known = not np.isnan(gain)
        reason = "" if known else f"not decided: {rules['reason'].iloc[0]}"
        found.append(Measured(what, gain if known else None, reason=reason))
    return found


def _frontiers(result: StudyResult) -> Iterator[tuple[str, pd.DataFrame]]:
    """Label and usable frontier of each group and target, with `best` and `exact` lrs."""
    rows = usable(result.frontier)
    if rows.empty:
        raise AnalysisError("best_lr: no batch size reached a target with a lr inside those tried")
    columns = [*result.group_by, "target_loss"]
    exact = pd.DataFrame({name: pd.Series(dtype=rows[name].dtype) for name in columns})
    if len(result.theory):
        exact = result.theory[result.theory["lr_choice"] == "continuous_lr"]
    keys = [*columns, "batch_size"]
    for key, own in rows.groupby(columns, sort=False, dropna=False):
        of = dict(zip(columns, key if isinstance(key, tuple) else (key,), strict=True))
        own = own.sort_values("batch_size")
        lrs = {} if exact.empty else _by_size(exact, of)
        refined = own["lr_refined"].astype(float) if "lr_refined" in own else np.nan
        own = own.assign(
            best=np.where(pd.isna(refined), own["lr"].astype(float), refined),
            exact=[lrs.get(int(size), np.nan) for size in own["batch_size"]],
        )
        assert set(keys) <= set(own.columns)
        yield _label(result, of), own


def _by_size(exact: pd.DataFrame, of: dict[str, Any]) -> dict[int, float]:
    same = np.ones(len(exact), dtype=bool)
    for name, value in of.items():
        column = exact[name]
        same &= (column.isna() if pd.isna(value) else column == value).to_numpy(bool)
    rows = exact[same]
    return dict(zip(rows["batch_size"].astype(int), rows["lr"].astype(float), strict=True))


def _label(result: StudyResult, of: dict[str, Any]) -> str:
    label = group_label({name: of[name] for name in result.group_by})
    return f"{label}, " if label else ""


def _log_errors(rows: pd.DataFrame) -> np.ndarray:
    """Standard errors of log lr [n]: from the 95 % intervals."""
    low, high = (rows[name].to_numpy(float) for name in ("lr_low", "lr_high"))
    return np.log(high / low) / (2 * _95)


def _slope(label: str, rows: pd.DataFrame) -> Measured:
    """By least squares on log lr; predicted: that of the exact optima at the same batch sizes."""
    sizes = rows["batch_size"].to_numpy(float)
    what = f"{label}target {rows['target_loss'].iloc[0]:.4g}, batch sizes "
    what += f"{sizes.min():.0f} to {sizes.max():.0f}"
    if len(rows) < _AT_ENDS:
        return Measured(what, None, reason=f"fewer than {_AT_ENDS} batch sizes with a best lr")
    x = np.log(sizes) - np.log(sizes).mean()
    weights = x / (x @ x)
    value = float(weights @ np.log(rows["best"].to_numpy(float)))
    error = float(np.sqrt(weights**2 @ _log_errors(rows) ** 2))
    exact = float(weights @ np.log(rows["exact"].to_numpy(float)))
    low, high = value - _95 * error, value + _95 * error
    return Measured(what, value, error, low, high, None if np.isnan(exact) else exact)
