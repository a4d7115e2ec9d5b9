"""The regression problem, x ~ N(0, diag(lambda)), t = w*.x + sigma eps, and data drawn from it.

Numpy only; shared by training and analysis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def power_law(dimension: int, exponent: float) -> NDArray[np.float64]:
    """Eigenvalues lambda_i = i^-exponent, i = 1..dimension, of the input covariance. Shape [D]."""
    return np.arange(1, dimension + 1, dtype=np.float64) ** -exponent


def drawn_examples(
    n_examples: int,
    dimension: int,
    exponent: float,
    label_noise: float,
    true_weight: float,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X [n, D] and t [n]: n draws of the streaming problem, fixed by the seed alone."""
    random = np.random.default_rng(seed)
    scales = np.sqrt(power_law(dimension, exponent))
    inputs = random.standard_normal((n_examples, dimension)) * scales
    noise = label_noise * random.standard_normal(n_examples)
    return inputs, inputs.sum(1) * true_weight + noise


@dataclass(frozen=True)
class RegressionProblem:
    """What decides the exact risk of streaming linear regression.

    eigenvalues [D]: of the input covariance; initial_error [D]: w_0 - w*; label_noise: sigma, the
    standard deviation of the label's noise. The loss is (w.x - t)^2, without 1/2.
    """

    eigenvalues: NDArray[np.float64]
    initial_error: NDArray[np.float64]
    label_noise: float

    @classmethod
    def power_law(
        cls,
        dimension: int,
        exponent: float = 1.0,
        label_noise: float = 1.0,
        true_weight: float = 1.0,
        initial_weight: float = 0.0,
    ) -> RegressionProblem:
        error = np.full(dimension, initial_weight - true_weight)
        return cls(power_law(dimension, exponent), error, label_noise)

    def preconditioned(self, power: float, damping: float = 0.0) -> RegressionProblem:
        """The problem on which plain SGD makes the steps of w <- w - lr P g, P = (H +
        damping)^-power with H = 2 diag(lambda).

        With u = P^(-1/2) w it is u <- u - lr g_u: inputs of covariance P lambda, errors P^(-1/2)
        (w - w*), equal losses.
        """
        factors = (2 * self.eigenvalues + damping) ** -power
        errors = self.initial_error / np.sqrt(factors)
        return RegressionProblem(self.eigenvalues * factors, errors, self.label_noise)

    @property
    def initial_risk(self) -> float:
        """Excess risk R_0 = sum_i lambda_i (w_0 - w*)_i^2."""
        return float(self.eigenvalues @ self.initial_error**2)
