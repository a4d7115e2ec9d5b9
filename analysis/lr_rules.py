"""How the best learning rate moves with the batch size: four rules, fitted and compared.

    linear        lr = c B
    square root   lr = c sqrt(B)
    saturating    lr = lr_max / (1 + B_*/B)^a
    surge         lr = 2 lr_peak / (sqrt(B_peak/B) + sqrt(B/B_peak)): rises, then falls

Source: one step on a quadratic with gradient noise, McCandlish et al. 2018, arXiv:1812.06162
(saturating, a = 1 for SGD; for Adam's kin a lies between 1/2 and 1); Li et al. 2024,
arXiv:2405.14578 (surge, for Adam). B_* and B_peak are not the critical batch size. Least squares
on residuals of log lr; the level is a mean, so only B_* (and a) are searched.
Axes: n curves (the best lrs, or their bootstrap resamples), B batch sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.bootstrap import percentile_interval
from analysis.fitting import aicc

Floats = NDArray[np.float64]

_ESTIMATES = ("coefficient", "lr_max", "batch_scale", "exponent")
LR_RULE_COLUMNS = [
    "target_loss", "rule", "coefficient", "lr_max", "batch_scale", "exponent", "rmse_log_lr",
    "aicc", "preferred", "shown",
    *(f"{name}_{end}" for name in _ESTIMATES for end in ("low", "high")),
]  # fmt: skip
EXPONENT_OF = {"linear": 1.0, "square_root": 0.5}
_ADAPTIVE = ("adam", "adamw", "rmsprop", "rmspropw")
_BEYOND = 1e3  # B_* is searched this far beyond the sampled batch sizes
_EXPONENTS = np.geomspace(0.25, 2.0, 25)  # of the first search over a
_N_GRID, _N_GOLDEN, _GOLDEN = 40, 30, (np.sqrt(5) - 1) / 2


def lr_rule_frame(
    frontier: pd.DataFrame,
    group: Mapping[str, Any],
    target_loss: float,
    optimizer: str = "sgd",
    lr_draws: Floats | None = None,
) -> pd.DataFrame:
    """The four rules fitted to the usable frontier rows of one group and target, a row each.

    frontier: batch_size, lr and, if there, lr_refined (taken where known); lr_draws [n_boot, rows]:
    best lrs in bootstrap resamples, for 95 % percentile intervals (.._low, .._high; NaN without).
    Columns: group.., LR_RULE_COLUMNS; lr_max and batch_scale (examples) are lr_max and B_* of the
    saturating rule, lr_peak and B_peak of the surge; coefficient is c. What a rule does not have is
    NaN. exponent a of the saturating rule is free, for SGD's kin 1 unless AICc asks for another.
    aicc counts the variance as a parameter and is NaN with too few points; preferred: the least
    aicc, else the least rmse; shown: surge only for Adam's kin or if preferred. No rows for fewer
    than two points.
    """
    columns = [*group, *LR_RULE_COLUMNS]
    sizes, lrs = frontier["batch_size"].to_numpy(float), frontier["lr"].to_numpy(float)
    if "lr_refined" in frontier:
        refined = frontier["lr_refined"].to_numpy(float)
        lrs = np.where(np.isnan(refined), lrs, refined)
    if len(sizes) < 2 or np.isnan(lrs).any():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    adaptive = optimizer in _ADAPTIVE
    drawn = None if lr_draws is None else np.log(lr_draws[~np.isnan(lr_draws).any(axis=1)])
    rules = _fit_rules(np.log(sizes), np.log(lrs), adaptive, drawn)
    frame = pd.DataFrame([{**group, "target_loss": target_loss, **rule} for rule in rules])
    judged_by = "rmse_log_lr" if frame["aicc"].isna().any() else "aicc"
    frame["preferred"] = frame.index == frame[judged_by].idxmin()
    frame["shown"] = (frame["rule"] != "surge") | adaptive | frame["preferred"]
    return frame.reindex(columns=columns)


def predict_lr(rule: Mapping[Any, Any], batch_size: ArrayLike) -> Floats:
    """The lr that a row of lr_rule_frame gives at batch sizes, same shape.

    >>> predict_lr({"rule": "surge", "lr_max": 0.1, "batch_scale": 64.0}, [16.0, 64.0, 256.0])
    array([0.08, 0.1 , 0.08])
    """
    sizes = np.asarray(batch_size, float)
    if rule["rule"] == "saturating":
        return rule["lr_max"] / (1 + rule["batch_scale"] / sizes) ** rule["exponent"]
    if rule["rule"] == "surge":
        ratio = np.sqrt(sizes / rule["batch_scale"])
        return 2 * rule["lr_max"] / (ratio + 1 / ratio)
    return rule["coefficient"] * sizes ** rule["exponent"]


def _fit_rules(x: Floats, y: Floats, adaptive: bool, drawn: Floats | None) -> list[dict[str, Any]]:
    """x = log B [B], y = log lr [B], drawn [n, B]."""
    rows = []
    for rule, exponent in EXPONENT_OF.items():
        level = np.subtract(_stack(y, drawn), exponent * x).mean(axis=1)
        row = _row(rule, {"coefficient": np.exp(level)})
        residuals = y - exponent * x - level[0]
        rows.append(row | {"exponent": exponent} | _quality(residuals, 1))
    rows.append(_fit_saturating(x, y, adaptive, drawn))
    level, peak = _search(_surge, x, _stack(y, drawn))
    row = _row("surge", {"lr_max": np.exp(level), "batch_scale": np.exp(peak)})
    rows.append(row | _quality(y - level[0] - _surge(peak[:1], x)[0], 2))
    return rows


def _fit_saturating(x: Floats, y: Floats, adaptive: bool, drawn: Floats | None) -> dict[str, Any]:
    fixed, free = (_saturating(x, y, drawn, choice) for choice in (np.ones(1), _EXPONENTS))
    for row, n_parameters in ((fixed, 2), (free, 3)):
        residuals = y - np.log(predict_lr(row, np.exp(x)))
        row |= _quality(residuals, n_parameters)
    better = not np.isnan(free["aicc"]) and free["aicc"] < fixed["aicc"]
    return free if better or (adaptive and len(x) > 3) else fixed


def _saturating(x: Floats, y: Floats, drawn: Floats | None, exponents: Floats) -> dict[str, Any]:
    """lr_max, B_* and a of the best of the exponents; of several also between them."""
    ys = _stack(y, drawn)
    level, scale, a = _best_exponent(x, ys, exponents)
    if len(exponents) > 1:  # the single curve once more, between the neighbours of its best
        at = int(np.argmin(np.abs(exponents - a[0])))
        near = exponents[max(at - 1, 0) : at + 2]
        finer = np.geomspace(near[0], near[-1], 81)
        level[:1], scale[:1], a[:1] = _best_exponent(x, ys[:1], finer)
    a = a[:1] if len(exponents) == 1 else a  # what is not fitted has no interval
    found = {"lr_max": np.exp(level), "batch_scale": np.exp(scale), "exponent": a}
    return _row("saturating", found)


def _best_exponent(x: Floats, y: Floats, exponents: Floats) -> tuple[Floats, Floats, Floats]:
    best = tuple(np.full(len(y), np.nan) for _ in range(3))
    least = np.full(len(y), np.inf)
    for a in exponents:

        def shape(scale: Floats, x: Floats, a: float = float(a)) -> Floats:
            return -a * np.logaddexp(0.0, np.subtract.outer(scale, x))

        level, scale = _search(shape, x, y)
        misfit = ((y - level[:, None] - shape(scale, x)) ** 2).sum(axis=1)
        better = misfit < least
        least = np.where(better, misfit, least)
        for part, new in zip(best, (level, scale, np.full(len(y), a)), strict=True):
            part[better] = new[better]
    return best  # type: ignore[return-value]


def _surge(peak: Floats, x: Floats) -> Floats:
    half = np.subtract.outer(peak, x) / 2
    return np.log(2) - np.logaddexp(half, -half)


def _search(
    shape: Callable[[Floats, Floats], Floats], x: Floats, y: Floats
) -> tuple[Floats, Floats]:
    """Level and scale, [n] each, of least squares of y [n, B] on level + shape(scale, x)."""

    def misfit(scale: Floats) -> Floats:
        return (y - shape(scale, x)).var(axis=1)

    grid = np.linspace(x.min() - np.log(_BEYOND), x.max() + np.log(_BEYOND), _N_GRID)
    best = np.argmin(np.stack([misfit(np.full(len(y), one)) for one in grid]), axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _N_GRID - 1)]
    for _ in range(_N_GOLDEN):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        smaller = misfit(left) < misfit(right)
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
    scale = (low + high) / 2
    return (y - shape(scale, x)).mean(axis=1), scale


def _stack(y: Floats, drawn: Floats | None) -> Floats:
    """The curve first, its resamples after it."""
    return y[None, :] if drawn is None else np.vstack([y, drawn])


def _row(rule: str, found: Mapping[str, Floats]) -> dict[str, Any]:
    """The first of each is the estimate, the rest its draws."""
    row: dict[str, Any] = {"rule": rule}
    for name, values in found.items():
        low, high = percentile_interval(values[1:])
        row |= {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def _quality(residuals: Floats, n_parameters: int) -> dict[str, float]:
    criterion = aicc(residuals, n_parameters)
    return {
        "rmse_log_lr": float(np.sqrt(np.mean(residuals**2))),
        "aicc": np.nan if criterion is None else criterion,
    }
