"""The shapes of a frontier S(B), in log S, with their derivatives.

    hyperbola   S = S_min + E_min/B                     parameters log S_min, log E_min
    knee        S = (S_min^g + (E_min/B)^g)^(1/g)       log S_min, log E_min, log g
    power       S = a B^-b                              log a, b

Source: McCandlish et al. 2018, arXiv:1812.06162, equation 2.11 (the hyperbola). The knee has the
same asymptotes for every g, so B_crit = E_min/S_min and elasticity 1/2 there; g = 1 is the
hyperbola, g > 1 a sharper knee. Axes: n curves, B batch sizes, P parameters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

N_PARAMETERS = {"hyperbola": 2, "knee": 3, "power": 2}
# B_crit is searched this far beyond the sampled batch sizes; there the curve is straight.
OPEN = 1e3
KNEES = (0.25, 4.0)  # range of g


def hyperbola(
    batch_size: ArrayLike, log_min_steps: ArrayLike, log_min_examples: ArrayLike
) -> Floats:
    """S(B) = S_min + E_min/B in steps, broadcast over its arguments."""
    return np.exp(log_min_steps) + np.exp(log_min_examples) / np.asarray(batch_size, float)


def log_steps_of(form: str, parameters: Floats, log_size: Floats) -> tuple[Floats, Floats]:
    """log S [n, B] and its derivatives [n, B, P]; parameters [n, P], log_size [B]."""
    first, second = parameters[:, :1], parameters[:, 1:2]
    if form == "power":
        slopes = np.broadcast_to(-log_size, (len(parameters), len(log_size)))
        return first - second * log_size, np.stack([np.ones(slopes.shape), slopes], axis=2)
    early = second - log_size
    if form == "hyperbola":
        log_steps = np.logaddexp(first, early)
        share = np.exp(first - log_steps)
        return log_steps, np.stack([share, 1 - share], axis=2)
    g = np.exp(parameters[:, 2:3])
    log_steps = np.logaddexp(g * first, g * early) / g
    share = np.exp(g * (first - log_steps))
    bend = share * first + (1 - share) * early - log_steps
    return log_steps, np.stack([share, 1 - share, bend], axis=2)


def within_bounds(form: str, parameters: Floats, log_size: Floats) -> Floats:
    """The parameters [n, P] with g and B_crit moved into the range that is searched."""
    if form == "power":
        return parameters
    low, high = log_size.min() - np.log(OPEN), log_size.max() + np.log(OPEN)
    bound = parameters.copy()
    u = parameters[:, 1] - parameters[:, 0]
    # the asymptote that the data see stays where it is
    bound[:, 0] = np.where(u > high, parameters[:, 1] - high, parameters[:, 0])
    bound[:, 1] = np.where(u < low, parameters[:, 0] + low, parameters[:, 1])
    if form == "knee":
        bound[:, 2] = np.clip(parameters[:, 2], *np.log(KNEES))
    return bound
