"""Power laws, fitted in logarithms.

    power          y = c x^k               least squares on log y, in closed form
    shifted        y = c (x - x0)^k        x0 below every x, free
    floor          y = y0 + c x^k          y0 >= 0, free
    two powers     y = y0 + (a/x)^p + (b/z)^q   y0 known

The last three by Huber's loss on residuals of log y, summed (an average makes tolerances stop too
early), from many starts. Source: Besiroglu et al. 2024, arXiv:2404.10102; Hoffmann et al. 2022,
arXiv:2203.15556, equation 3.
Axes: m data sets (starts, or bootstrap draws), n points, p parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fit.solve import Attempt, Damping, Local, Solution, damped_newton

Floats = NDArray[np.float64]
# parameters [m, p] and x of each data set -> log y [m, n] and its derivatives [m, n, p]
Model = Callable[[Floats, Floats], tuple[Floats, Floats]]

HUBER = 0.05  # residuals of log y up to here count squared, larger ones linearly
FEWEST_WITH_OFFSET, FEWEST_TWO_POWERS = 4, 5  # points: one more than free offsets need
_ITERATIONS = 150
_LEAST_GAIN, _MOST_IDLE = 1e-9, 8  # done after so many steps without such a share of the loss
_SPAN = 12.0  # of the logit of x0's place below the least x: e^-12 is as good as the edge
_EXPONENTS = (0.1, 0.3, 0.7, 1.5)  # starts


def fit_power(x: ArrayLike, y: ArrayLike) -> Floats:
    """log c and k of y = c x^k by least squares on log y. x [n], y [n] or [m, n]; [2] or [m, 2].

    A data set with a NaN in it, or equal x throughout, gives NaN.
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.atleast_2d(np.asarray(y, float)))
    centred = log_x - log_x.mean()
    spread = float(centred @ centred)
    if spread == 0:
        parameters = np.full((len(log_y), 2), np.nan)
    else:
        exponent = log_y @ centred / spread
        parameters = np.stack([log_y.mean(axis=1) - exponent * log_x.mean(), exponent], axis=1)
    return parameters if np.ndim(y) == 2 else parameters[0]


def fit_shifted(x: ArrayLike, y: ArrayLike, lowest: float = 0.0) -> Floats:
    """log c, k and x0 of y = c (x - x0)^k with lowest <= x0 < min x. x [n], y [n] or [m, n].

    Returns [3] or [m, 3]. lowest: the least that x0 can be (a loss is not negative).
    """
    xs, ys = np.asarray(x, float), np.atleast_2d(np.asarray(y, float))
    least = float(xs.min())

    def shift(place: Floats) -> Floats:
        share = 1 / (1 + np.exp(-np.clip(place, -_SPAN, _SPAN)))
        return lowest + share * (least - lowest)

    def model(p: Floats, log_x: Floats) -> tuple[Floats, Floats]:
        x0 = shift(p[:, 2])
        distance = np.log(xs[None, :] - x0[:, None])
        by_x0 = -p[:, 1, None] / (xs[None, :] - x0[:, None])
        share = (x0 - lowest) / (least - lowest)
        slope = (share * (1 - share) * (least - lowest))[:, None]
        ones = np.ones_like(distance)
        return p[:, 0, None] + p[:, 1, None] * distance, np.stack(
            [ones, distance, by_x0 * slope], axis=2
        )

    log_y = np.log(ys)
    starts = []
    for place in np.linspace(-5.0, 5.0, 9):
        log_c, k = fit_power(xs - shift(np.array([place])), ys[0])
        starts.append([log_c, k, place])
    parameters = _fit(model, xs, log_y, np.array(starts))
    parameters[:, 2] = shift(parameters[:, 2])
    return parameters if np.ndim(y) == 2 else parameters[0]


def fit_floor(x: ArrayLike, y: ArrayLike) -> Floats:
    """log c, k and y0 of y = y0 + c x^k. x [n], y [n] or [m, n]; [3] or [m, 3]."""
    xs, ys = np.asarray(x, float), np.atleast_2d(np.asarray(y, float))
    log_x = np.log(xs)

    def model(p: Floats, log_x: Floats) -> tuple[Floats, Floats]:
        power = p[:, 0, None] + p[:, 1, None] * log_x
        floor = np.broadcast_to(p[:, 2, None], power.shape)
        total = np.logaddexp(power, floor)
        share, rest = np.exp(power - total), np.exp(floor - total)
        return total, np.stack([share, share * log_x, rest], axis=2)

    starts = []
    for part in (0.02, 0.2, 0.5, 0.8, 0.95):
        floor = part * ys[0].min()
        starts.append([*fit_power(xs, ys[0] - floor), np.log(floor)])
    parameters = _fit(model, log_x, np.log(ys), np.array(starts))
    parameters[:, 2] = np.exp(parameters[:, 2])
    return parameters if np.ndim(y) == 2 else parameters[0]


