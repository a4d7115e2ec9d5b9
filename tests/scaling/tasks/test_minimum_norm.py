"""Fewer examples than weights: what the task measures, the example by hand, and predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling import schema
from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.tasks.finite_regression import drawn_data
from scaling.trial import prepare
from tests.scaling.trials import finite_task, optimizer_config, regression_trial, trained

FEW = finite_task(data_examples=4, dimension=12, spectrum_exponent=0.0)
BY_HAND = finite_task(inputs=[[2, 1]], labels=[2], loss_scale=0.5)


def metrics(name: str, batch_size: int, start: float, max_steps: int = 6000) -> dict:
    task = replace(FEW, initial_weights=[start])
    config = regression_trial(
        name, max_steps, task=task, batch_size=batch_size, lr=0.004, precision="float64"
    )
    return trained(config)[0].metrics[0]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_from_zero_it_ends_at_the_minimum_norm_solution(name: str, batch_size: int) -> None:
    along = metrics(name, batch_size, 0.0)
    assert along[6000]["minimum_norm_distance"] <= 1e-6
    assert max(at["row_space_residual"] for at in along.values()) <= 1e-10
    assert along[0]["minimum_norm_distance"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "start"), [("sgd", 1.0), ("rmsprop", 0.0), ("adam", 0.0), ("adamw", 0.0)]
)
def test_others_end_elsewhere(name: str, start: float) -> None:
    along = metrics(name, 2, start, 2000)
    assert along[2000]["minimum_norm_distance"] > 0.01
    assert max(at["row_space_residual"] for at in along.values()) > 0.01


def test_distances_are_those_of_the_closed_form() -> None:
    inputs, labels = drawn_data(FEW)
    solution = inputs.T @ np.linalg.solve(inputs @ inputs.T, labels)
    at = metrics("sgd", 4, 1.0, 50)[0]
    start = np.ones(12)
    outside = start - inputs.T @ np.linalg.solve(inputs @ inputs.T, inputs @ start)
    length = np.linalg.norm(solution)
    assert at["minimum_norm_distance"] == pytest.approx(np.linalg.norm(start - solution) / length)
    residual = np.linalg.norm(outside) / np.linalg.norm(start)
    assert at["row_space_residual"] == pytest.approx(residual)


def test_rmsprop_by_hand() -> None:
    config = regression_trial(
        "rmsprop", 1000, task=BY_HAND, batch_size=1, lr=0.1, precision="float64"
    )
    config.optimizer = optimizer_config("rmsprop", alpha=0.9, eps=0.01)
    along = trained(config)[0].metrics[0]
    for step, weights in ((1, (0.3137, 0.3113)), (2, (0.4670, 0.4635)), (1000, (0.668, 0.663))):
        tolerance = 5e-5 if step < 3 else 5e-4
        found = (along[step]["weight_1"], along[step]["weight_2"])
        assert found == pytest.approx(weights, abs=tolerance)


def test_data_of_full_rank_have_no_such_distance() -> None:
    memory, _ = trained(regression_trial(max_steps=2, task=finite_task()))
    assert not memory.metrics


SAYS = {"says": "it is so", "metric": "minimum_norm_distance", "at": "last", "at_most": 1.0}
OF_ALL = {"metric": None, "at": None, "quantity": "critical_batch_size"}


def predicting(**changes) -> StudyConfig:
    prediction = {key: v for key, v in (SAYS | changes).items() if v is not None}
    return StudyConfig("mine", predictions=[prediction])


def test_a_task_that_cannot_have_it_says_what_is_needed() -> None:
    prepare([regression_trial(task=FEW, study=predicting())])
    message = "linear_regression does not measure it.*requires finite_regression with fewer"
    with pytest.raises(ConfigError, match=message):
        prepare([regression_trial(study=predicting())])


def test_a_quantity_that_the_task_cannot_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare([regression_trial(study=predicting(**OF_ALL))])
    facts = schema.QuantityFacts("of networks", ("colourization", "custom"))
    monkeypatch.setitem(schema.QUANTITIES, "critical_batch_size", facts)
    message = "the task linear_regression does not have it; it requires colourization or custom"
    with pytest.raises(ConfigError, match=message):
        prepare([regression_trial(study=predicting(**OF_ALL))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": "noon"}, "at=noon: must be last, greatest, least or a step"),
        ({"at_most": None}, "requires equals with tolerance or relative_tolerance, or at"),
        ({"at_least": 1.0}, "requires equals with tolerance"),
        ({"equals": 1.0, "at_most": None}, "requires equals with tolerance"),
        ({"tolerance": 0.1}, "requires equals with tolerance"),
        ({"metric": "beauty"}, "metric=beauty: must be one of loss"),
        ({"when": 1}, "a prediction has only says"),
        ({"says": None}, "each requires says"),
        ({"at_most": float("nan")}, "must be a finite number"),
        ({"at": None}, "requires metric and at, or quantity"),
        ({"quantity": "critical_batch_size"}, "requires metric and at, or quantity"),
        ({"where": ["sgd"]}, "where=.*must be params and their values"),
        ({"standard_errors": 2}, "standard_errors=2: only a quantity has standard errors"),
        ({"equals": "theory", "tolerance": 0.1, "at_most": None}, "equals=theory: must be a"),
        (
            {"equals": 1.0, "tolerance": 1, "relative_tolerance": 1, "at_most": None},
            "requires equals",
        ),
        ({"equals": 1.0, "tolerance": -1.0, "at_most": None}, "must be a finite number >= 0"),
        ({"equals": 1.0, "tolerance": "1%", "at_most": None}, "tolerance=1%: must be a finite"),
        (OF_ALL | {"quantity": "beauty"}, "quantity=beauty: must be one of best_one_step"),
        (OF_ALL | {"equals": "paper", "at_most": None, "tolerance": 1}, "equals=paper: must be a"),
        (OF_ALL | {"equals": "theory", "at_most": None}, "may have standard_errors with any"),
    ],
)
def test_predictions_that_say_nothing_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare([regression_trial(task=FEW, study=predicting(**change))])


def test_row_space_is_orthonormal() -> None:
    from scaling.tasks.finite_regression import _row_space

    basis = _row_space(drawn_data(FEW)[0], 4)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(4, dtype=torch.float64))
