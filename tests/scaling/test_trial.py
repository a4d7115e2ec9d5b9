from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.config import BudgetConfig, ScheduleConfig
from scaling.limits import ConfigError
from scaling.tasks.config import LinearRegressionConfig
from scaling.trial import prepare
from tests.scaling.trials import finite_task, optimizer_config, regression_trial

BASE = regression_trial()


def identity(**fields: object) -> str:
    return prepare([replace(BASE, **fields)])[0].trial_id  # pyright: ignore[reportArgumentType]


def test_identity_is_what_decides_the_numbers() -> None:
    decide = [
        {"lr": 0.2},
        {"seed": 1},
        {"batch_size": 32},
        {"precision": "float64"},
        {"task": LinearRegressionConfig(dimension=17)},
        {"optimizer": optimizer_config("sgd", weight_decay=0.1)},
        {"clip_norm": 1.0},
        {"clip_norm": 2.0},
    ]
    assert len({identity(), *(identity(**fields) for fields in decide)}) == len(decide) + 1


def test_identity_does_not_hold_targets_or_budgets() -> None:
    others = [
        {"relative_targets": [0.5]},
        {"budget": BudgetConfig(7)},
        {"tail_factor": 3.0},
        {"study": replace(BASE.study, name="another")},
    ]
    assert {identity(**fields) for fields in others} == {identity()}


PINNED = {  # as on record since before schedules had more lengths
    "a5673754c9488192": ScheduleConfig(),
    "5fb79c0530d18095": ScheduleConfig("warmup", 9),
    "359f788b9205856e": ScheduleConfig("cosine", 5, 60, 0.1),
}


@pytest.mark.parametrize(("trial_id", "schedule"), PINNED.items())
def test_identities_of_schedules_on_record_stay(trial_id: str, schedule: ScheduleConfig) -> None:
    assert identity(schedule=schedule, batch_size=16, relative_targets=[0.5]) == trial_id


def test_a_budget_is_in_the_identity_where_the_schedule_follows_it() -> None:
    def of(max_steps: int, **fields: float) -> str:
        schedule = ScheduleConfig("linear", **fields)  # pyright: ignore[reportArgumentType]
        return identity(schedule=schedule, budget=BudgetConfig(max_steps))

    assert of(60, total_fraction=0.5) != of(80, total_fraction=0.5)
    assert of(60, total_fraction=0.5) == of(59, total_fraction=0.5)  # 30 steps, rounded up
    assert of(60, total_examples=640) == of(80, total_examples=640)
    assert of(60, total_examples=640) != of(60, total_steps=10)


def test_targets_are_absolute_distinct_and_easiest_first() -> None:
    [trial] = prepare([replace(BASE, targets=[1.0, 0.2], relative_targets=[0.5])])
    assert trial.initial_loss == pytest.approx(sum(1 / i for i in range(1, 17)))
    assert trial.targets == (trial.initial_loss / 2, 1.0, 0.2)


@pytest.mark.parametrize("target", [-1.0, 0.0, 3.4])
def test_targets_outside_the_losses_are_refused(target: float) -> None:
    with pytest.raises(ConfigError, match=r"targets=.*below the initial loss 3\.38.* above .* 0$"):
        prepare([replace(BASE, targets=[target])])


def test_target_below_the_irreducible_loss_of_data() -> None:
    config = regression_trial(task=finite_task(), batch_size=4)
    [trial] = prepare([config])
    assert 0 < trial.irreducible_loss < trial.initial_loss
    with pytest.raises(ConfigError, match="irreducible loss"):
        prepare([replace(config, targets=[trial.irreducible_loss * 0.99])])


def test_budget_is_whichever_limit_comes_first() -> None:
    budgets = [BudgetConfig(100, 640), BudgetConfig(100, 64_000), BudgetConfig(None, 6399)]
    trials = prepare([replace(BASE, budget=budget) for budget in budgets])
    assert [trial.max_steps for trial in trials] == [10, 100, 99]


def test_batch_larger_than_the_data_without_replacement() -> None:
    task = finite_task(sampling="without_replacement")
    with pytest.raises(ConfigError, match=r"^batch_size=25: at most the 24 examples"):
        prepare([regression_trial(task=task, batch_size=25)])
    prepare([regression_trial(task=task, batch_size=24)])


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"inputs": [[1.0, 2.0], [3.0]], "labels": [1.0, 2.0]}, "task.inputs"),
        ({"inputs": [], "labels": []}, "task.inputs"),
        ({"inputs": [[1.0]], "labels": None}, "task.labels"),
        ({"inputs": None, "labels": [1.0]}, "task.inputs"),
        ({"inputs": [["a"]], "labels": [1.0]}, "task.inputs"),
        ({"inputs": [[float("nan")]], "labels": [1.0]}, "task.inputs"),
        ({"initial_weights": [1.0, 2.0, 3.0]}, "task.initial_weights"),
    ],
)
def test_given_data_that_does_not_fit(fields: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}="):
        prepare([regression_trial(task=finite_task(**fields))])
