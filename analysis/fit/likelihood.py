"""Maximum likelihood of a frontier whose steps are known exactly, to an interval, or on one side.

log S of a batch size is Gaussian around the form's log S(B) with one free sigma. With z the
distance in sigmas, a cell adds

    observed            log phi(z) - log sigma
    interval-censored   log [Phi(z_upper) - Phi(z_lower)]    crossing in (steps_lower, steps_upper]
    right-censored      log [1 - Phi(z_lower)]               steps > steps_lower
    left-censored       log Phi(z_upper)                     steps <= steps_upper

Source: Tobin 1958, Econometrica 26 (right-censored); Turnbull 1976, JRSS B 38 (intervals).
All n curves (the frontier, or its bootstrap resamples) are fitted at once. The curvature of the
form itself is left out (Gauss-Newton).
Axes: n curves, B batch sizes, P parameters of the form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from analysis.fit.forms import Form
from analysis.fit.observations import LEAST_SIGMA, Observations
from analysis.fit.solve import Attempt, Damping, Local, damped_newton

Floats = NDArray[np.float64]

_NARROW = 0.1  # intervals below this many sigmas: series around their middle
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)
_TOLERANCE = 1e-9


class Maximum(NamedTuple):
    """parameters [n, P], log_sigma [n], log_likelihood [n]; converged [n]."""

    parameters: Floats
    log_sigma: Floats
    log_likelihood: Floats
    converged: NDArray[np.bool_]


def maximise(form: Form, start: Floats, seen: Observations) -> Maximum:
    """Maximum likelihood of each curve, from `start` [n, P]; sigma >= seen.least_sigma().

    Never worse than the start. converged: the last step gained less than 1e-9 of likelihood.
    """
    floor = np.log(seen.least_sigma())

    def bounded(points: Floats, curves: NDArray[np.intp]) -> Floats:
        parameters = form.within_bounds(points[:, :-1], seen.log_size)
        return np.column_stack([parameters, np.maximum(points[:, -1], floor[curves])])

    def evaluate(points: Floats, curves: NDArray[np.intp]) -> Local:
        log_sigma = points[:, -1].copy()
        local = derivatives(form, points[:, :-1].copy(), log_sigma, seen.rows(curves))
        # sigma is held where the likelihood would have it below its least
        held = (log_sigma <= floor[curves]) & (local.gradient[:, -1] < 0)
        local.gradient[held, -1] = 0.0
        local.curvature[held, -1, :-1] = local.curvature[held, :-1, -1] = 0.0
        return local

    parameters = form.within_bounds(start, seen.log_size)
    log_sigma = np.maximum(_log_scatter(form, parameters, seen), floor)
    best = damped_newton(evaluate, np.column_stack([parameters, log_sigma]), _RULES, bounded)
    return Maximum(best.parameters[:, :-1], best.parameters[:, -1], best.value, best.done)


def _lift(diagonal: Floats, damping: Floats) -> Floats:
    size = np.abs(diagonal)
    return damping[:, None] * np.maximum(size, 1e-8 * size.max(axis=1, keepdims=True) + 1e-300)


def _adapt(damping: Floats, better: NDArray[np.bool_]) -> Floats:
    return np.clip(damping * np.where(better, 0.1, 10.0), 1e-9, 1e12)


def _is_done(attempt: Attempt) -> NDArray[np.bool_]:
    small = np.abs(attempt.step).max(axis=1) < 1e-6
    return (attempt.better & (attempt.gain < _TOLERANCE) & (attempt.damping < 1.0)) | small


_RULES = Damping(1e-3, _lift, _adapt, _is_done, n_steps=80, longest_step=1.0, takes_equal=True)


def log_likelihood(form: Form, parameters: Floats, log_sigma: Floats, seen: Observations) -> Floats:
    """[n], for parameters [n, P] and log_sigma [n]."""
    mean, _ = form.log_steps(parameters, seen.log_size)
    return _cells(mean, log_sigma, seen)[0].sum(axis=1)


def derivatives(form: Form, parameters: Floats, log_sigma: Floats, seen: Observations) -> Local:
    """Log-likelihood [n], its gradient [n, P+1] and minus its Gauss-Newton Hessian."""
    mean, jacobian = form.log_steps(parameters, seen.log_size)
    value, by_mean, by_sigma, two_mean, both, two_sigma = _cells(mean, log_sigma, seen)
    n, p = parameters.shape
    gradient = np.empty((n, p + 1))
    gradient[:, :p] = np.einsum("nb,nbp->np", by_mean, jacobian)
    gradient[:, p] = by_sigma.sum(axis=1)
    curvature = np.empty((n, p + 1, p + 1))
    curvature[:, :p, :p] = -np.einsum("nb,nbp,nbq->npq", two_mean, jacobian, jacobian)
    curvature[:, :p, p] = curvature[:, p, :p] = -np.einsum("nb,nbp->np", both, jacobian)
    curvature[:, p, p] = -two_sigma.sum(axis=1)
    return Local(value.sum(axis=1), gradient, curvature)


def _cells(mean: Floats, log_sigma: Floats, seen: Observations) -> Floats:
    """[6, n, B]: each cell's log-likelihood and derivatives by mean (m) and log sigma (s):
    l, l_m, l_s, l_mm, l_ms, l_ss; 0 where nothing is known."""
    sigma = np.broadcast_to(np.exp(log_sigma)[:, None], mean.shape)
    between = seen.reached & ~np.isnan(seen.log_upper)
    exact = seen.reached & ~between
    out = np.zeros((6, *mean.shape))
    for where, cell, low, high in (
        (exact, _observed, seen.log_steps, seen.log_steps),
        (between, _interval, seen.log_lower, seen.log_upper),
        (seen.right_censored, _beyond, seen.log_lower, seen.log_lower),
        (seen.left_censored, _within, seen.log_upper, seen.log_upper),
    ):
        if where.any():
            out[:, where] = cell(low[where], high[where], mean[where], sigma[where])
    return out


def _observed(y: Floats, _: Floats, mean: Floats, sigma: Floats) -> Floats:
    z = (y - mean) / sigma
    value = -0.5 * z**2 - np.log(sigma) - _LOG_ROOT_2PI
    return np.stack([value, z / sigma, z**2 - 1, -(sigma**-2.0), -2 * z / sigma, -2 * z**2])


def _beyond(low: Floats, _: Floats, mean: Floats, sigma: Floats) -> Floats:
    z = (low - mean) / sigma
    value = log_ndtr(-z)
    hazard = np.exp(-0.5 * z**2 - _LOG_ROOT_2PI - value)
    by_sigma = z * hazard
    return np.stack(
        [
            value,
            hazard / sigma,
            by_sigma,
            (by_sigma - hazard**2) / sigma**2,
            (hazard * (z**2 - 1) - by_sigma * hazard) / sigma,
            (z**2 - 1) * by_sigma - by_sigma**2,
        ]
    )


def _within(high: Floats, _: Floats, mean: Floats, sigma: Floats) -> Floats:
    """_beyond, mirrored: odd derivatives by the mean change their sign."""
    return _beyond(-high, -high, -mean, sigma) * np.array([1, -1, 1, 1, -1, 1])[:, None]


def _interval(low: Floats, high: Floats, mean: Floats, sigma: Floats) -> Floats:
    out = np.empty((6, len(mean)))
    narrow = (high - low) / sigma < _NARROW
    for where, cell in ((narrow, _narrow), (~narrow, _wide)):
        out[:, where] = cell(low[where], high[where], mean[where], sigma[where])
    return out


def _narrow(low: Floats, high: Floats, mean: Floats, sigma: Floats) -> Floats:
    """log [phi(z) r (1 + r^2 (z^2 - 1)/24)] with r = width/sigma; the rest is below r^4/200."""
    r, z = (high - low) / sigma, (0.5 * (low + high) - mean) / sigma
    value = -0.5 * z**2 - _LOG_ROOT_2PI + np.log(r) + r**2 * (z**2 - 1) / 24
    return np.stack(
        [
            value,
            z / sigma * (1 - r**2 / 12),
            z**2 - 1 - r**2 * (2 * z**2 - 1) / 12,
            -(1 - r**2 / 12) / sigma**2,
            -2 * z / sigma,
            -2 * z**2,
        ]
    )


def _wide(low: Floats, high: Floats, mean: Floats, sigma: Floats) -> Floats:
    a, b = (low - mean) / sigma, (high - mean) / sigma
    # in the lower tail Phi does not round to one: turn the upper one over
    near, far = np.where(a > 0, -a, b), np.where(a > 0, -b, a)
    log_near = log_ndtr(near)
    value = log_near + np.log1p(-np.exp(log_ndtr(far) - log_near))
    at_a = np.exp(-0.5 * a**2 - _LOG_ROOT_2PI - value)
    at_b = np.exp(-0.5 * b**2 - _LOG_ROOT_2PI - value)
    by_mean, by_sigma = at_a - at_b, a * at_a - b * at_b
    return np.stack(
        [
            value,
            by_mean / sigma,
            by_sigma,
            (by_sigma - by_mean**2) / sigma**2,
            (at_a * (a**2 - 1) - at_b * (b**2 - 1) - by_sigma * by_mean) / sigma,
            (a**3 - a) * at_a - (b**3 - b) * at_b - by_sigma**2,
        ]
    )


def _log_scatter(form: Form, parameters: Floats, seen: Observations) -> Floats:
    """log rms residual [n] of the reached cells."""
    mean, _ = form.log_steps(parameters, seen.log_size)
    square = np.where(seen.reached, (seen.log_steps - mean) ** 2, 0.0)
    rms = np.sqrt(square.sum(axis=1) / np.maximum(seen.reached.sum(axis=1), 1))
    return np.log(np.maximum(rms, LEAST_SIGMA))
