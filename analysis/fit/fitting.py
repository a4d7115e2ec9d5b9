"""Fit of the frontier S(B): the hyperbola in log S, and the shapes it is compared with.

Two objectives:
    log_steps    least squares on residuals of log S, reached cells only (what most papers use)
    likelihood   maximum likelihood, Gaussian in log S, with interval- and right-censored cells
The shapes are in analysis.fit.forms, the likelihood in analysis.fit.likelihood. Without censored
cells and with intervals far narrower than the scatter both give the same.
Axes: n curves (the frontier, or its bootstrap resamples), B batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fit.fit_result import FitResult, Interval
from analysis.fit.forms import N_PARAMETERS, OPEN, hyperbola, log_steps_of
from analysis.fit.likelihood import LEAST_SIGMA, Maximum, Observations, maximise

__all__ = [
    "LIKELIHOOD",
    "LOG_STEPS",
    "OBJECTIVES",
    "FitResult",
    "Interval",
    "aicc",
    "compare_forms",
    "fit_frontier",
    "fit_hyperbola",
    "fit_knee",
    "hyperbola",
    "preferred_form",
]  # fmt: skip

Floats = NDArray[np.float64]

LOG_STEPS, LIKELIHOOD = "log_steps", "likelihood"
OBJECTIVES = (LIKELIHOOD, LOG_STEPS)
MARGIN = 4.0  # of AICc, before another form is preferred to the hyperbola
_N_GRID, _N_GOLDEN = 120, 40  # points of the first search over u, halvings by the golden section
_GOLDEN = (np.sqrt(5) - 1) / 2
_KNEE_STARTS = (-0.7, 0.0, 0.7)  # of log g


def fit_hyperbola(batch_size: ArrayLike, steps: ArrayLike) -> Floats:
    """Least squares on log residuals. batch_size [B], steps [n, B] or [B]; NaN steps are left out.

    With u = log B_crit the hyperbola's log S_min is the mean of log S - log(1 + e^u/B), so that the
    fit is a search over the one number u. Returns log S_min and log E_min, [n, 2] or [2], NaN for a
    curve with fewer than two points. B_crit is searched up to OPEN times beyond the batch sizes; a
    curve without a bend ends there (no error): see critical_batch_size.find_critical_batch_size.

    >>> np.exp(fit_hyperbola([4, 16, 64, 256], [880, 250, 92.5, 53.125])).round(3)
    array([  40., 3360.])
    """
    sizes, values = np.asarray(batch_size, float), np.atleast_2d(np.asarray(steps, float))
    grid = np.linspace(np.log(sizes.min() / OPEN), np.log(sizes.max() * OPEN), _N_GRID)
    log_steps, known = np.log(values), ~np.isnan(values)
    misfit = np.stack([_profile(u, sizes, log_steps, known)[0] for u in grid])
    best = np.argmin(misfit, axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _N_GRID - 1)]
    for _ in range(_N_GOLDEN):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        smaller = (
            _profile(left, sizes, log_steps, known)[0] < _profile(right, sizes, log_steps, known)[0]
        )
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
    u = (low + high) / 2
    _, log_min_steps = _profile(u, sizes, log_steps, known)
    found = np.stack([log_min_steps, log_min_steps + u], axis=1)
    found[known.sum(axis=1) < 2] = np.nan
    return found if np.ndim(steps) == 2 else found[0]


def fit_frontier(seen: Observations, objective: str) -> tuple[Floats, NDArray[np.bool_]]:
    """log S_min and log E_min [n, 2] of each curve by one of OBJECTIVES, and whether it converged.

    NaN for a curve with fewer than two reached cells. Censored cells count by likelihood only.
    """
    found = fit_hyperbola(np.exp(seen.log_size), np.exp(seen.log_steps))
    converged = np.ones(len(found), bool)
    if objective == LIKELIHOOD:
        known = np.flatnonzero(~np.isnan(found[:, 0]))
        best = maximise("hyperbola", found[known], seen.rows(known))
        found[known], converged[known] = best.parameters, best.converged
    return found, converged


def fit_knee(seen: Observations, start: Floats, objective: str) -> Maximum:
    """The knee of each curve, parameters [n, 3], from several sharpnesses; start [n, 2] or [n, 3].

    Rows of `start` must not be NaN.
    """
    used = seen if objective == LIKELIHOOD else seen.exactly()
    if start.shape[1] == 3:
        return maximise("knee", start, used)
    tries = [
        maximise("knee", np.column_stack([start, np.full(len(start), log_g)]), used)
        for log_g in _KNEE_STARTS
    ]
    best = np.argmax([one.log_likelihood for one in tries], axis=0)
    rows = np.arange(len(start))
    return Maximum(*(np.stack(part)[best, rows] for part in zip(*tries, strict=True)))


def compare_forms(seen: Observations, objective: str = LOG_STEPS) -> list[dict[str, Any]]:
    """Hyperbola, free knee and power law on the same cells (one curve), with their AICc.

    A dict each: form, critical_batch_size (None for the power law), knee (g; 1 for the hyperbola),
    min_steps, min_examples (None for the power law), rmse_log_steps (reached cells), aicc (None
    where there are too few cells; comparable between the forms, not between objectives).
    """
    used = seen if objective == LIKELIHOOD else seen.exactly()
    curve, start = used.reached[0], fit_frontier(used, LOG_STEPS)[0]
    slope, level = np.polyfit(used.log_size[curve], used.log_steps[0, curve], 1)
    fits = {
        "hyperbola": maximise("hyperbola", start, used),
        "knee": fit_knee(used, start, LIKELIHOOD),
        "power": maximise("power", np.array([[level, -slope]]), used),
    }
    return [_form(name, best, used) for name, best in fits.items()]


def aicc(residuals: NDArray, n_parameters: int) -> float | None:
    """n log(rmse^2) + 2k + 2k(k+1)/(n-k-1) of residuals [n]; k counts the variance as well.

    None where n <= k + 1. Source: Hurvich and Tsai 1989, Biometrika 76.
    """
    n = len(residuals)
    rmse = max(float(np.sqrt(np.mean(residuals**2))), LEAST_SIGMA)
    return _aicc(2 * n * float(np.log(rmse)), n, n_parameters + 1)


def preferred_form(forms: Sequence[dict[str, Any]], margin: float = MARGIN) -> str:
    """The form of least AICc if it beats the hyperbola by more than margin; else the hyperbola."""
    known = {form["form"]: form["aicc"] for form in forms if form["aicc"] is not None}
    if "hyperbola" not in known:
        return "hyperbola"
    best = min(known, key=lambda name: known[name])
    return best if known["hyperbola"] - known[best] > margin else "hyperbola"


def _profile(
    u: float | Floats, sizes: Floats, log_steps: Floats, known: NDArray
) -> tuple[Floats, Floats]:
    """Mean squared residual and log S_min, both [n], at u = log B_crit (one, or one per curve)."""
    bend = np.log1p(np.exp(np.subtract.outer(u, np.log(sizes))))  # [B] or [n, B]
    level = np.where(known, log_steps - bend, 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    mean = level.sum(axis=1) / count
    residual = np.where(known, level - mean[:, None], 0.0)
    return (residual**2).sum(axis=1) / count, mean


def _aicc(minus_two_log_likelihood: float, n: int, k: int) -> float | None:
    if n <= k + 1:
        return None
    return minus_two_log_likelihood + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _form(name: str, best: Maximum, seen: Observations) -> dict[str, Any]:
    parameters = best.parameters[0]
    bends = name != "power"
    mean, _ = log_steps_of(name, best.parameters, seen.log_size)
    residuals = (seen.log_steps - mean)[seen.reached]
    n = int((seen.reached | seen.right_censored | seen.left_censored).sum())
    return {
        "form": name,
        "critical_batch_size": float(np.exp(parameters[1] - parameters[0])) if bends else None,
        "knee": {"knee": float(np.exp(parameters[-1])), "hyperbola": 1.0}.get(name),
        "min_steps": float(np.exp(parameters[0])) if bends else None,
        "min_examples": float(np.exp(parameters[1])) if bends else None,
        "rmse_log_steps": float(np.sqrt(np.mean(residuals**2))),
        "aicc": _aicc(-2 * float(best.log_likelihood[0]), n, N_PARAMETERS[name] + 1),
    }
