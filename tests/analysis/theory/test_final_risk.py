"""The exact final risk under a schedule, against updates written out and the trained thing."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.theory.streaming import exact_final_risks, exact_risk
from scaling.config import BudgetConfig, ScheduleConfig, StudyConfig
from scaling.problem import RegressionProblem
from scaling.schedules import lr_factor
from scaling.schema import FINAL_LOSSES
from tests.scaling.trials import regression_trial, trained

PROBLEM = RegressionProblem.power_law(16)
STEPS = 40
FACTORS = [lr_factor(ScheduleConfig("linear", 0, STEPS), step) for step in range(1, STEPS + 1)]


def test_a_constant_schedule_is_the_recursion_of_a_constant_lr() -> None:
    lrs = np.array([0.01, 0.2, 0.5])
    constant = exact_risk(PROBLEM, 8, lrs, STEPS)[:, -1]
    assert exact_final_risks(PROBLEM, 8, lrs, np.ones(STEPS)) == pytest.approx(constant, rel=1e-12)


def test_two_schedules_after_one_another_are_one_of_both() -> None:
    """The moments carry over: half the steps at half the lr, then the rest."""
    risk = exact_final_risks(PROBLEM, 8, [0.2], [0.5] * 10)
    assert risk == pytest.approx(exact_risk(PROBLEM, 8, 0.1, 10)[-1], rel=1e-12)


def test_what_diverges_is_infinite() -> None:
    assert np.isinf(exact_final_risks(PROBLEM, 1, [50.0], np.ones(2000))).all()


@pytest.mark.parametrize("batch_size", [1, 8])
def test_against_plain_numpy(batch_size: int) -> None:
    """Monte Carlo of the update w <- w - (2 lr/B) sum (w.x - t) x, 4000 times."""
    random = np.random.default_rng(0)
    error = np.tile(PROBLEM.initial_error, (4000, 1))  # w - w*
    peak = 0.12 if batch_size == 1 else 0.5
    for factor in FACTORS:
        pull = np.zeros_like(error)
        for _ in range(batch_size):
            inputs = random.standard_normal(error.shape) * np.sqrt(PROBLEM.eigenvalues)
            residual = np.einsum("ri,ri->r", inputs, error) - random.standard_normal(len(error))
            pull += residual[:, None] * inputs
        error -= 2 * peak * factor / batch_size * pull
    risks = error**2 @ PROBLEM.eigenvalues
    standard_error = risks.std() / np.sqrt(len(risks))
    exact = exact_final_risks(PROBLEM, batch_size, [peak], FACTORS)[0]
    assert standard_error < 0.03 * exact
    assert abs(risks.mean() - exact) < 4 * standard_error


def test_against_trained_trials() -> None:
    """The mean final loss of 256 seeds whose schedule decays to the budget's end."""
    seeds = [
        regression_trial(
            batch_size=8, lr=0.3, seed=seed, precision="float64",
            budget=BudgetConfig(None, 8 * STEPS),
            schedule=ScheduleConfig("linear", total_fraction=1.0),
            study=StudyConfig(report=FINAL_LOSSES),
        )
        for seed in range(256)
    ]  # fmt: skip
    losses = np.array([result.last_loss for result in trained(*seeds)[1]])
    exact = exact_final_risks(PROBLEM, 8, [0.3], FACTORS)[0]
    standard_error = losses.std() / np.sqrt(len(losses))
    assert standard_error < 0.03 * exact
    assert abs(losses.mean() - exact) < 4 * standard_error
