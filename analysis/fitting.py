"""Fit of the frontier S(B): the hyperbola in log S, and the shapes it is compared with.

    hyperbola        S = S_min + E_min/B                     B_crit = E_min/S_min
    knee             S = (S_min^g + (E_min/B)^g)^(1/g)       the same asymptotes, knee g free
    power            S = a B^-b                              no B_crit

Source: McCandlish et al. 2018, arXiv:1812.06162 (the hyperbola). The knee generalises it.
All fits are least squares on residuals of log S. With u = log B_crit the hyperbola's log S_min is
the mean of log S - log(1 + e^u/B), so that the fit is a search over the one number u.
Axes: n curves (the frontier, or its bootstrap resamples), B batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]

# B_crit is searched this far beyond the sampled batch sizes; there the curve is straight.
OPEN = 1e3
_N_GRID, _N_GOLDEN = 120, 40  # points of the first search over u, halvings by the golden section
_GOLDEN = (np.sqrt(5) - 1) / 2
_LEAST_RMSE = 1e-6  # residuals below this are arithmetic, not evidence for a shape
_KNEES = (0.25, 4.0)  # range of g


@dataclass
class FitResult:
    """S(B) = S_min + E_min/B for one group and target; None, never NaN, for what is not known.

    The fields up to `exact` are the `fit` of summary.json, in its units: steps, examples, batch
    sizes. `log_parameters` (log S_min, log E_min) and `draws` [n_boot, 2] (the same two, from the
    bootstrap) carry the curve and its band and are not part of the summary.
    """

    group: dict[str, Any]
    target_loss: float
    form: str = "hyperbola"
    min_steps: float | None = None
    min_examples: float | None = None
    critical_batch_size: float | None = None
    critical_batch_size_overhead: dict[str, float | None] = field(default_factory=dict)
    critical_batch_size_half_elasticity: float | None = None
    ci95: dict[str, Interval] = field(default_factory=dict)
    approximate_ci: bool = False
    identified: bool = False
    at_least: float | None = None
    at_most: float | None = None
    preferred_form: str | None = None
    rmse_log_steps: float | None = None
    n_batch_sizes: int = 0
    n_censored: int = 0
    exact: dict[str, float | None] | None = None
    batch_sizes: tuple[int, ...] = ()
    reason: str = ""  # why not identified, or why there is no fit; "" if all is well
    forms: list[dict[str, Any]] = field(default_factory=list)  # see compare_forms
    log_parameters: tuple[float, float] | None = None
    draws: Floats = field(default_factory=lambda: np.empty((0, 2)))

    def predict(self, batch_size: ArrayLike) -> Floats:
        """Steps S(B) of the fitted hyperbola, same shape as batch_size; NaN without a fit."""
        sizes = np.asarray(batch_size, float)
        if self.log_parameters is None:
            return np.full(sizes.shape, np.nan)
        return hyperbola(sizes, *self.log_parameters)

    def predict_interval(self, batch_size: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile band of S(B) over the bootstrap draws; NaN where there are no draws."""
        sizes = np.asarray(batch_size, float)
        if not len(self.draws):
            return np.full(sizes.shape, np.nan), np.full(sizes.shape, np.nan)
        parameters = self.draws.T.reshape(2, -1, *(1,) * sizes.ndim)
        tail = 50 * (1 - level)
        low, high = np.percentile(hyperbola(sizes, *parameters), [tail, 100 - tail], axis=0)
        return low, high

    def summary(self) -> dict[str, Any]:
        """The `fit` entry of summary.json: plain Python values, None for what is not known."""
        names = [f.name for f in fields(self)]
        entry = {name: getattr(self, name) for name in names[: names.index("exact") + 1]}
        return entry | {"ci95": {name: list(pair) for name, pair in self.ci95.items()}}


def hyperbola(
    batch_size: ArrayLike, log_min_steps: ArrayLike, log_min_examples: ArrayLike
) -> Floats:
    """S(B) = S_min + E_min/B in steps, broadcast over its arguments."""
    return np.exp(log_min_steps) + np.exp(log_min_examples) / np.asarray(batch_size, float)


