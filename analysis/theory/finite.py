"""The exact expected loss of mini-batch SGD on a fixed data set, its stability limit and floor.

With X [n, D], t [n], the least-squares solution ws, r = t - X ws, H = X'X/n, A = I - 2 lr H, and C
the second moment of d = w - ws, plain SGD on the batch mean of (w.x - t)^2 gives, exactly,

    mean' = A mean;   C' = A C A + 4 lr^2 f [X' diag(s) X/n - H C H]
    s_i = x_i' C x_i - 2 r_i x_i' mean + r_i^2

f = 1/B with replacement, (n-B)/(B(n-1)) for batches without replacement within themselves (each a
fresh subset; not epoch shuffling). The loss is |r|^2/n + tr(H C). Source: moments of a sampled
mean. Everything lives in the row space of X (axes Q), where H is diagonal with eigenvalues h; the
error outside it never changes and costs nothing. Axes: C contenders (pairs of batch size and lr).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RANK = 1e-12  # eigenvalues of H below this share of the largest one are none
_CONVERGED = 1e-10  # relative change of a power iteration's root
_MOST_ITERATIONS = 100_000


@dataclass(frozen=True)
class FiniteProblem:
    """J(w) = loss_scale/n |X w - t|^2 from initial_weights [D]; with_replacement: of a batch."""

    inputs: Floats
    labels: Floats
    initial_weights: Floats
    loss_scale: float = 1.0
    with_replacement: bool = True

    @property
    def n_examples(self) -> int:
        return len(self.inputs)

    @cached_property
    def solution(self) -> Floats:
        """ws [D]: of all least-squares solutions the one of least norm, X'(XX')^-1 t if n < D."""
        return np.linalg.lstsq(self.inputs, self.labels, rcond=None)[0].astype(np.float64)

    @cached_property
    def residuals(self) -> Floats:
        """r = t - X ws, [n]."""
        return self.labels - self.inputs @ self.solution

    @cached_property
    def _spectral(self) -> tuple[Floats, Floats]:
        """h [Q] and the eigenvectors [D, Q] of H that belong to them."""
        values, vectors = np.linalg.eigh(self.inputs.T @ self.inputs / self.n_examples)
        kept = values > _RANK * values.max()
        return values[kept], vectors[:, kept]

    @property
    def eigenvalues(self) -> Floats:
        return self._spectral[0]

    @cached_property
    def rotated_inputs(self) -> Floats:
        """X in the eigenbasis of H, [n, Q]."""
        return self.inputs @ self._spectral[1]

    @cached_property
    def initial_error(self) -> Floats:
        """w_0 - ws in the row space, [Q]."""
        return (self.initial_weights - self.solution) @ self._spectral[1]

    @cached_property
    def irreducible_loss(self) -> float:
        return float(self.loss_scale * np.mean(self.residuals**2))

    def noise_factor(self, batch_size: Floats) -> Floats:
        """f above: the variance of a batch's mean over that of one example."""
        if self.with_replacement:
            return 1 / batch_size
        n = self.n_examples
        return (n - batch_size) / (batch_size * max(1, n - 1))


def finite_losses(problem: FiniteProblem, batch_sizes: Floats, lrs: Floats, n_steps: int) -> Floats:
    """Expected loss J after 0..n_steps updates, [C, n_steps + 1]; the recursion above."""
    losses = np.empty((n_steps + 1, len(lrs)))
    with np.errstate(over="ignore", invalid="ignore"):
        for step, loss in zip(range(n_steps + 1), _losses(problem, batch_sizes, lrs), strict=False):
            losses[step] = loss
    return losses.T


def _losses(problem: FiniteProblem, batch_sizes: Floats, lrs: Floats) -> Iterator[Floats]:
    h, x = problem.eigenvalues, problem.rotated_inputs
    lr = lrs * problem.loss_scale
    shrink = 1 - 2 * lr[:, None] * h  # A, [C, Q]
    kick = (4 * lr**2 * problem.noise_factor(batch_sizes))[:, None, None]
    mean = np.tile(problem.initial_error, (len(lrs), 1))
    second = mean[:, :, None] * mean[:, None, :]
    while True:
        excess = np.einsum("q,cqq->c", h, second)
        yield problem.irreducible_loss + problem.loss_scale * excess
        cross = problem.residuals * (mean @ x.T)
        spread = _at_examples(x, second) - 2 * cross + problem.residuals**2
        noise = _weighted_gram(x, spread) - h[:, None] * second * h
        second = shrink[:, :, None] * second * shrink[:, None, :] + kick * noise
        mean = shrink * mean