def fit_two_powers(x: ArrayLike, z: ArrayLike, y: ArrayLike) -> Floats:
    """log a, p, log b and q of y = (a/x)^p + (b/z)^q. x, y [n], z [n] or [m, n]; [4] or [m, 4].

    Kaplan et al. 2020, arXiv:2001.08361, equation 1.6: L(N, S_min) = (N_c/N)^alpha_N +
    (S_c/S_min)^alpha_S.
    """
    log_x, log_z = np.log(np.asarray(x, float)), np.log(np.atleast_2d(np.asarray(z, float)))
    log_y = np.broadcast_to(np.log(np.asarray(y, float)), log_z.shape)

    def model(p: Floats, log_z: Floats) -> tuple[Floats, Floats]:
        first = p[:, 0, None] - p[:, 1, None] * log_x
        second = p[:, 2, None] - p[:, 3, None] * log_z
        total = np.logaddexp(first, second)
        share, rest = np.exp(first - total), np.exp(second - total)
        return total, np.stack([share, -share * log_x, rest, -rest * log_z], axis=2)

    middle = log_y[0].mean() - np.log(2)
    starts = [
        [middle + p * log_x.mean(), p, middle + q * log_z[0].mean(), q]
        for p in _EXPONENTS
        for q in _EXPONENTS
    ]
    parameters = _fit(model, log_z, log_y, np.array(starts))
    with np.errstate(divide="ignore", invalid="ignore"):
        parameters[:, 0] /= parameters[:, 1]
        parameters[:, 2] /= parameters[:, 3]
    return parameters if np.ndim(z) == 2 else parameters[0]


def _fit(model: Model, x: Floats, log_y: Floats, starts: Floats) -> Floats:
    """Best parameters [m, p] of each data set: all starts on the first one, then from its best.

    x [n] or [m, n]; log_y [m, n]; starts [k, p].
    """
    first = np.zeros(len(starts), int)
    tried = _huber(model, x[first] if x.ndim == 2 else x, log_y[first], starts)
    order = np.argsort(-tried.value, kind="stable")
    # a draw may prefer the second best valley
    best, other = (
        _huber(model, x, log_y, np.tile(start, (len(log_y), 1)))
        for start in tried.parameters[order[:2]]
    )
    return np.where((other.value > best.value)[:, None], other.parameters, best.parameters)


def _huber(model: Model, x: Floats, log_y: Floats, start: Floats) -> Solution:
    """Least Huber loss (minus the value) of all data sets at once."""

    def evaluate(parameters: Floats, sets: NDArray[np.intp]) -> Local:
        with np.errstate(over="ignore", invalid="ignore"):
            predicted, slopes = model(parameters, x[sets] if x.ndim == 2 else x)
            residual = predicted - log_y[sets]
            weight = np.minimum(1.0, HUBER / np.maximum(np.abs(residual), 1e-300))
            gradient = np.einsum("mni,mn->mi", slopes, weight * residual)
            normal = np.einsum("mni,mn,mnj->mij", slopes, weight, slopes)
            return Local(-huber_loss(residual), -gradient, normal)

    rules = Damping(1e-2, _lift, _adapt, _Patience().is_over, _ITERATIONS)
    return damped_newton(evaluate, start.astype(float), rules)


def _lift(diagonal: Floats, damping: Floats) -> Floats:
    return damping[:, None] * np.maximum(diagonal, 1e-9) + 1e-14


def _adapt(damping: Floats, better: NDArray[np.bool_]) -> Floats:
    return np.clip(np.where(better, damping / 3, damping * 4), 1e-12, 1e12)


class _Patience:
    """Over for all data sets after _MOST_IDLE steps that gained hardly anything in any."""

    def __init__(self) -> None:
        self._idle = 0

    def is_over(self, attempt: Attempt) -> NDArray[np.bool_]:
        useful = attempt.gain > _LEAST_GAIN * -attempt.value
        self._idle = 0 if useful.any() else self._idle + 1
        return np.full(len(useful), self._idle == _MOST_IDLE)


def huber_loss(residual: Floats) -> Floats:
    """Summed over the last axis."""
    size = np.abs(residual)
    return np.where(size <= HUBER, size**2 / 2, HUBER * (size - HUBER / 2)).sum(axis=-1)
