from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.config import (
    BudgetConfig,
    EvaluationConfig,
    ScheduleConfig,
    StudyConfig,
    TrialConfig,
    trial_config,
)
from scaling.limits import ConfigError
from scaling.tasks.config import LinearRegressionConfig
from scaling.validation import validate
from tests.scaling.trials import finite_task, optimizer_config, regression_trial

GOOD = regression_trial()
BAD: list[tuple[str, TrialConfig]] = [
    ("lr", replace(GOOD, lr=0.0)),
    ("lr", replace(GOOD, lr=math.nan)),
    ("lr", replace(GOOD, lr=math.inf)),
    ("batch_size", replace(GOOD, batch_size=0)),
    ("batch_size", replace(GOOD, batch_size=1.5)),  # pyright: ignore[reportArgumentType]
    ("seed", replace(GOOD, seed=-1)),
    ("targets", replace(GOOD, targets=[math.nan])),
    ("relative_targets", replace(GOOD, relative_targets=[1.0])),
    ("tail_factor", replace(GOOD, tail_factor=0.9)),
    ("divergence_factor", replace(GOOD, divergence_factor=1.0)),
    ("precision", replace(GOOD, precision="float8")),
    ("budget.max_steps", replace(GOOD, budget=BudgetConfig(None, None))),
    ("budget.max_steps", replace(GOOD, budget=BudgetConfig(0))),
    ("budget.max_examples", replace(GOOD, budget=BudgetConfig(10, 63))),
    ("evaluation.every_step_until", replace(GOOD, evaluation=EvaluationConfig(0))),
    ("evaluation.ratio", replace(GOOD, evaluation=EvaluationConfig(20, 1.0))),
    ("schedule.name", replace(GOOD, schedule=ScheduleConfig("linear"))),
    ("schedule.warmup_steps", replace(GOOD, schedule=ScheduleConfig("warmup"))),
    ("schedule.total_steps", replace(GOOD, schedule=ScheduleConfig("cosine"))),
    ("optimizer.momentum", replace(GOOD, optimizer=optimizer_config("momentum", momentum=1.0))),
    ("optimizer.beta2", replace(GOOD, optimizer=optimizer_config("adam", beta2=1.0))),
    ("optimizer.eps", replace(GOOD, optimizer=optimizer_config("adam", eps=-1.0))),
    ("optimizer.weight_decay", replace(GOOD, optimizer=optimizer_config("sgd", weight_decay=-1))),
    ("task.dimension", replace(GOOD, task=LinearRegressionConfig(dimension=0))),
    ("task.label_noise", replace(GOOD, task=LinearRegressionConfig(label_noise=-1))),
    ("task.initial_weight", replace(GOOD, task=LinearRegressionConfig(initial_weight=1.0))),
    ("task.sampling", replace(GOOD, task=finite_task(sampling="shuffled"))),
    ("task.loss_scale", replace(GOOD, task=finite_task(loss_scale=0.0))),
    ("study.name", replace(GOOD, study=StudyConfig("../elsewhere"))),
    ("study.name", replace(GOOD, study=StudyConfig("x" * 101))),
]


def test_defaults_are_allowed() -> None:
    assert validate(GOOD) is None


@pytest.mark.parametrize(
    ("key", "config"), BAD, ids=[f"{i}-{key}" for i, (key, _) in enumerate(BAD)]
)
def test_bad_values_name_their_key(key: str, config: TrialConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(config)
    message = str(caught.value)
    assert message.startswith(f"{key}=")
    assert "\n" not in message


@given(st.floats())
def test_lr_is_a_positive_finite_number(lr: float) -> None:
    if math.isfinite(lr) and lr > 0:
        validate(replace(GOOD, lr=lr))
    else:
        with pytest.raises(ConfigError, match=r"^lr="):
            validate(replace(GOOD, lr=lr))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_plain_containers_and_back(optimizer: str) -> None:
    config = regression_trial(optimizer, lr=0.03, task=finite_task(initial_weights=[1.0, 2.0]))
    assert trial_config(asdict(config)) == config


def test_unknown_names_list_what_there_is() -> None:
    content = asdict(GOOD)
    content["optimizer"]["name"] = "lion"
    with pytest.raises(ConfigError, match="must be one of sgd, momentum, nesterov"):
        trial_config(content)
