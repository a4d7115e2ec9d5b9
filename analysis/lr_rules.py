"""How the best learning rate moves with the batch size: three rules, fitted and compared.

    linear        lr = c B
    square root   lr = c sqrt(B)
    saturating    lr = lr_max / (1 + B_*/B)^a,  a = 1 for SGD; 1/2 <= a <= 1 fitted for Adam's kin

Source: one step on a quadratic with gradient noise, McCandlish et al. 2018, arXiv:1812.06162
(a = 1); Li et al. 2024, arXiv:2405.14578 (Adam). B_* is not the critical batch size. Least squares
on residuals of log lr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from analysis.fitting import aicc

Floats = NDArray[np.float64]

LR_RULE_COLUMNS = [
    "target_loss", "rule", "coefficient", "lr_max", "batch_scale", "exponent", "rmse_log_lr",
    "aicc", "preferred",
]  # fmt: skip
EXPONENT_OF = {"linear": 1.0, "square_root": 0.5}
_ADAPTIVE = ("adam", "adamw", "rmsprop")
_BEYOND = 1e3  # B_* is searched this far beyond the sampled batch sizes
_N_STARTS = 9


def lr_rule_frame(
    frontier: pd.DataFrame, group: Mapping[str, Any], target_loss: float, optimizer: str = "sgd"
) -> pd.DataFrame:
    """The three rules fitted to the usable frontier rows of one group and target, a row each.

    Columns: group.., LR_RULE_COLUMNS; coefficient is NaN for the saturating rule, lr_max and
    batch_scale (B_*, in examples) are NaN for the others. aicc counts the variance as a parameter
    and is NaN with too few points; preferred: the least aicc, else the least rmse. No rows for
    fewer than two points.
    """
    sizes, lrs = frontier["batch_size"].to_numpy(float), frontier["lr"].to_numpy(float)
    columns = [*group, *LR_RULE_COLUMNS]
    if len(sizes) < 2:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    exponents = (0.5, 1.0) if optimizer in _ADAPTIVE else (1.0, 1.0)
    rules = [*(_fit_power(sizes, lrs, rule) for rule in EXPONENT_OF)]
    rules.append(_fit_saturating(sizes, lrs, exponents))
    frame = pd.DataFrame([{**group, "target_loss": target_loss, **rule} for rule in rules])
    judged_by = "rmse_log_lr" if frame["aicc"].isna().any() else "aicc"
    frame["preferred"] = frame.index == frame[judged_by].idxmin()
    return frame[columns]


def predict_lr(rule: Mapping[Any, Any], batch_size: ArrayLike) -> Floats:
    """The lr that a row of lr_rule_frame gives at batch sizes, same shape."""
    sizes = np.asarray(batch_size, float)
    if rule["rule"] == "saturating":
        return rule["lr_max"] / (1 + rule["batch_scale"] / sizes) ** rule["exponent"]
    return rule["coefficient"] * sizes ** rule["exponent"]


def _fit_power(sizes: Floats, lrs: Floats, rule: str) -> dict[str, Any]:
    exponent = EXPONENT_OF[rule]
    level = np.log(lrs) - exponent * np.log(sizes)
    row = {"rule": rule, "coefficient": float(np.exp(level.mean())), "exponent": exponent}
    empty = {"lr_max": np.nan, "batch_scale": np.nan}
    return row | empty | _quality(level - level.mean(), 1)


def _fit_saturating(sizes: Floats, lrs: Floats, exponents: tuple[float, float]) -> dict[str, Any]:
    fixed = exponents[0] == exponents[1]
    low, high = np.log(sizes.min() / _BEYOND), np.log(sizes.max() * _BEYOND)

    def residuals(p: Sequence[float] | Floats) -> Floats:
        # log lr_max is the mean of the rest: only B_* (and a) are searched
        exponent = exponents[0] if fixed else p[1]
        level = np.log(lrs) + exponent * np.logaddexp(0.0, p[0] - np.log(sizes))
        return level - level.mean()

    bounds = ([low], [high]) if fixed else ([low, exponents[0]], [high, exponents[1]])
    starts = np.linspace(low, high, _N_STARTS + 2)[1:-1]
    fits = [
        least_squares(residuals, [start] if fixed else [start, 0.75], bounds=bounds)
        for start in starts
    ]
    best = min(fits, key=lambda fit: fit.cost).x
    exponent = float(exponents[0] if fixed else best[1])
    level = np.log(lrs) + exponent * np.logaddexp(0.0, best[0] - np.log(sizes))
    row = {"rule": "saturating", "coefficient": np.nan, "lr_max": float(np.exp(level.mean()))}
    row |= {"batch_scale": float(np.exp(best[0])), "exponent": exponent}
    return row | _quality(level - level.mean(), 2 if fixed else 3)


def _quality(residuals: Floats, n_parameters: int) -> dict[str, float]:
    criterion = aicc(residuals, n_parameters)
    return {
        "rmse_log_lr": float(np.sqrt(np.mean(residuals**2))),
        "aicc": np.nan if criterion is None else criterion,
    }
