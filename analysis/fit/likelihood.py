"""Maximum likelihood of a frontier whose steps are known exactly, to an interval, or on one side.

log S of a batch size is Gaussian around the form's log S(B) with one free sigma. With z the
distance in sigmas, a cell adds

    observed            log phi(z) - log sigma
    interval-censored   log [Phi(z_upper) - Phi(z_lower)]    crossing in (steps_lower, steps_upper]
    right-censored      log [1 - Phi(z_lower)]               steps > steps_lower
    left-censored       log Phi(z_upper)                     steps <= steps_upper

Source: Tobin 1958, Econometrica 26 (right-censored); Turnbull 1976, JRSS B 38 (intervals).
All n curves (the frontier, or its bootstrap resamples) are fitted at once, by Newton's method with
Levenberg-Marquardt damping; the curvature of the form itself is left out (Gauss-Newton).
Axes: n curves, B batch sizes, P parameters of the form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from analysis.fit.forms import log_steps_of, within_bounds

Floats = NDArray[np.float64]

LEAST_SIGMA = 1e-6  # residuals below this are arithmetic, not evidence for a shape
_EXACT = 1e-9  # bounds on log S closer than this are one value
_NARROW = 0.1  # intervals below this many sigmas: series around their middle
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)
_N_STEPS, _LONGEST_STEP, _TOLERANCE = 80, 1.0, 1e-9


@dataclass(frozen=True)
class Observations:
    """What is known of log S. log_size [B]; log_steps, log_lower, log_upper [n, B].

    With log_steps a cell is interval-censored where both bounds are known, else observed; without,
    right-censored where log_lower is known, left-censored where log_upper is; where nothing is
    known (NaN) it does not count.
    """

    log_size: Floats
    log_steps: Floats
    log_lower: Floats
    log_upper: Floats

    @classmethod
    def of(
        cls,
        batch_size: ArrayLike,
        steps: ArrayLike,
        steps_lower: ArrayLike | None = None,
        steps_upper: ArrayLike | None = None,
    ) -> Observations:
        """batch_size [B]; steps, steps_lower, steps_upper [n, B] or [B], NaN where not known."""
        value = np.log(np.atleast_2d(np.asarray(steps, float)))
        nothing = np.full(value.shape, np.nan)
        lower = nothing if steps_lower is None else _log(steps_lower)
        upper = nothing if steps_upper is None else _log(steps_upper)
        reached = ~np.isnan(value)
        between = reached & (upper - lower > _EXACT)  # both are known, in order and apart
        return cls(
            np.log(np.asarray(batch_size, float)),
            value,
            np.where(reached & ~between, np.nan, lower),
            np.where((reached & ~between) | (~reached & ~np.isnan(lower)), np.nan, upper),
        )

    @property
    def reached(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.log_steps)

    @property
    def right_censored(self) -> NDArray[np.bool_]:
        return ~self.reached & ~np.isnan(self.log_lower)

    @property
    def left_censored(self) -> NDArray[np.bool_]:
        return ~self.reached & ~np.isnan(self.log_upper)

    def exactly(self) -> Observations:
        """Only the reached cells, each at its interpolated crossing: what least squares sees."""
        nothing = np.full(self.log_steps.shape, np.nan)
        return Observations(self.log_size, self.log_steps, nothing, nothing)

    def imputed(self, rng: np.random.Generator) -> Observations:
        """Interval-censored cells observed at a place drawn evenly from their interval.

        Resamples of the seeds move an interval and its middle, but never say where in it the
        crossing lies: without this all resamples of sparse evaluations agree, whatever the truth.
        """
        between = self.reached & ~np.isnan(self.log_upper)
        share = rng.uniform(size=between.shape)
        place = self.log_lower + share * (self.log_upper - self.log_lower)
        return Observations(
            self.log_size,
            np.where(between, place, self.log_steps),
            np.where(between, np.nan, self.log_lower),
            np.where(between, np.nan, self.log_upper),
        )

    def least_sigma(self) -> Floats:
        """[n]: the smallest sigma that is searched.

        Where all curves through the intervals are equally likely (sigma -> 0), evaluations do not
        resolve the noise: sigma stays at the scatter of a crossing that is uniform in its interval,
        width/sqrt(12), which makes the maximum unique (log-concave in log S) and finite.
        """
        square = (self.log_upper - self.log_lower) ** 2 / 12
        known = ~np.isnan(square) & self.reached
        total = np.where(known, square, 0.0).sum(axis=1)
        return np.maximum(np.sqrt(total / np.maximum(self.reached.sum(axis=1), 1)), LEAST_SIGMA)

    def rows(self, keep: NDArray) -> Observations:
        """Of some of the n curves."""
        return Observations(
            self.log_size, self.log_steps[keep], self.log_lower[keep], self.log_upper[keep]
        )


class Maximum(NamedTuple):
    """parameters [n, P], log_sigma [n], log_likelihood [n]; converged [n]."""

    parameters: Floats
    log_sigma: Floats
    log_likelihood: Floats
    converged: NDArray[np.bool_]


def maximise(form: str, start: Floats, seen: Observations) -> Maximum:
    """Maximum likelihood of each curve, from `start` [n, P]; sigma >= seen.least_sigma().

    Damped Newton: a step that does not raise the likelihood is tried again shorter, so the result
    is never worse than the start. converged: the last step was below 1e-9 of likelihood.
    """
    floor = np.log(seen.least_sigma())
    parameters = within_bounds(form, start, seen.log_size)
    log_sigma = np.maximum(_log_scatter(form, parameters, seen), floor)
    value, gradient, hessian = _derivatives(form, parameters, log_sigma, seen)
    damping, done = np.full(len(start), 1e-3), np.zeros(len(start), bool)
    for _ in range(_N_STEPS):
        at = np.flatnonzero(~done)
        if not len(at):
            break
        held = (log_sigma[at] <= floor[at]) & (gradient[at, -1] < 0)
        step = _damped_step(*_without_sigma(gradient[at], hessian[at], held), damping[at])
        tried = within_bounds(form, parameters[at] + step[:, :-1], seen.log_size)
        tried_sigma = np.maximum(log_sigma[at] + step[:, -1], floor[at])
        new = _derivatives(form, tried, tried_sigma, seen.rows(at))
        gain = new[0] - value[at]
        better = gain >= 0
        up = at[better]
        parameters[up], log_sigma[up] = tried[better], tried_sigma[better]
        value[up], gradient[up], hessian[up] = (part[better] for part in new)
        damping[at] = np.clip(damping[at] * np.where(better, 0.1, 10.0), 1e-9, 1e12)
        small = np.abs(step).max(axis=1) < 1e-6
        done[at] = (better & (gain < _TOLERANCE) & (damping[at] < 1.0)) | small
    return Maximum(parameters, log_sigma, value, done)


def log_likelihood(form: str, parameters: Floats, log_sigma: Floats, seen: Observations) -> Floats:
    """[n], for parameters [n, P] and log_sigma [n]."""
    mean, _ = log_steps_of(form, parameters, seen.log_size)
    return _cells(mean, log_sigma, seen)[0].sum(axis=1)


def _derivatives(
    form: str, parameters: Floats, log_sigma: Floats, seen: Observations
) -> tuple[Floats, Floats, Floats]:
    """Log-likelihood [n], its gradient [n, P+1] and minus its Gauss-Newton Hessian."""
    mean, jacobian = log_steps_of(form, parameters, seen.log_size)
    value, by_mean, by_sigma, two_mean, both, two_sigma = _cells(mean, log_sigma, seen)
    n, p = parameters.shape
    gradient = np.empty((n, p + 1))
    gradient[:, :p] = np.einsum("nb,nbp->np", by_mean, jacobian)
    gradient[:, p] = by_sigma.sum(axis=1)
    hessian = np.empty((n, p + 1, p + 1))
    hessian[:, :p, :p] = -np.einsum("nb,nbp,nbq->npq", two_mean, jacobian, jacobian)
    hessian[:, :p, p] = hessian[:, p, :p] = -np.einsum("nb,nbp->np", both, jacobian)
    hessian[:, p, p] = -two_sigma.sum(axis=1)
    return value.sum(axis=1), gradient, hessian


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


def _without_sigma(
    gradient: Floats, hessian: Floats, held: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Gradient and Hessian of the other parameters alone, where sigma is held at its least."""
    gradient, hessian = gradient.copy(), hessian.copy()
    gradient[held, -1] = 0.0
    hessian[held, -1, :-1] = hessian[held, :-1, -1] = 0.0
    return gradient, hessian


