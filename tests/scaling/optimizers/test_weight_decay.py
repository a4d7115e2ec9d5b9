"""Weight decay in the training loop: where a penalty and decoupled decay are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.tasks.config import LinearRegressionConfig
from scaling.trial import prepare
from tests.scaling.trials import finite_task, optimizer_config, regression_trial, trained

N = 8
TASK = finite_task(
    data_examples=N, dimension=2, spectrum_exponent=0.5, sampling="without_replacement"
)


def path(name: str, weight_decay: float, batch_size: int, max_steps: int) -> np.ndarray:
    """[evaluations, 2]."""
    config = regression_trial(
        name, max_steps, task=TASK, batch_size=batch_size, lr=0.02, precision="float64"
    )
    decaying = replace(optimizer_config(name), weight_decay=weight_decay)
    metrics = trained(replace(config, optimizer=decaying))[0].metrics[0]
    return np.array([[point["weight_1"], point["weight_2"]] for point in metrics.values()])


def gaps(name: str, decay: float, other: float, batch_size: int, max_steps: int = 60) -> np.ndarray:
    one = path(name, decay, batch_size, max_steps)
    two = path(f"{name}w", other, batch_size, max_steps)
    return np.linalg.norm(one - two, axis=1) / np.linalg.norm(one, axis=1).max()


@pytest.mark.parametrize("batch_size", [1, 3, N])
def test_under_sgd_they_are_the_same_iterates(batch_size: int) -> None:
    assert gaps("sgd", 0.5, 0.5, batch_size).max() < 1e-12
    assert gaps("sgd", 0.5, 0.0, batch_size).max() > 0.01


def test_under_momentum_only_the_fixed_points_agree_and_with_the_factor() -> None:
    apart = gaps("momentum", 0.1, 0.1 / (1 - 0.9), N, 1500)
    assert apart.max() > 0.01
    assert apart[-1] < 1e-10
    assert gaps("momentum", 0.1, 0.1, N, 1500)[-1] > 0.01


@pytest.mark.parametrize("name", ["rmsprop", "adam"])
def test_under_adaptive_methods_they_end_apart(name: str) -> None:
    assert gaps(name, 0.5, 0.5, N, 1500)[-1] > 0.01


def test_where_weights_are_not_recorded_the_gap_is_refused() -> None:
    says = {"says": "alike", "quantity": "weight_decay_path_gap", "at_most": 1e-12}
    study = StudyConfig("mine", predictions=[says])
    prepare([regression_trial(task=TASK, batch_size=N, study=study)])
    for task in (replace(TASK, dimension=3), LinearRegressionConfig()):
        with pytest.raises(
            ConfigError, match=r"path_gap: .* it requires finite_regression with two"
        ):
            prepare([regression_trial(batch_size=N, study=study, task=task)])
