"""The exact answer for streaming linear regression: mini-batch SGD with or without momentum.

With x ~ N(0, diag(lambda)), t = w*.x + sigma eps and loss (w.x - t)^2, the second moments
m_i = E[(w_i - w*_i)^2] of mini-batch SGD follow, exactly,

    m_i' = m_i (1 - 4 lr lambda_i + 4 lr^2 lambda_i^2 (B+1)/B) + (4 lr^2/B) lambda_i (R + sigma^2)

with the excess risk R = sum_i lambda_i m_i, which is the held-out loss (irreducible loss 0).
Source: fourth moments of a Gaussian; with diagonal noise Zhang et al. 2019, arXiv:1907.04164.
Axes: C contenders (pairs of batch size and lr), D inputs.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from scaling.problem import RegressionProblem

Floats = NDArray[np.float64]


class Recursion(Protocol):
    """Second moments of C contenders, from w_0 on."""

    def step(self, risk: Floats) -> Floats:
        """One update; the excess risks [C] before and after it."""
        ...

    def keep(self, contenders: NDArray[np.bool_]) -> None:
        """Go on with these [C] only."""
        ...


def recursion(
    problem: RegressionProblem, batch_sizes: Floats, lrs: Floats, momentum: float = 0.0
) -> Recursion:
    """Of contenders with these batch sizes [C] and lrs [C]; momentum as torch.optim.SGD has it."""
    if momentum == 0:
        return _PlainSgd(problem, batch_sizes, lrs)
    return _HeavyBall(problem, batch_sizes, lrs, momentum)


class _PlainSgd:
    """m' = m * decay + kick * (R + sigma^2); both factors [C, D]."""

    def __init__(self, problem: RegressionProblem, batch_sizes: Floats, lrs: Floats) -> None:
        scaled = lrs[:, None] * problem.eigenvalues[None, :]
        inverse = 1.0 / batch_sizes[:, None]
        self._decay = 1 - 4 * scaled + 4 * scaled**2 * (1 + inverse)
        self._kick = 4 * lrs[:, None] * scaled * inverse
        self._moments = np.tile(problem.initial_error**2, (len(lrs), 1))
        self._eigenvalues, self._noise = problem.eigenvalues, problem.label_noise**2

    def step(self, risk: Floats) -> Floats:
        self._moments *= self._decay
        self._moments += self._kick * (risk + self._noise)[:, None]
        return self._moments @ self._eigenvalues

    def keep(self, contenders: NDArray[np.bool_]) -> None:
        for name in ("_decay", "_kick", "_moments"):
            setattr(self, name, getattr(self, name)[contenders])


class _HeavyBall:
    """v <- mu v + g, w <- w - lr v; with d = w - w*, p = E[d v] and q = E[v^2] (all [C, D])

        G  = 4 [lambda^2 m (B+1)/B + lambda (R + sigma^2)/B];   c = mu p + 2 lambda m
        q' = mu^2 q + 4 mu lambda p + G;   p' = c - lr q';   m' = m - 2 lr c + lr^2 q'

    Source: as the plain recursion, G = E[g^2]; mu = 0 gives that one back.
    """

    def __init__(
        self, problem: RegressionProblem, batch_sizes: Floats, lrs: Floats, momentum: float
    ) -> None:
        self._eigenvalues, self._noise = problem.eigenvalues, problem.label_noise**2
        self._momentum, self._lrs = momentum, lrs[:, None]
        self._inverse = 1.0 / batch_sizes[:, None]
        self._moments = np.tile(problem.initial_error**2, (len(lrs), 1))
        self._cross = np.zeros_like(self._moments)
        self._square = np.zeros_like(self._moments)

    def step(self, risk: Floats) -> Floats:
        mu, lam, m = self._momentum, self._eigenvalues, self._moments
        gradient = 4 * lam**2 * m * (1 + self._inverse)
        gradient += 4 * lam * (risk + self._noise)[:, None] * self._inverse
        pull = mu * self._cross + 2 * lam * m
        self._square = mu**2 * self._square + 4 * mu * lam * self._cross + gradient
        self._cross = pull - self._lrs * self._square
        self._moments = m - 2 * self._lrs * pull + self._lrs**2 * self._square
        return self._moments @ lam

    def keep(self, contenders: NDArray[np.bool_]) -> None:
        for name in ("_lrs", "_inverse", "_moments", "_cross", "_square"):
            setattr(self, name, getattr(self, name)[contenders])