def fit_hyperbola(batch_size: ArrayLike, steps: ArrayLike) -> Floats:
    """Least squares on log residuals. batch_size [B], steps [n, B] or [B]; NaN steps are left out.

    Returns log S_min and log E_min, [n, 2] or [2], NaN for a curve with fewer than two points.
    B_crit = exp(log E_min - log S_min) is searched up to OPEN times beyond the batch sizes; a curve
    without a bend ends there (no error): see critical_batch_size.find_critical_batch_size.
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


def residual_draws(
    batch_size: ArrayLike, steps: ArrayLike, n_draws: int, rng: np.random.Generator
) -> Floats:
    """Draws [n_draws, 2] of (log S_min, log E_min) from the fit's residuals, for too few seeds.

    Multivariate t with B - 2 degrees of freedom around the fit, covariance s^2 (J'J)^-1 of the
    linearised model: its percentiles are the usual small-sample intervals, which are approximate
    (misfit of the shape counts as noise). batch_size, steps: [B], B >= 3; else no draws.
    """
    sizes, log_steps = np.asarray(batch_size, float), np.log(np.asarray(steps, float))
    n_free = len(sizes) - 2
    if n_free < 1:
        return np.empty((0, 2))
    fit = fit_hyperbola(sizes, np.exp(log_steps))
    predicted = hyperbola(sizes, *fit)
    share = np.exp(fit[0]) / predicted  # d log S / d log S_min; the other derivative is 1 - share
    jacobian = np.stack([share, 1 - share], axis=1)
    variance = np.sum((log_steps - np.log(predicted)) ** 2) / n_free
    values, vectors = np.linalg.eigh(jacobian.T @ jacobian)
    # where the curve does not bend, one direction is free: wide, but finite
    scale = np.sqrt(variance / np.maximum(values, 1e-6 * values.max()))
    normal = rng.standard_normal((n_draws, 2)) * scale
    wide = np.sqrt(n_free / rng.chisquare(n_free, size=n_draws))
    return fit + (normal * wide[:, None]) @ vectors.T


def compare_forms(batch_size: ArrayLike, steps: ArrayLike) -> list[dict[str, Any]]:
    """Hyperbola, free knee and power law on the same points [B], with their AICc.

    A dict each: form, critical_batch_size (None for the power law), knee (g; 1 for the hyperbola),
    rmse_log_steps, aicc (see there).
    """
    sizes, log_steps = np.asarray(batch_size, float), np.log(np.asarray(steps, float))
    fit = fit_hyperbola(sizes, np.exp(log_steps))

    def residuals(p: NDArray) -> NDArray:
        return _log_knee(np.log(sizes), *p) - log_steps

    low, high = np.log(_KNEES)
    bounds = ([-np.inf, -np.inf, low], [np.inf, np.inf, high])
    knee = least_squares(residuals, [*fit, 0.0], bounds=bounds).x
    slope = np.polyfit(np.log(sizes), log_steps, 1)
    power = np.polyval(slope, np.log(sizes)) - log_steps
    return [
        _form("hyperbola", residuals(np.array([*fit, 0.0])), 2, np.exp(fit[1] - fit[0]), 1.0),
        _form("knee", residuals(knee), 3, np.exp(knee[1] - knee[0]), np.exp(knee[2])),
        _form("power", power, 2, None, None),
    ]


def aicc(residuals: NDArray, n_parameters: int) -> float | None:
    """n log(rmse^2) + 2k + 2k(k+1)/(n-k-1) of residuals [n]; k counts the variance as well.

    None where n <= k + 1. Source: Hurvich and Tsai 1989, Biometrika 76.
    """
    n, k = len(residuals), n_parameters + 1
    if n <= k + 1:
        return None
    rmse = max(float(np.sqrt(np.mean(residuals**2))), _LEAST_RMSE)
    return 2 * n * float(np.log(rmse)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def preferred_form(forms: Sequence[dict[str, Any]], margin: float = 4.0) -> str:
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


def _log_knee(
    log_size: Floats, log_min_steps: float, log_min_examples: float, log_g: float
) -> Floats:
    g = np.exp(log_g)
    return np.logaddexp(g * log_min_steps, g * (log_min_examples - log_size)) / g


def _form(
    name: str, residuals: NDArray, n_parameters: int, critical: float | None, knee: float | None
) -> dict[str, Any]:
    return {
        "form": name,
        "critical_batch_size": None if critical is None else float(critical),
        "knee": None if knee is None else float(knee),
        "rmse_log_steps": float(np.sqrt(np.mean(residuals**2))),
        "aicc": aicc(residuals, n_parameters),
    }
