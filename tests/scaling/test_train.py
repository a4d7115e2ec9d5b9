"""THE loop: equal to plain PyTorch, to itself alone, and true to its rules of ending."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from scaling.config import BudgetConfig, ScheduleConfig, TrialConfig
from scaling.schedules import lr_factor
from scaling.schema import CENSORED, DIVERGED, REACHED
from scaling.stack import group_into_stacks
from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.make import make_task
from scaling.trial import prepare
from tests.scaling.trials import finite_task, optimizer_config, regression_trial, trained


def plain_pytorch(config: TrialConfig, optimizer: torch.optim.Optimizer, weights, n_steps: int):
    """The loop that everybody writes, on the trial's own data."""
    stream = make_task(config).streams([config.seed], config.batch_size)
    losses = []
    for step in range(1, n_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * lr_factor(config.schedule, step)
        inputs, labels = (leaf[0] for leaf in stream.next())
        optimizer.zero_grad()
        loss = (inputs @ weights - labels).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("schedule", [ScheduleConfig(), ScheduleConfig("cosine", 5, 40)])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_equals_a_plain_pytorch_loop(name: str, schedule: ScheduleConfig) -> None:
    config = regression_trial(
        name, max_steps=30, precision="float64", lr=0.05, batch_size=4, schedule=schedule, seed=5
    )
    memory, [result, *_] = trained(config, replace(config, lr=0.01), replace(config, seed=1))
    weights = torch.zeros(16, dtype=torch.float64, requires_grad=True)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    losses = plain_pytorch(config, make([weights], lr=1.0), weights, 30)
    excess = (weights.detach() - 1).square() @ make_task(config).eigenvalues  # pyright: ignore
    assert result_loss(memory, 0) == pytest.approx(excess.item(), rel=1e-12)
    assert [row[2] for row in memory.curves[0][1:21]] == pytest.approx(losses[:20], rel=1e-10)
    assert result.last_step == 30
    lrs = [row[3] for row in memory.curves[0]]
    if schedule.name == "constant":
        assert lrs == [None] * len(lrs)
    else:
        assert lrs[1:4] == pytest.approx([0.01, 0.02, 0.03])


def result_loss(memory, number: int) -> float:
    return memory.curves[number][-1][1]


GRID = [
    replace(regression_trial(max_steps=50, batch_size=b, relative_targets=[0.5]), lr=lr, seed=seed)
    for b, lr, seed in itertools.product((1, 16, 300), (0.01, 0.1, 0.4, 3.0), range(5))
]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("task", [LinearRegressionConfig(dimension=64), finite_task()])
def test_bits_do_not_depend_on_the_stack(optimizer: str, task) -> None:
    """Alone, with all others (some diverge, some end early), and in another order: equal bits."""
    configs = [replace(c, optimizer=optimizer_config(optimizer), task=task) for c in GRID]
    trials = prepare(configs)
    for members in group_into_stacks(trials, 1024):
        together, _ = trained(*[configs[i] for i in members])
        backwards, _ = trained(*[configs[i] for i in reversed(members)])
        for position, i in enumerate(members):
            assert together.curves[position] == backwards.curves[len(members) - 1 - position]
            if position % 5 == 0:
                alone, _ = trained(configs[i])
                assert together.curves[position] == alone.curves[0]


def test_a_stack_larger_than_a_tile() -> None:
    configs = [regression_trial(max_steps=20, lr=0.001 * k) for k in range(1, 41)]
    together, results = trained(*configs)
    assert [len(together.curves[k]) for k in range(40)] == [21] * 40
    alone, _ = trained(configs[37])
    assert together.curves[37] == alone.curves[0]
    assert len({result.last_loss for result in results}) == 40


def test_repeats_bit_for_bit() -> None:
    first, _ = trained(*GRID[:20])
    second, _ = trained(*GRID[:20])
    assert first.curves == second.curves


def test_ends_at_the_tail_of_its_hardest_target() -> None:
    config = regression_trial(lr=0.1, max_steps=10_000, relative_targets=[0.5, 0.1], tail_factor=3)
    memory, [result] = trained(config)
    touched = next(row[0] for row in memory.curves[0] if row[1] <= 0.1 * memory.curves[0][0][1])
    assert 3 * touched <= result.last_step <= 3 * touched * 1.05 + 1
    assert result.outcome == REACHED
    easy, hard = (result.steps_to_target[target] for target in sorted(result.outcomes)[::-1])
    assert 0 < easy < hard <= touched


def test_a_longer_budget_continues_the_same_curve() -> None:
    short, long = (trained(regression_trial(max_steps=n))[0].curves[0] for n in (47, 100))
    assert short[:-1] == long[: len(short) - 1]
    assert short[-1][0] == 47  # evaluated where the budget ends, off the common steps


def test_budgets_may_differ_within_a_stack() -> None:
    configs = [regression_trial(budget=BudgetConfig(n)) for n in (47, 100)]
    memory, results = trained(*configs)
    assert [result.last_step for result in results] == [47, 100]
    assert 47 not in [row[0] for row in memory.curves[1]]
    assert memory.curves[1] == trained(configs[1])[0].curves[0]


def test_divergence_is_an_outcome_and_records_nothing_non_finite() -> None:
    configs = [
        regression_trial(max_steps=2000, lr=lr, relative_targets=[0.5], divergence_factor=1e300)
        for lr in (30.0, 0.1)
    ]
    memory, [bad, good] = trained(*configs)
    assert bad.outcome == DIVERGED
    assert bad.outcomes == dict.fromkeys(bad.outcomes, DIVERGED)
    assert bad.diverged_step is not None
    assert bad.diverged_step > bad.last_step
    assert bad.main_loss == float("inf")
    assert np.isfinite([row[1] for row in memory.curves[0]]).all()
    assert memory.curves[0][-1][1] > 1e30  # went on until the numbers gave out
    assert good.outcome == REACHED
    assert memory.outcomes[0] == bad


def test_explosion_ends_a_trial_early() -> None:
    _, [result] = trained(regression_trial(max_steps=2000, lr=30.0))
    assert result.diverged_step == result.last_step < 20
    assert 1000 * 3.38 < result.last_loss < 1e12


def test_censored_when_the_budget_ends_first() -> None:
    _, [result] = trained(regression_trial(max_steps=5, lr=0.01, relative_targets=[0.95, 0.01]))
    assert list(result.outcomes.values()) == [REACHED, CENSORED]
    assert result.outcome == CENSORED
    assert len(result.steps_to_target) == 1


def test_hyperparameters_of_a_stack_may_differ() -> None:
    configs = [regression_trial(optimizer_name, lr=0.02) for optimizer_name in ["momentum"] * 3]
    for config, mu in zip(configs, (0.0, 0.5, 0.9), strict=True):
        config.optimizer = optimizer_config("momentum", momentum=mu)
    assert len(group_into_stacks(prepare(configs), 10)) == 1
    together, _ = trained(*configs)
    for number, config in enumerate(configs):
        assert together.curves[number] == trained(config)[0].curves[0]
    plain, _ = trained(regression_trial(lr=0.02))
    assert together.curves[0] == plain.curves[0]


def test_stacks_are_split_and_keep_every_trial() -> None:
    trials = prepare(GRID)
    stacks = group_into_stacks(trials, 8)
    assert sorted(itertools.chain(*stacks)) == list(range(len(GRID)))
    assert max(map(len, stacks)) == 8
    for members in stacks:
        assert len({trials[i].config.batch_size for i in members}) == 1
