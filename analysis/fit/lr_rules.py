"""How the best learning rate moves with the batch size: six rules, fitted and compared.

    constant      lr = c
    linear        lr = c B
    square root   lr = c sqrt(B)
    power         lr = c B^k
    saturating    lr = lr_max / (1 + B_*/B)^a
    surge         lr = 2 lr_peak / (sqrt(B_peak/B) + sqrt(B/B_peak)): rises, then falls

Source: one step on a quadratic with gradient noise, McCandlish et al. 2018, arXiv:1812.06162
(saturating, a = 1 for SGD; for Adam's kin a lies between 1/2 and 1); Li et al. 2024,
arXiv:2405.14578 (surge, for Adam). B_* and B_peak are not the critical batch size. Least squares
on residuals of log lr; the level is a mean, so only B_* (and a) are searched.

The verdict: of the rules within MARGIN of the least AICc the one with the fewest parameters, if it
is alone; a rule cannot fit better than the lrs are known. It needs FEWEST_FOR_VERDICT batch sizes
(with 6 points or fewer the correction of AICc outweighs what the data say).
Axes: n curves (the best lrs, or their bootstrap resamples), B batch sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.fit.fitting import aicc
from analysis.fit.law_fit import law_reason
from analysis.fit.power_law import fit_power
from analysis.fit.solve import golden_section
from analysis.groups import listed
from analysis.measure.bootstrap import percentile_interval
from scaling.rules import lr_ratio

Floats = NDArray[np.float64]

_ESTIMATES = ("coefficient", "lr_max", "batch_scale", "exponent")
LR_RULE_COLUMNS = [
    "target_loss", "rule", "coefficient", "lr_max", "batch_scale", "exponent", "rmse_log_lr",
    "aicc", "preferred", "shown", "reason",
    *(f"{name}_{end}" for name in _ESTIMATES for end in ("low", "high")),
]  # fmt: skip
EXPONENT_OF = {"constant": 0.0, "linear": 1.0, "square_root": 0.5}
RULE_NAMES = {"square_root": "square root", "power": "free power"}  # the others as they are
FEWEST_FOR_VERDICT = 7  # batch sizes
MARGIN = 4.0  # of AICc: considerably less support (Burnham and Anderson 2002, section 2.6)
_FEWEST_FOR_EXPONENT = 9  # batch sizes from which Adam's kin have a free a, whatever AICc says
_FEWEST_POINTS = 2
_ADAPTIVE = ("adam", "adamw", "rmsprop", "rmspropw")
_BEYOND = 1e3  # B_* is searched this far beyond the sampled batch sizes
_EXPONENTS = np.geomspace(0.25, 2.0, 25)  # of the first search over a
_N_GRID, _N_GOLDEN = 40, 30


def lr_rule_frame(
    frontier: pd.DataFrame,
    group: Mapping[str, Any],
    target_loss: float,
    optimizer: str = "sgd",
    lr_draws: Floats | None = None,
) -> pd.DataFrame:
    """The rules fitted to the usable frontier rows of one group and target, a row each.

    frontier: batch_size, lr and, if there, lr_refined (taken where known), lr_low and lr_high (how
    well each lr is known); lr_draws [n_boot, rows]: best lrs in bootstrap resamples, for 95 %
    percentile intervals (.._low, .._high; NaN without). Columns: group.., LR_RULE_COLUMNS; lr_max
    and batch_scale (examples) are lr_max and B_* of the saturating rule, lr_peak and B_peak of the
    surge; coefficient is c, exponent k or a. What a rule does not have is NaN. a is free for Adam's
    kin, for SGD's kin 1 unless AICc asks for another. aicc counts the variance as a parameter and
    is NaN below FEWEST_FOR_VERDICT batch sizes; preferred: the verdict's rule, none where it is not
    decided, and reason says why; shown: surge only for Adam's kin, to which alone it is a
    candidate. The power rule has a row where a law has enough points. No rows for fewer than two
    points.
    """
    columns = [*group, *LR_RULE_COLUMNS]
    sizes, lrs = frontier["batch_size"].to_numpy(float), frontier["lr"].to_numpy(float)
    if "lr_refined" in frontier:
        refined = frontier["lr_refined"].to_numpy(float)
        lrs = np.where(np.isnan(refined), lrs, refined)
    if len(sizes) < _FEWEST_POINTS or np.isnan(lrs).any():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    adaptive = optimizer in _ADAPTIVE
    drawn = None if lr_draws is None else np.log(lr_draws[~np.isnan(lr_draws).any(axis=1)])
    rules = _fit_rules(np.log(sizes), np.log(lrs), adaptive, drawn, _known_to(frontier))
    frame = pd.DataFrame([{**group, "target_loss": target_loss, **rule} for rule in rules])
    frame["shown"] = (frame["rule"] != "surge") | adaptive
    preferred, frame["reason"] = _verdict(frame[frame["shown"]], len(sizes))
    frame["preferred"] = frame["rule"] == preferred
    return frame.reindex(columns=columns)


def rule_words(rules: pd.DataFrame) -> str:
    """The verdict on the rows of one group and target, as a sentence; "" where there are none."""
    if rules.empty:
        return ""
    preferred = rules.loc[rules["preferred"].astype(bool), "rule"]
    if preferred.empty:
        return f"The rule is not decided: {rules['reason'].iloc[0]}."
    rule = preferred.iloc[0]
    return f"By AICc the {RULE_NAMES.get(rule, rule)} rule describes the best learning rates."


def _verdict(rules: pd.DataFrame, n: int) -> tuple[str, str]:
    """The preferred rule, or "" and why it is not decided."""
    if n < FEWEST_FOR_VERDICT:
        return (
            "",
            f"{n} batch sizes have a best learning rate; a verdict needs {FEWEST_FOR_VERDICT}",
        )
    near = rules[rules["aicc"] <= rules["aicc"].min() + MARGIN]
    simplest = near[near["n_parameters"] == near["n_parameters"].min()]
    if len(simplest) == 1:
        return str(simplest["rule"].iloc[0]), ""
    names = [str(RULE_NAMES.get(rule, rule)) for rule in simplest["rule"]]
    return "", f"{listed(names)} describe the best learning rates equally well"


def _known_to(frontier: pd.DataFrame) -> float:
    """Standard deviation of log lr: of a uniform one as wide as the (median) interval."""
    if not {"lr_low", "lr_high"} <= set(frontier):
        return 0.0
    wide = np.log(frontier["lr_high"].to_numpy(float) / frontier["lr_low"].to_numpy(float))
    wide = wide[np.isfinite(wide)]
    return float(np.median(wide) / np.sqrt(12)) if len(wide) else 0.0


def predict_lr(rule: Mapping[Any, Any], batch_size: ArrayLike) -> Floats:
    """The lr that a row of lr_rule_frame gives at batch sizes, same shape.

    >>> predict_lr({"rule": "surge", "lr_max": 0.1, "batch_scale": 64.0}, [16.0, 64.0, 256.0])
    array([0.08, 0.1 , 0.08])
    """
    sizes = np.asarray(batch_size, float)
    if rule["rule"] == "saturating":
        ratio = lr_ratio("saturating", sizes, np.inf, rule["exponent"], rule["batch_scale"])
        return rule["lr_max"] * ratio
    if rule["rule"] == "surge":
        ratio = np.sqrt(sizes / rule["batch_scale"])
        return 2 * rule["lr_max"] / (ratio + 1 / ratio)
    return rule["coefficient"] * lr_ratio("power", sizes, 1.0, rule["exponent"])


def _fit_rules(
    x: Floats, y: Floats, adaptive: bool, drawn: Floats | None, known_to: float
) -> list[dict[str, Any]]:
    """x = log B [B], y = log lr [B], drawn [n, B]; known_to: the least error of log lr."""
    rows = []
    for rule, exponent in EXPONENT_OF.items():
        level = np.subtract(_stack(y, drawn), exponent * x).mean(axis=1)
        row = _row(rule, {"coefficient": np.exp(level)})
        residuals = y - exponent * x - level[0]
        rows.append(row | {"exponent": exponent} | _quality(residuals, 1, known_to))
    if not law_reason(np.exp(x)):
        level, exponents = fit_power(np.exp(x), np.exp(_stack(y, drawn))).T
        row = _row("power", {"coefficient": np.exp(level), "exponent": exponents})
        rows.append(row | _quality(y - level[0] - exponents[0] * x, 2, known_to))
    rows.append(_fit_saturating(x, y, adaptive, drawn, known_to))
    level, peak = _search(_surge, x, _stack(y, drawn))
    row = _row("surge", {"lr_max": np.exp(level), "batch_scale": np.exp(peak)})
    rows.append(row | _quality(y - level[0] - _surge(peak[:1], x)[0], 2, known_to))
    return rows


def _fit_saturating(
    x: Floats, y: Floats, adaptive: bool, drawn: Floats | None, known_to: float
) -> dict[str, Any]:
    fixed, free = (_saturating(x, y, drawn, choice) for choice in (np.ones(1), _EXPONENTS))
    for row, n_parameters in ((fixed, 2), (free, 3)):
        residuals = y - np.log(predict_lr(row, np.exp(x)))
        row |= _quality(residuals, n_parameters, known_to)
    better = not np.isnan(free["aicc"]) and free["aicc"] < fixed["aicc"]
    return free if better or (adaptive and len(x) >= _FEWEST_FOR_EXPONENT) else fixed


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
    parameters = {"lr_max": np.exp(level), "batch_scale": np.exp(scale), "exponent": a}
    return _row("saturating", parameters)


def _best_exponent(x: Floats, y: Floats, exponents: Floats) -> tuple[Floats, Floats, Floats]:
    """Level, scale and exponent, [n] each, of y [n, B]; every exponent at once."""
    a = np.repeat(exponents, len(y))[:, None]

    def shape(scale: Floats, x: Floats) -> Floats:
        return -a * _softplus(np.subtract.outer(scale, x))

    tried = np.tile(y, (len(exponents), 1))
    level, scale = _search(shape, x, tried)
    misfit = ((tried - level[:, None] - shape(scale, x)) ** 2).sum(axis=1)
    best = misfit.reshape(len(exponents), len(y)).argmin(axis=0)
    rows = best * len(y) + np.arange(len(y))
    return level[rows], scale[rows], exponents[best]


def _surge(peak: Floats, x: Floats) -> Floats:
    ahead = np.subtract.outer(peak, x)
    return np.log(2) + ahead / 2 - _softplus(ahead)


def _softplus(z: Floats) -> Floats:
    """log(1 + e^z) of z < 700, to 1e-16 absolute, a third of the time of np.logaddexp."""
    return np.log(1 + np.exp(z))


def _search(
    shape: Callable[[Floats, Floats], Floats], x: Floats, y: Floats
) -> tuple[Floats, Floats]:
    """Level and scale, [n] each, of least squares of y [n, B] on level + shape(scale, x)."""

    def misfit(scale: Floats) -> Floats:
        residuals = y - shape(scale, x)
        # of rows as short as these, products take a third of the time of sums along an axis
        residuals -= (residuals @ each)[:, None]
        return np.einsum("ij,ij->i", residuals, residuals)

    each = np.full(len(x), 1 / len(x))

    grid = np.linspace(x.min() - np.log(_BEYOND), x.max() + np.log(_BEYOND), _N_GRID)
    scale = golden_section(misfit, grid, _N_GOLDEN)
    return (y - shape(scale, x)).mean(axis=1), scale


def _stack(y: Floats, drawn: Floats | None) -> Floats:
    """The curve first, its resamples after it."""
    return y[None, :] if drawn is None else np.vstack([y, drawn])


def _row(rule: str, parameters: Mapping[str, Floats]) -> dict[str, Any]:
    """The first of each is the estimate, the rest its draws."""
    row: dict[str, Any] = {"rule": rule}
    for name, values in parameters.items():
        low, high = percentile_interval(values[1:])
        row |= {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def _quality(residuals: Floats, n_parameters: int, known_to: float) -> dict[str, float]:
    """A residual of less than the lrs' own error is not a better fit."""
    rmse = float(np.sqrt(np.mean(residuals**2)))
    criterion = None
    if len(residuals) >= FEWEST_FOR_VERDICT:
        criterion = aicc(np.full(len(residuals), max(rmse, known_to)), n_parameters)
    return {
        "rmse_log_lr": rmse,
        "aicc": np.nan if criterion is None else criterion,
        "n_parameters": n_parameters,
    }
