"""Draws of a fit without seeds, from its residuals; and the degrees of freedom of a fit with seeds.

The degrees of freedom are Welch and Satterthwaite's, for the fitted parameter that has the fewest
(Satterthwaite 1946, Biometrics Bulletin 2): nu = (sum a^2 v)^2 / sum(a^4 v^2/(n-1)), with a =
d parameter/d log S of a batch size and v its variance, sigma^2/n with one sigma. Axes: B batch
sizes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from analysis.fit.forms import HYPERBOLA, hyperbola

Floats = NDArray[np.float64]

_N_GRID, _N_ZOOMS, _NEGLIGIBLE = 1500, 2, 25.0  # a log weight that much below is left out
_FAR = 30.0  # B_crit is drawn this far beyond the sampled batch sizes: there nothing tells it apart
_PROPOSALS = 10  # draws of the reached cells for each one kept in the light of the censored ones


def degrees_of_freedom(parameters: Floats, log_size: Floats, n_seeds: Floats) -> float:
    """Of the scatter between seeds that S_min, E_min and B_crit see: the fewest of the three.

    parameters [2] of the hyperbola; log_size, n_seeds [B], all n_seeds >= 2.
    """
    _, jacobian = HYPERBOLA.log_steps(parameters[None, :], log_size)
    sensitivity = np.linalg.pinv(jacobian[0])  # [2, B], d parameter / d log S
    sensitivity = np.vstack([sensitivity, sensitivity[1] - sensitivity[0]])
    part = sensitivity**2 / n_seeds
    nu = part.sum(axis=1) ** 2 / (part**2 / (n_seeds - 1)).sum(axis=1)
    return float(nu.min())


def residual_draws(
    batch_size: ArrayLike,
    steps: ArrayLike,
    n_draws: int,
    rng: np.random.Generator,
    steps_lower: ArrayLike | None = None,
    steps_upper: ArrayLike | None = None,
    least_sigma: float = 1e-6,
) -> Floats:
    """Draws [n_draws, 2] of (log S_min, log E_min) from the residuals of the hyperbola.

    With u = log B_crit and RSS(u) the least sum of squared log residuals at u, u is drawn from
    RSS(u)^(-(n-1)/2): the likelihood of u with level and sigma integrated out, whose intervals are
    locally those of F(1, n-2) and follow the likelihood where it is skewed. Then sigma and
    log S_min given u. batch_size, steps [B], NaN steps where not reached; steps_lower [B]: there,
    a lower bound (right-censored cells weigh the draws by 1 - Phi); steps_upper [B]: an upper one
    (weighed by Phi); least_sigma: of log S, what residuals cannot show. Fewer than three reached:
    no draws. Approximate: misfit of the shape counts as noise. Source: Bates and Watts 1988,
    Nonlinear Regression Analysis, chapter 6.1 (profiles), 2.5 (the integrated likelihood).
    """
    sizes, values = np.asarray(batch_size, float), np.asarray(steps, float)
    reached = ~np.isnan(values)
    n = int(reached.sum())
    if n < 3:
        return np.empty((0, 2))
    x, y = np.log(sizes[reached]), np.log(values[reached])
    u = np.linspace(x.min() - np.log(_FAR), x.max() + np.log(_FAR), _N_GRID)
    for _ in range(_N_ZOOMS):  # as fine as the weight is narrow
        log_weight = -(n - 1) / 2 * np.log(_profile(u, x, y, least_sigma)[1])
        seen = np.flatnonzero(log_weight > log_weight.max() - _NEGLIGIBLE)
        u = np.linspace(u[max(seen[0] - 1, 0)], u[min(seen[-1] + 1, _N_GRID - 1)], _N_GRID)
    mean, rss = _profile(u, x, y, least_sigma)
    log_weight = -(n - 1) / 2 * np.log(rss)
    total = np.cumsum(np.exp(log_weight - log_weight.max()))
    bounds = [
        (sign, x_of, bound)
        for sign, given in ((-1.0, steps_lower), (1.0, steps_upper))
        for x_of, bound in _known_bounds(sizes, reached, given)
    ]
    n_proposed = n_draws * (_PROPOSALS if bounds else 1)
    at = np.interp(rng.uniform(total[0], total[-1], n_proposed), total, np.arange(_N_GRID))
    sigma = np.sqrt(np.interp(at, np.arange(_N_GRID), rss) / rng.chisquare(n - 1, n_proposed))
    drawn = np.interp(at, np.arange(_N_GRID), u)
    log_min_steps = np.interp(at, np.arange(_N_GRID), mean)
    log_min_steps = log_min_steps + sigma / np.sqrt(n) * rng.standard_normal(n_proposed)
    proposed = np.stack([log_min_steps, log_min_steps + drawn], axis=1)
    if not bounds:
        return proposed
    log_weight = np.zeros(n_proposed)
    for sign, size, bound in bounds:
        z = (np.log(bound) - np.log(hyperbola(size, *proposed.T))) / sigma
        log_weight += log_ndtr(sign * z)
    weight = np.exp(log_weight - log_weight.max())
    return proposed[rng.choice(n_proposed, n_draws, p=weight / weight.sum())]


def _profile(u: Floats, x: Floats, y: Floats, least_sigma: float) -> tuple[Floats, Floats]:
    """log S_min and the sum of squared residuals at each u = log B_crit; x = log B, y = log S."""
    level = y - np.log1p(np.exp(np.subtract.outer(u, x)))
    mean = level.mean(axis=1)
    # added, not the greater of both: a flat top would hide where the best u is
    return mean, ((level - mean[:, None]) ** 2).sum(axis=1) + len(x) * least_sigma**2


def _known_bounds(
    sizes: Floats, reached: NDArray[np.bool_], given: ArrayLike | None
) -> list[tuple[float, float]]:
    """(batch size, bound) of the batch sizes without a crossing that have one."""
    if given is None:
        return []
    values = np.asarray(given, float)
    at = np.flatnonzero(~reached & ~np.isnan(values))
    return [(float(sizes[i]), float(values[i])) for i in at]
