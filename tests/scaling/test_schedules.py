from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from scaling.config import BudgetConfig, EvaluationConfig, ScheduleConfig, TrialConfig
from scaling.schedules import in_steps, lr_factor, next_evaluation
from scaling.tasks.linear_regression import LinearRegression
from scaling.tasks.make import make_task
from tests.scaling.trials import regression_trial, trained


def test_cosine_equals_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.1)
    ours = ScheduleConfig("cosine", total_steps=50, final_fraction=0.1)
    for step in range(1, 52):
        assert lr_factor(ours, step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()
    assert lr_factor(ours, 1000) == 0.1


def test_warmup_is_linear_then_flat() -> None:
    schedule = ScheduleConfig("warmup", warmup_steps=4)
    assert [lr_factor(schedule, step) for step in (1, 2, 4, 5, 99)] == [0.25, 0.5, 1, 1, 1]


def test_cosine_starts_at_its_top_after_warmup() -> None:
    schedule = ScheduleConfig("cosine", warmup_steps=3, total_steps=13)
    assert lr_factor(schedule, 3) == lr_factor(schedule, 4) == 1
    assert lr_factor(schedule, 9) == pytest.approx(0.5)


def torch_schedule(name: str, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    """6 steps of warm-up, decay to 0.1 at step 30: all the way, or over the last 10."""
    warmup = lr_scheduler.LambdaLR(optimizer, lambda done: (done + 1) / 6)
    if name == "linear":
        rest = [lr_scheduler.LinearLR(optimizer, 1, 0.1, total_iters=24)]
    else:
        stable = lr_scheduler.LambdaLR(optimizer, lambda done: 1.0)
        rest = [stable, lr_scheduler.LinearLR(optimizer, 1, 0.1, total_iters=10)]
    return lr_scheduler.SequentialLR(optimizer, [warmup, *rest], [6, 20][: len(rest)])


def torch_losses(config: TrialConfig) -> tuple[list[float], list[float]]:
    """Held-out losses and lrs after each step of the loop that everybody writes."""
    task = cast(LinearRegression, make_task(config))
    stream = task.streams([config.seed], config.batch_size)
    weights = torch.zeros(16, dtype=torch.float64, requires_grad=True)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.optimizer.name]
    optimizer = make([weights], lr=config.lr)
    scheduler = torch_schedule(config.schedule.name, optimizer)
    losses, lrs = [], []
    for _ in range(40):
        inputs, labels = (leaf[0] for leaf in stream.next())
        optimizer.zero_grad()
        (inputs @ weights - labels).square().mean().backward()
        optimizer.step()
        lrs.append(scheduler.get_last_lr()[0])
        scheduler.step()
        losses.append(((weights.detach() - 1).square() @ task.eigenvalues).item())
    return losses, lrs


SPELLINGS = {  # of the same lengths: 40 steps of 4 examples are the budget
    "steps": {"warmup_steps": 6, "decay_steps": 10, "total_steps": 30},
    "examples": {"warmup_examples": 21, "decay_examples": 40, "total_examples": 119},
    "fractions": {"warmup_fraction": 0.15, "decay_fraction": 0.25, "total_fraction": 0.75},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["linear", "wsd"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_equals_torch_schedulers_in_a_stack_and_alone(
    optimizer: str, name: str, spelling: str
) -> None:
    fields = {k: v for k, v in SPELLINGS[spelling].items() if name == "wsd" or k[:5] != "decay"}
    schedule = ScheduleConfig(name, final_fraction=0.1, **fields)  # pyright: ignore
    one = regression_trial(optimizer, 40, precision="float64", lr=0.05, batch_size=4, seed=5)
    one = replace(one, schedule=schedule, evaluation=EvaluationConfig(40))
    together, _ = trained(one, replace(one, lr=0.02), replace(one, seed=1))
    alone, _ = trained(one)
    assert together.curves[0] == alone.curves[0]
    losses, lrs = torch_losses(one)
    assert [row[1] for row in alone.curves[0][1:]] == pytest.approx(losses, rel=1e-9)
    assert [row[3] for row in alone.curves[0][1:]] == pytest.approx(lrs, rel=1e-9)
    losses, _ = torch_losses(replace(one, lr=0.02))
    assert [row[1] for row in together.curves[1][1:]] == pytest.approx(losses, rel=1e-9)


@given(st.integers(1, 500), st.integers(1, 100_000), st.integers(1, 1000), st.integers(1, 100))
@example(1, 1, 100, 7)  # 0.07 * 100 is 7.000000000000001
def test_lengths_in_examples_and_fractions_are_rounded_up(
    batch_size: int, examples: int, max_steps: int, percent: int
) -> None:
    fields = {"warmup_examples": examples, "total_fraction": percent / 100}
    schedule = ScheduleConfig("linear", **fields)  # pyright: ignore[reportArgumentType]
    one = regression_trial(max_steps=max_steps, batch_size=batch_size, schedule=schedule)
    steps = in_steps(one)
    assert (steps.warmup_steps - 1) * batch_size < examples <= steps.warmup_steps * batch_size
    assert 100 * (steps.total_steps - 1) < percent * max_steps <= 100 * steps.total_steps
    assert (steps.warmup_examples, steps.total_fraction) == (None, None)


def test_a_fraction_is_of_the_limit_that_comes_first() -> None:
    one = regression_trial(schedule=ScheduleConfig("wsd", total_fraction=0.5), batch_size=10)
    assert in_steps(replace(one, budget=BudgetConfig(1000, 400))).total_steps == 20
    assert in_steps(replace(one, budget=BudgetConfig(30, 400))).total_steps == 15
    assert in_steps(replace(one, budget=BudgetConfig(None, 409))).total_steps == 20


@given(st.integers(1, 50), st.floats(1.001, 3), st.integers(0, 100_000))
def test_evaluations_are_dense_then_within_the_ratio(every: int, ratio: float, step: int) -> None:
    following = next_evaluation(EvaluationConfig(every, ratio), step)
    if step < every:
        assert following == step + 1
    else:
        assert following == step + 1 or step < following <= step * ratio