def largest_stable_finite_lr(problem: FiniteProblem, batch_size: int) -> float:
    """The lr above which the second moment grows: the edge of mean-square stability.

    At the edge T(C) = C without residuals: 2 (HC + CH) = 4 lr K(C), K(C) = (1-f) H C H + f X'
    diag(x_i' C x_i) X/n, so lr = 1/(2 rho) with rho the largest eigenvalue of L^-1 K, L(C) = HC +
    CH; both maps keep matrices positive, so power iteration finds it (Perron and Frobenius).
    """
    second = np.eye(len(problem.eigenvalues))
    root = 0.0
    for _ in range(_MOST_ITERATIONS):
        moved = _lagged(problem, second, batch_size)
        before, root = root, float(np.trace(moved) / np.trace(second))
        second = moved / np.trace(moved)
        if abs(root - before) <= _CONVERGED * root:
            break
    return 1 / (2 * root * problem.loss_scale)


def stationary_finite_loss(problem: FiniteProblem, batch_size: int, lr: float) -> float:
    """Noise floor: the expected loss at which SGD settles, inf above the stability limit.

    The fixed point C = 2 lr L^-1 [K(C) + f X' diag(r^2) X/n] (L, K as above); the mean is 0 there.
    """
    if lr >= largest_stable_finite_lr(problem, batch_size):
        return np.inf
    h, lr = problem.eigenvalues, lr * problem.loss_scale
    factor = float(problem.noise_factor(np.array(float(batch_size))))
    noise = factor * _weighted_gram(problem.rotated_inputs, problem.residuals**2)
    source = 2 * lr * noise / (h[:, None] + h)
    second, excess = source, 0.0
    for _ in range(_MOST_ITERATIONS):
        before, excess = excess, float(h @ np.diag(second))
        if abs(excess - before) <= _CONVERGED * excess:
            break
        second = source + 2 * lr * _lagged(problem, second, batch_size)
    return problem.irreducible_loss + problem.loss_scale * excess


def best_one_step_lr(problem: FiniteProblem, batch_size: float) -> float:
    """The lr at which the expected loss after the first step is least.

    E J(w_0 - lr g) = J - lr |G|^2 + lr^2/2 [G'HG + f tr(H Sigma)] exactly, J being quadratic, with
    its Hessian 2 loss_scale X'X/n, so lr = [|G|^2/G'HG] / (1 + f B_noise), f = 1/B with replacement
    and (n-B)/(B(n-1)) without. At B = n without replacement, a = X w_0 - t and loss_scale 1 that is
    (n/2) |X'a|^2 / |XX'a|^2. Source: McCandlish et al. 2018, arXiv:1812.06162, eq. 2.7.
    """
    x, scale = problem.rotated_inputs, problem.loss_scale
    errors = x @ problem.initial_error - problem.residuals  # x_i.w_0 - t_i
    each = 2 * scale * errors[:, None] * x  # gradients of the examples
    mean = each.mean(axis=0)
    curvature = 2 * scale * problem.eigenvalues
    along = float(mean**2 @ curvature)
    noise = float((each**2 @ curvature).mean()) - along  # tr(H Sigma)
    factor = float(problem.noise_factor(np.array(float(batch_size))))
    return float(mean @ mean) / (along + factor * noise)


def _lagged(problem: FiniteProblem, second: Floats, batch_size: int) -> Floats:
    """L^-1 K(C)."""
    h, x = problem.eigenvalues, problem.rotated_inputs
    factor = float(problem.noise_factor(np.array(float(batch_size))))
    kept = (1 - factor) * h[:, None] * second * h
    spread = factor * _weighted_gram(x, _at_examples(x, second))
    return (kept + spread) / (h[:, None] + h)


def _at_examples(x: Floats, second: Floats) -> Floats:
    """x_i' C x_i, [.., n] of C [.., Q, Q]."""
    return ((x @ second) * x).sum(-1)


def _weighted_gram(x: Floats, weights: Floats) -> Floats:
    """X' diag(s) X/n, [.., Q, Q] of s [.., n]."""
    return (x.T * weights[..., None, :]) @ x / len(x)
