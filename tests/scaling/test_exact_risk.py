"""What the loop trains has the mean risk that theory gives: ten (B, lr, step) cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.theory import exact_risk
from scaling.config import EvaluationConfig, LinearRegressionConfig
from scaling.spectrum import RegressionProblem
from tests.scaling.trials import regression_trial, trained

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


@pytest.mark.parametrize(("batch_size", "lr", "step"), CELLS)
def test_mean_risk_is_the_recursions(batch_size: int, lr: float, step: int) -> None:
    config = regression_trial(
        task=LinearRegressionConfig(dimension=16),
        batch_size=batch_size,
        lr=lr,
        max_steps=step,
        evaluation=EvaluationConfig(1, 1000.0),
    )
    chunk = 250  # seeds a stack: every one is a tile of its own
    risks = []
    for start in range(0, REPEATS, chunk):
        seeds = range(start, start + chunk)
        _, results = trained(*[replace(config, seed=seed) for seed in seeds])
        risks += [result.last_loss for result in results]
    expected = exact_risk(RegressionProblem.power_law(16), batch_size, lr, step)[-1]
    standard_error = np.std(risks, ddof=1) / np.sqrt(REPEATS)
    assert len(risks) == REPEATS
    assert abs(np.mean(risks) - expected) < 4 * standard_error
    assert standard_error < 0.05 * expected
