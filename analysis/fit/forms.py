"""The forms of a frontier S(B), in log S, with their derivatives. A new form is one more in FORMS.

    hyperbola   S = S_min + E_min/B                     parameters log S_min, log E_min
    knee        S = (S_min^g + (E_min/B)^g)^(1/g)       log S_min, log E_min, log g
    power       S = a B^-b                              log a, b

Source: McCandlish et al. 2018, arXiv:1812.06162, equation 2.11 (the hyperbola). The knee has the
same asymptotes for every g, so B_crit = E_min/S_min and elasticity 1/2 there; g = 1 is the
hyperbola, g > 1 a sharper knee. Axes: n curves, B batch sizes, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# B_crit is searched this far beyond the sampled batch sizes; there the curve is straight.
OPEN = 1e3
KNEES = (0.25, 4.0)  # range of g
_KNEE_STARTS = (-0.7, 0.0, 0.7)  # of log g


@dataclass(frozen=True)
class Form:
    """One form of S(B).

    log_steps: parameters [n, P] and log B [B] -> log S [n, B] and its derivatives [n, B, P];
    within_bounds: the same two -> the parameters moved into the range that is searched; starts:
    parameters of the hyperbola [n, 2], log B [B], log S [n, B] (NaN: not known) -> starts [n, P];
    sharpness: the g of parameters [P]; None for a form without S_min and E_min, which are else its
    first two parameters.
    """

    name: str
    n_parameters: int
    log_steps: Callable[[Floats, Floats], tuple[Floats, Floats]]
    within_bounds: Callable[[Floats, Floats], Floats]
    starts: Callable[[Floats, Floats, Floats], list[Floats]]
    sharpness: Callable[[Floats], float] | None = None


def hyperbola(
    batch_size: ArrayLike, log_min_steps: ArrayLike, log_min_examples: ArrayLike
) -> Floats:
    """S(B) = S_min + E_min/B in steps, broadcast over its arguments."""
    return np.exp(log_min_steps) + np.exp(log_min_examples) / np.asarray(batch_size, float)


def _hyperbola(parameters: Floats, log_size: Floats) -> tuple[Floats, Floats]:
    floor, slope = parameters[:, :1], parameters[:, 1:2] - log_size
    log_steps = np.logaddexp(floor, slope)
    share = np.exp(floor - log_steps)
    return log_steps, np.stack([share, 1 - share], axis=2)


def _knee(parameters: Floats, log_size: Floats) -> tuple[Floats, Floats]:
    floor, slope = parameters[:, :1], parameters[:, 1:2] - log_size
    g = np.exp(parameters[:, 2:3])
    log_steps = np.logaddexp(g * floor, g * slope) / g
    share = np.exp(g * (floor - log_steps))
    bend = share * floor + (1 - share) * slope - log_steps
    return log_steps, np.stack([share, 1 - share, bend], axis=2)


def _power(parameters: Floats, log_size: Floats) -> tuple[Floats, Floats]:
    level, exponent = parameters[:, :1], parameters[:, 1:2]
    slopes = np.broadcast_to(-log_size, (len(parameters), len(log_size)))
    return level - exponent * log_size, np.stack([np.ones(slopes.shape), slopes], axis=2)


def _near_the_sizes(parameters: Floats, log_size: Floats) -> Floats:
    """With a B_crit no further than OPEN from the batch sizes."""
    low, high = log_size.min() - np.log(OPEN), log_size.max() + np.log(OPEN)
    bound = parameters.copy()
    log_critical = parameters[:, 1] - parameters[:, 0]
    # the asymptote that the data see stays where it is
    bound[:, 0] = np.where(log_critical > high, parameters[:, 1] - high, parameters[:, 0])
    bound[:, 1] = np.where(log_critical < low, parameters[:, 0] + low, parameters[:, 1])
    return bound


def _knee_bounds(parameters: Floats, log_size: Floats) -> Floats:
    bound = _near_the_sizes(parameters, log_size)
    bound[:, 2] = np.clip(parameters[:, 2], *np.log(KNEES))
    return bound


def _knee_starts(fit: Floats, log_size: Floats, log_steps: Floats) -> list[Floats]:
    return [np.column_stack([fit, np.full(len(fit), log_g)]) for log_g in _KNEE_STARTS]


def _power_start(fit: Floats, log_size: Floats, log_steps: Floats) -> list[Floats]:
    lines = [
        np.polyfit(log_size[known], curve[known], 1)
        for curve, known in zip(log_steps, ~np.isnan(log_steps), strict=True)
    ]
    return [np.array([[level, -slope] for slope, level in lines])]


HYPERBOLA = Form(
    "hyperbola", 2, _hyperbola, _near_the_sizes, lambda fit, *_: [fit], sharpness=lambda _: 1.0
)
KNEE = Form("knee", 3, _knee, _knee_bounds, _knee_starts, sharpness=lambda p: float(np.exp(p[2])))
POWER = Form("power", 2, _power, lambda parameters, _: parameters, _power_start)
FORMS = (HYPERBOLA, KNEE, POWER)
