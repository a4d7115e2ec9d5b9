"""One law as a row: exponent, coefficient and offset, their intervals, and how far one point moves
the exponent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.fit.power_law import (
    FEWEST_TWO_POWERS,
    FEWEST_WITH_OFFSET,
    fit_floor,
    fit_power,
    fit_shifted,
    fit_two_powers,
)
from analysis.measure.bootstrap import percentile_interval

Floats = NDArray[np.float64]

LAW_COLUMNS = [
    "y", "definition", "x", "form", "target_loss", "batch_size", "examples", "exponent",
    "exponent_low", "exponent_high", "exponent_without_one_low", "exponent_without_one_high",
    "coefficient", "coefficient_low", "coefficient_high", "offset", "offset_low", "offset_high",
    "offset_is", "rmse_log", "n", "n_left_out", "approximate_ci", "reason",
]  # fmt: skip
FEWEST_POINTS, LEAST_SPAN = 3, 1.5  # of a law: different x, and the largest over the smallest
FEWEST_FOR_CLAIM = 4  # points from which an exponent is put into words
_FEWEST_DRAWS = 40  # a 95 % interval of fewer is its extremes
_FITS = {"power": fit_power, "shifted": fit_shifted, "floor": fit_floor}


class Points(NamedTuple):
    """x [n], y [n], and bootstrap draws of each y (any number, none: no interval)."""

    x: Floats
    y: Floats
    draws: Sequence[Floats] = ()


def law_row(form: str, points: Points) -> dict[str, Any]:
    """The fit of one form ("power", "shifted", "floor") with 95 % intervals; see law_frame."""
    x, y = points.x, points.y
    fewest = FEWEST_POINTS if form == "power" else FEWEST_WITH_OFFSET
    row: dict[str, Any] = {"form": form, "n": len(x)}
    if reason := law_reason(x, fewest) or _reason_of_sign(x, y):
        return row | {"reason": reason}
    fit = _FITS[form]
    parameters = fit(x, y)
    row |= {
        "coefficient": float(np.exp(parameters[0])),
        "exponent": float(parameters[1]),
        "reason": "",
    }
    row["rmse_log"] = float(np.sqrt(np.mean(np.log(y / predict(form, parameters, x)) ** 2)))
    if form != "power":
        row["offset"] = float(parameters[2])
    left = [
        float(fit(np.delete(x, i), np.delete(y, i))[1])
        for i in range(len(x))
        if len(set(np.delete(x, i))) >= max(FEWEST_POINTS, fewest - 1)
    ]
    if left:
        row |= {"exponent_without_one_low": min(left), "exponent_without_one_high": max(left)}
    drawn = stack_draws(points.draws, len(x))
    if drawn is not None:
        # the first row is the point itself: starts come from it
        draws = fit(x, np.vstack([y, drawn]))[1:]
        row |= _interval("coefficient", draws[:, 0], np.exp) | _interval("exponent", draws[:, 1])
        row |= _interval("offset", draws[:, 2]) if form != "power" else {}
    return row


def law_reason(x: Floats, fewest: int = FEWEST_POINTS) -> str:
    """Why x [n] carry no law; "" where they do.

    >>> law_reason(np.array([8.0, 16.0]))
    'only 2 values are known; a law needs 3'
    """
    distinct = np.unique(x)
    n = len(distinct)
    if n < fewest:
        known = (
            "no value is" if n == 0 else "only one value is" if n == 1 else f"only {n} values are"
        )
        return f"{known} known; a law needs {fewest}"
    span = distinct[-1] / distinct[0] if distinct[0] > 0 else np.inf
    if span < LEAST_SPAN:
        return f"the values span only a factor of {span:.2f}; a law needs {LEAST_SPAN:g}"
    return ""


def _reason_of_sign(x: Floats, y: Floats) -> str:
    if (x > 0).all() and (y > 0).all():
        return ""
    return "a power law needs values above 0 (where losses are not, an irreducible_loss)"


def predict(form: str, parameters: Floats, x: Floats) -> Floats:
    """y of a form at x, from (log coefficient, exponent[, offset])."""
    coefficient, exponent = np.exp(parameters[0]), parameters[1]
    if form == "shifted":
        return coefficient * (x - parameters[2]) ** exponent
    floor = parameters[2] if form == "floor" else 0.0
    return floor + coefficient * x**exponent


def two_power_rows(
    sizes: Floats, steps: Floats, excess: Floats, draws: Sequence[Floats]
) -> list[dict[str, Any]]:
    """L - L_inf = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S as two rows, of x = model_size and
    min_steps; none where the data do not carry four parameters."""
    if not _carries_two_powers(sizes, excess):
        return []
    parameters = fit_two_powers(sizes, steps, excess)
    log_fit = np.logaddexp(
        parameters[1] * (parameters[0] - np.log(sizes)),
        parameters[3] * (parameters[2] - np.log(steps)),
    )
    shared = {
        "form": "two_powers", "n": len(sizes), "reason": "",
        "rmse_log": float(np.sqrt(np.mean((np.log(excess) - log_fit) ** 2))),
    }  # fmt: skip
    drawn = stack_draws(draws, len(sizes))
    drawn_fits = None
    if drawn is not None:
        drawn_fits = fit_two_powers(sizes, np.vstack([steps, drawn]), excess)[1:]
    rows = []
    for i, x in ((0, "model_size"), (2, "min_steps")):
        row = shared | {
            "x": x,
            "coefficient": float(np.exp(parameters[i])),
            "exponent": -parameters[i + 1],
        }
        if drawn_fits is not None:
            row |= _interval("coefficient", drawn_fits[:, i], np.exp)
            row |= _interval("exponent", -drawn_fits[:, i + 1])
        row |= _without_one_size(sizes, steps, excess, i + 1)
        rows.append(row)
    return rows


def _carries_two_powers(sizes: Floats, excess: Floats) -> bool:
    known = len(sizes) >= FEWEST_TWO_POWERS and bool((excess > 0).all())
    return known and not law_reason(sizes) and not law_reason(excess)


def stack_draws(draws: Sequence[Floats], n: int) -> Floats | None:
    """Draws [m, n] of n quantities; None if one of them has too few.

    Equally many draws are taken row by row: those of one group come from the same resamples. Else
    (a resample could not be fitted everywhere) each is resampled on its own.
    """
    finite = [drawn[np.isfinite(drawn)] for drawn in draws]
    if len(finite) != n or any(len(drawn) < _FEWEST_DRAWS for drawn in finite):
        return None
    if len({len(drawn) for drawn in draws}) == 1:
        together = np.stack(list(draws), axis=1)
        whole = np.asarray(np.isfinite(together).all(axis=1))
        if whole.mean() >= 0.9:
            return together[whole]
    rng = np.random.default_rng(0)
    count = max(len(drawn) for drawn in finite)
    return np.stack([rng.choice(drawn, count) for drawn in finite], axis=1)


def _without_one_size(sizes: Floats, steps: Floats, excess: Floats, which: int) -> dict[str, float]:
    left = []
    for size in np.unique(sizes):
        keep = np.flatnonzero(sizes != size)
        if _carries_two_powers(sizes[keep], excess[keep]):
            left.append(-float(fit_two_powers(sizes[keep], steps[keep], excess[keep])[which]))
    return (
        {"exponent_without_one_low": min(left), "exponent_without_one_high": max(left)}
        if left
        else {}
    )


def _interval(
    name: str, draws: Floats, of_end: Callable[[Floats], Floats] = np.asarray
) -> dict[str, float]:
    with np.errstate(over="ignore"):
        ends = [float(of_end(end)) for end in percentile_interval(draws[np.isfinite(draws)])]
    low, high = (end if np.isfinite(end) else np.nan for end in ends)
    return {f"{name}_low": low, f"{name}_high": high}