def exact_risk(
    problem: RegressionProblem,
    batch_size: int,
    lr: ArrayLike,
    n_steps: int,
    momentum: float = 0.0,
) -> Floats:
    """Expected excess risk R after 0..n_steps updates: the recursions above.

    lr: one value or an array; returns [n_steps + 1] or [*lr.shape, n_steps + 1].
    """
    lrs = np.asarray(lr, float)
    sizes = np.full(lrs.size, batch_size, float)
    return exact_risks(problem, sizes, lrs.ravel(), n_steps, momentum).reshape(
        *lrs.shape, n_steps + 1
    )


def exact_risks(
    problem: RegressionProblem,
    batch_sizes: Floats,
    lrs: Floats,
    n_steps: int,
    momentum: float = 0.0,
) -> Floats:
    """The same for contenders with these batch sizes [C] and lrs [C]; returns [C, n_steps + 1].

    Beyond what a number can hold a risk is inf or NaN.
    """
    moving = recursion(problem, batch_sizes, lrs, momentum)
    risks = np.empty((n_steps + 1, len(lrs)))
    risks[0] = problem.initial_risk
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(n_steps):
            risks[step + 1] = moving.step(risks[step])
    return risks.T


def exact_final_risks(
    problem: RegressionProblem, batch_size: int, lrs: ArrayLike, factors: ArrayLike
) -> Floats:
    """Expected excess risk [C] after the last of S updates of plain SGD, whose lr at update s is
    lrs [C] times factors [S]: the recursion with the lr of each step. inf where it diverges.

    >>> problem = RegressionProblem.power_law(4)
    >>> constant = exact_final_risks(problem, 8, [0.1], [1.0, 1.0, 1.0])
    >>> bool(np.isclose(constant[0], exact_risk(problem, 8, 0.1, 3)[-1], rtol=1e-14))
    True
    """
    peaks, inverse = np.asarray(lrs, float), 1.0 / batch_size
    eigenvalues, noise = problem.eigenvalues, problem.label_noise**2
    moments = np.tile(problem.initial_error**2, (len(peaks), 1))
    risk = np.full(len(peaks), problem.initial_risk)
    with np.errstate(over="ignore", invalid="ignore"):
        for factor in np.asarray(factors, float):
            lr = factor * peaks[:, None]
            scaled = lr * eigenvalues
            moments *= 1 - 4 * scaled + 4 * scaled**2 * (1 + inverse)
            moments += 4 * lr * scaled * inverse * (risk + noise)[:, None]
            risk = moments @ eigenvalues
    return np.where(np.isfinite(risk), risk, np.inf)


def stationary_risk(
    problem: RegressionProblem, batch_size: float, lr: float, momentum: float = 0.0
) -> float:
    """Noise floor: the risk at which SGD settles, sigma^2 Q/(1 - Q); inf if unstable (Q >= 1).

    Q = sum_i kappa_i/(B - kappa_i), kappa_i = 2 lr lambda_i (1+mu) / ((1-mu)(2(1+mu) - 2 lr
    lambda_i)); for mu = 0, Q = sum_i lr lambda_i/(B - (B+1) lr lambda_i). Source: the recursion's
    fixed point.
    """
    share = _noise_share(problem, batch_size, lr, momentum)
    return problem.label_noise**2 * share / (1 - share) if share < 1 else np.inf


def largest_stable_lr(
    problem: RegressionProblem, batch_size: float, share: float = 1.0, momentum: float = 0.0
) -> float:
    """The lr at which Q = share (1: the edge of mean-square stability); Q as in stationary_risk.

    Stable iff lr lambda_max < 1 + mu, all kappa_i < B and Q < 1; Q reaches 1 before the others end.
    """
    damping = batch_size * (1 - momentum)
    top = damping * (1 + momentum) / ((1 + momentum + damping) * problem.eigenvalues.max())
    edge = top * (1 - 1e-14)  # where the largest kappa is B
    root = brentq(lambda lr: _noise_share(problem, batch_size, lr, momentum) - share, 0.0, edge)
    return cast(float, root)


def _noise_share(
    problem: RegressionProblem, batch_size: float, lr: float, momentum: float
) -> float:
    scaled = lr * problem.eigenvalues / (1 + momentum)
    if (scaled >= 1).any():
        return np.inf
    kappa = scaled * (1 + momentum) / ((1 - momentum) * (1 - scaled))
    room = batch_size - kappa
    return float(np.sum(kappa / room)) if (room > 0).all() else np.inf
