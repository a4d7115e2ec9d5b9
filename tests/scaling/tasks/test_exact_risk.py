"""What the loop trains has the mean loss that theory gives: plain, with momentum, finite data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.theory.finite import FiniteProblem, best_one_step_lr, finite_losses
from analysis.theory.streaming import exact_risk
from scaling.config import EvaluationConfig, TrialConfig
from scaling.problem import RegressionProblem
from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.finite_regression import drawn_data
from tests.scaling.trials import finite_task, optimizer_config, regression_trial, trained

REPEATS = 2000
CELLS = [  # well inside stability: near its edge the risk is heavy-tailed
    (1, 0.02, 60),
    (1, 0.04, 20),
    (2, 0.05, 40),
    (4, 0.1, 40),
    (8, 0.1, 60),
    (8, 0.2, 30),
    (16, 0.2, 40),
    (64, 0.4, 20),
    (128, 0.5, 8),
    (32, 0.3, 20),
]


MOMENTUM_CELLS = [(4, 0.03, 60, 0.9), (8, 0.05, 30, 0.9), (64, 0.3, 15, 0.5)]
PRECONDITIONED_CELLS = [(8, 0.2, 20, 0.5, 0.0), (32, 0.3, 8, 1.0, 0.0), (32, 0.3, 8, 1.0, 0.1)]
FINITE_CELLS = [
    (1, 0.05, 40, "with_replacement"),
    (4, 0.3, 30, "with_replacement"),
    (4, 0.3, 30, "without_replacement"),
    (18, 0.6, 15, "without_replacement"),
]
FAR = EvaluationConfig(1, 1000.0)  # only the last step is evaluated


def last_losses(config: TrialConfig) -> np.ndarray:
    """Final losses of REPEATS seeds; 250 seeds a stack: every one is a tile of its own."""
    losses = []
    for start in range(0, REPEATS, 250):
        seeds = range(start, start + 250)
        _, results = trained(*[replace(config, seed=seed) for seed in seeds])
        losses += [result.last_loss for result in results]
    assert len(losses) == REPEATS
    return np.array(losses)


def assert_mean(losses: np.ndarray, expected: float) -> None:
    standard_error = np.std(losses, ddof=1) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - expected) < 4 * standard_error
    assert standard_error < 0.05 * expected


@pytest.mark.parametrize(("batch_size", "lr", "step"), CELLS)
def test_mean_risk_is_the_recursions(batch_size: int, lr: float, step: int) -> None:
    task = LinearRegressionConfig(dimension=16)
    config = regression_trial(
        task=task, batch_size=batch_size, lr=lr, max_steps=step, evaluation=FAR
    )
    expected = exact_risk(RegressionProblem.power_law(16), batch_size, lr, step)[-1]
    assert_mean(last_losses(config), expected)


@pytest.mark.parametrize(("batch_size", "lr", "step", "mu"), MOMENTUM_CELLS)
def test_mean_risk_with_momentum_is_the_recursions(batch_size, lr, step, mu) -> None:
    config = regression_trial("momentum", step, batch_size=batch_size, lr=lr, evaluation=FAR)
    config.optimizer = optimizer_config("momentum", momentum=mu)
    expected = exact_risk(RegressionProblem.power_law(16), batch_size, lr, step, mu)[-1]
    assert_mean(last_losses(config), expected)


@pytest.mark.parametrize(("batch_size", "lr", "step", "power", "damping"), PRECONDITIONED_CELLS)
def test_mean_risk_preconditioned_is_that_of_sgd_on_another_problem(
    batch_size: int, lr: float, step: int, power: float, damping: float
) -> None:
    base = regression_trial(max_steps=step, batch_size=batch_size, evaluation=FAR)
    optimizer = optimizer_config("preconditioned", power=power, damping=damping)
    losses = last_losses(replace(base, lr=lr, optimizer=optimizer))
    problem = RegressionProblem.power_law(16).preconditioned(power, damping)
    assert problem.initial_risk == pytest.approx(RegressionProblem.power_law(16).initial_risk)
    assert_mean(losses, exact_risk(problem, batch_size, lr, step)[-1])


@pytest.mark.parametrize(("batch_size", "lr", "step", "sampling"), FINITE_CELLS)
def test_mean_loss_of_finite_data_is_the_recursions(batch_size, lr, step, sampling) -> None:
    task = finite_task(sampling=sampling, loss_scale=0.5)
    config = regression_trial(
        task=task, batch_size=batch_size, lr=2 * lr, max_steps=step, evaluation=FAR
    )
    inputs, labels = drawn_data(task)
    problem = FiniteProblem(inputs, labels, np.zeros(8), 0.5, sampling == "with_replacement")
    expected = finite_losses(problem, np.array([float(batch_size)]), np.array([2 * lr]), step)
    assert_mean(last_losses(config), float(expected[0, -1]))


@pytest.mark.parametrize("batch_size", [1, 6, 24])
def test_best_one_step_lr_is_measured(batch_size: int) -> None:
    """Losses after one step at three lrs, same batches at each: each seed's parabola is exact."""
    task = finite_task(sampling="without_replacement", initial_weights=[0.5])
    inputs, labels = drawn_data(task)
    problem = FiniteProblem(inputs, labels, np.full(8, 0.5), with_replacement=False)
    predicted = best_one_step_lr(problem, batch_size)
    lrs = predicted * np.array([0.5, 1.0, 1.5])
    one = regression_trial(
        max_steps=1, task=task, batch_size=batch_size, evaluation=FAR, precision="float64"
    )
    _, results = trained(*[replace(one, lr=lr, seed=seed) for seed in range(600) for lr in lrs])
    losses = np.array([result.last_loss for result in results]).reshape(600, 3)
    square, slope, _ = np.polyfit(lrs, losses.T, 2)
    measured = -slope.mean() / (2 * square.mean())
    residual = slope + 2 * square * measured
    error = residual.std() / np.sqrt(600) / (2 * square.mean())
    assert abs(measured - predicted) < max(4 * error, 1e-9 * predicted)
    assert error < 0.1 * predicted


def test_slope_at_the_best_one_step_lr_vanishes() -> None:
    """dJ/dlr by autograd, of the whole data."""
    task = finite_task(sampling="without_replacement", initial_weights=[0.5])
    inputs, labels = (torch.from_numpy(leaf) for leaf in drawn_data(task))
    problem = FiniteProblem(inputs.numpy(), labels.numpy(), np.full(8, 0.5), with_replacement=False)

    def slope(lr: float) -> float:
        step = torch.tensor(lr, dtype=torch.float64, requires_grad=True)
        weights = torch.full((8,), 0.5, dtype=torch.float64, requires_grad=True)
        loss = (inputs @ weights - labels).square().mean()
        (gradient,) = torch.autograd.grad(loss, weights)
        after = (inputs @ (weights.detach() - step * gradient) - labels).square().mean()
        return float(torch.autograd.grad(after, step)[0])

    predicted = best_one_step_lr(problem, 24)
    assert abs(slope(predicted)) < 1e-12 * abs(slope(0.0))