def _damped_step(gradient: Floats, hessian: Floats, damping: Floats) -> Floats:
    """(H + d diag|H|)^-1 g, no longer than _LONGEST_STEP in any parameter. [n, P+1]"""
    size = np.abs(np.diagonal(hessian, axis1=1, axis2=2))
    size = np.maximum(size, 1e-8 * size.max(axis=1, keepdims=True) + 1e-300)
    damped = hessian + (damping[:, None] * size)[:, :, None] * np.eye(size.shape[1])
    step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
    longest = np.abs(step).max(axis=1, keepdims=True)
    return step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))


def _log_scatter(form: str, parameters: Floats, seen: Observations) -> Floats:
    """log rms residual [n] of the reached cells."""
    mean, _ = log_steps_of(form, parameters, seen.log_size)
    square = np.where(seen.reached, (seen.log_steps - mean) ** 2, 0.0)
    rms = np.sqrt(square.sum(axis=1) / np.maximum(seen.reached.sum(axis=1), 1))
    return np.log(np.maximum(rms, LEAST_SIGMA))


def _log(steps: ArrayLike) -> Floats:
    values = np.atleast_2d(np.asarray(steps, float))
    # a crossing before the first step has no lower bound in log S
    return np.log(np.where(values > 0, values, np.nan))
