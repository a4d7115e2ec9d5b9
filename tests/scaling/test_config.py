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
    ("clip_norm", replace(GOOD, clip_norm=0.0)),
    ("clip_norm", replace(GOOD, clip_norm=math.inf)),
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
    ("schedule.name", replace(GOOD, schedule=ScheduleConfig("stairs"))),
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


LENGTHS = [
    (
        ScheduleConfig("linear"),
        "schedule.total_steps=0: schedule.name=linear requires schedule.total_steps, "
        "schedule.total_examples or schedule.total_fraction",
    ),
    (
        ScheduleConfig("wsd", total_steps=9),
        "schedule.decay_steps=None: schedule.name=wsd requires schedule.decay_steps, "
        "schedule.decay_examples or schedule.decay_fraction",
    ),
    (
        ScheduleConfig("cosine", total_steps=9, total_examples=640),
        "schedule.total_examples=640: schedule.total_steps=9 is set, too; set one of them, the "
        "other to 0",
    ),
    (
        ScheduleConfig("linear", warmup_examples=640, total_fraction=0.1),
        "schedule.warmup_examples=640: must be below schedule.total_fraction=0.1 (10 and 6 steps)",
    ),
    (
        ScheduleConfig("wsd", warmup_steps=2, decay_fraction=0.15, total_steps=10),
        "schedule.decay_fraction=0.15: with a warm-up of 2 steps the decay (9 steps) must fit into "
        "schedule.total_steps=10 (10 steps)",
    ),
    (
        ScheduleConfig("linear", total_steps=9, decay_steps=3),
        "schedule.decay_steps=3: schedule.name=linear has no such length; wsd have",
    ),
    (
        ScheduleConfig("constant", warmup_examples=3),
        "schedule.warmup_examples=3: schedule.name=constant has no such length; warmup, cosine, "
        "linear, wsd have",
    ),
    (
        ScheduleConfig("wsd", decay_fraction=1.5, total_steps=9),
        "schedule.decay_fraction=1.5: must be a finite number >= 0 and <= 1",
    ),
]


@pytest.mark.parametrize(("schedule", "line"), LENGTHS)
def test_lengths_of_a_schedule_that_do_not_fit(schedule: ScheduleConfig, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(replace(GOOD, schedule=schedule))
    assert str(caught.value) == line


def test_what_earlier_records_hold_stays_allowed() -> None:
    """A constant lr beside lengths that it does not use, and a decay without a stable part."""
    validate(replace(GOOD, schedule=ScheduleConfig("constant", 9, 5)))
    validate(replace(GOOD, schedule=ScheduleConfig("wsd", 2, 10, decay_steps=8)))


def test_unknown_names_list_what_there_is() -> None:
    content = asdict(GOOD)
    content["optimizer"]["name"] = "lion"
    with pytest.raises(ConfigError, match="must be one of sgd, momentum, nesterov"):
        trial_config(content)
