from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scaling.config import EvaluationConfig, ScheduleConfig
from scaling.schedules import lr_factor, next_evaluation


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


@given(st.integers(1, 50), st.floats(1.001, 3), st.integers(0, 100_000))
def test_evaluations_are_dense_then_within_the_ratio(every: int, ratio: float, step: int) -> None:
    following = next_evaluation(EvaluationConfig(every, ratio), step)
    if step < every:
        assert following == step + 1
    else:
        assert following == step + 1 or step < following <= step * ratio
