"""Fit of the frontier S(B): the hyperbola in log S, and the forms that it is compared with.

Two objectives:
    log_steps    least squares on residuals of log S, reached cells only (what most papers use)
    likelihood   maximum likelihood, Gaussian in log S, with interval- and right-censored cells
The forms are in analysis.fit.forms, the likelihood in analysis.fit.likelihood. Without censored
cells and with intervals far narrower than the scatter both give the same.
Axes: n curves (the frontier, or its bootstrap resamples), B batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fit.fit_result import FitResult as FitResult
from analysis.fit.forms import FORMS, HYPERBOLA, OPEN, Form
from analysis.fit.forms import hyperbola as hyperbola
from analysis.fit.likelihood import Maximum, maximise
from analysis.fit.observations import LEAST_SIGMA, Observations
from analysis.fit.solve import golden_section

Floats = NDArray[np.float64]

LOG_STEPS, LIKELIHOOD = "log_steps", "likelihood"
OBJECTIVES = (LIKELIHOOD, LOG_STEPS)
MARGIN = 4.0  # of AICc, before another form is preferred to the hyperbola
_N_GRID, _N_GOLDEN = 120, 40  # points of the first search over u, steps of the golden section


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
    u = golden_section(lambda at: _profile(at, sizes, log_steps, known)[0], grid, _N_GOLDEN)
    _, log_min_steps = _profile(u, sizes, log_steps, known)
    parameters = np.stack([log_min_steps, log_min_steps + u], axis=1)
    parameters[known.sum(axis=1) < 2] = np.nan
    return parameters if np.ndim(steps) == 2 else parameters[0]


def fit_frontier(seen: Observations, objective: str) -> tuple[Floats, NDArray[np.bool_]]:
    """log S_min and log E_min [n, 2] of each curve by one of OBJECTIVES, and whether it converged.

    NaN for a curve with fewer than two reached cells. Censored cells count by likelihood only.
    """
    parameters = fit_hyperbola(np.exp(seen.log_size), np.exp(seen.log_steps))
    converged = np.ones(len(parameters), bool)
    if objective == LIKELIHOOD:
        known = np.flatnonzero(~np.isnan(parameters[:, 0]))
        best = maximise(HYPERBOLA, parameters[known], seen.rows(known))
        parameters[known], converged[known] = best.parameters, best.converged
    return parameters, converged


def compare_forms(seen: Observations, objective: str = LOG_STEPS) -> list[dict[str, Any]]:
    """All FORMS on the same cells (one curve), with their AICc.

    A dict each: form, critical_batch_size (None for the power law), knee (g; 1 for the hyperbola),
    min_steps, min_examples (None for the power law), rmse_log_steps (reached cells), aicc (None
    where there are too few cells; comparable between the forms, not between objectives).
    """
    cells = counted_cells(seen, objective)
    fit = fit_frontier(cells, LOG_STEPS)[0]
    return [
        _summary(form, _best(form, form.starts(fit, cells.log_size, cells.log_steps), cells), cells)
        for form in FORMS
    ]


def counted_cells(seen: Observations, objective: str) -> Observations:
    """What the objective sees of the cells."""
    return seen if objective == LIKELIHOOD else seen.exactly()


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


def _best(form: Form, starts: Sequence[Floats], seen: Observations) -> Maximum:
    """The likeliest of the maxima from several starts, for each curve."""
    maxima = [maximise(form, start, seen) for start in starts]
    best = np.argmax([maximum.log_likelihood for maximum in maxima], axis=0)
    rows = np.arange(len(best))
    return Maximum(*(np.stack(part)[best, rows] for part in zip(*maxima, strict=True)))


def _profile(
    u: Floats, sizes: Floats, log_steps: Floats, known: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Mean squared residual and log S_min, both [n], at u = log B_crit, [n] or [1]."""
    bend = np.log1p(np.exp(np.subtract.outer(u, np.log(sizes))))
    level = np.where(known, log_steps - bend, 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    mean = level.sum(axis=1) / count
    residual = np.where(known, level - mean[:, None], 0.0)
    return (residual**2).sum(axis=1) / count, mean


def _aicc(minus_two_log_likelihood: float, n: int, k: int) -> float | None:
    if n <= k + 1:
        return None
    return minus_two_log_likelihood + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _summary(form: Form, best: Maximum, seen: Observations) -> dict[str, Any]:
    parameters = best.parameters[0]
    min_steps = min_examples = critical = sharpness = None
    if form.sharpness is not None:
        min_steps, min_examples = (float(np.exp(value)) for value in parameters[:2])
        critical = float(np.exp(parameters[1] - parameters[0]))
        sharpness = form.sharpness(parameters)
    mean, _ = form.log_steps(best.parameters, seen.log_size)
    residuals = (seen.log_steps - mean)[seen.reached]
    n = int((seen.reached | seen.right_censored | seen.left_censored).sum())
    return {
        "form": form.name,
        "critical_batch_size": critical,
        "knee": sharpness,
        "min_steps": min_steps,
        "min_examples": min_examples,
        "rmse_log_steps": float(np.sqrt(np.mean(residuals**2))),
        "aicc": _aicc(-2 * float(best.log_likelihood[0]), n, form.n_parameters + 1),
    }
