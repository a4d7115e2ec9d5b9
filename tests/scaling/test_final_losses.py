"""Trials whose final loss counts: they run to the end of their budgets, whatever they reach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scaling.config import BudgetConfig, ScheduleConfig, StudyConfig, TrialConfig
from scaling.record.plan import finished
from scaling.record.study import TrialRecord
from scaling.schema import CENSORED, DIVERGED, FINAL_LOSSES, REACHED
from scaling.trial import prepare
from tests.scaling.trials import Memory, regression_trial, trained

FINAL = StudyConfig(report=FINAL_LOSSES)
DECAY = ScheduleConfig("linear", total_fraction=1.0)


def final_trial(**fields: object) -> TrialConfig:
    given = {"study": FINAL, "schedule": DECAY, "max_steps": 200, "lr": 0.2, "batch_size": 16}
    return regression_trial(**{**given, "relative_targets": [0.3], **fields})  # type: ignore[arg-type]


def test_a_target_does_not_end_it() -> None:
    """And it trains what the same trial of another study trains, up to that one's end."""
    config = final_trial()
    memory, [final, early] = trained(config, replace(config, study=StudyConfig()))
    assert (final.outcome, final.last_step) == (REACHED, 200)
    assert early.outcome == REACHED
    assert early.last_step < 100
    assert final.steps_to_target == early.steps_to_target
    short = memory.curves[1]
    assert memory.curves[0][: len(short)] == short


def test_it_may_have_no_target() -> None:
    _, [final] = trained(final_trial(relative_targets=[]))
    assert (final.outcome, final.last_step, final.steps_to_target) == (CENSORED, 200, {})


def test_one_that_diverges_after_its_target_has_no_final_loss() -> None:
    """At this lr the top direction grows while the loss first falls below 90 % of the start."""
    grows = {"lr": 1.06, "max_steps": 400, "relative_targets": [0.99], "divergence_factor": 1.5}
    config = final_trial(schedule=ScheduleConfig(), precision="float64", **grows)
    _, [final, other] = trained(config, replace(config, study=StudyConfig()))
    assert final.diverged_step is not None
    assert list(final.steps_to_target) == list(prepare([config])[0].targets)
    assert final.outcome == DIVERGED
    assert other.outcome == REACHED


def test_budgets_of_a_decaying_schedule_are_trials_of_their_own() -> None:
    budgets = [BudgetConfig(None, n) for n in (512, 1024, 1030)]
    decaying = prepare([final_trial(budget=budget) for budget in budgets])
    assert decaying[0].trial_id != decaying[1].trial_id
    assert decaying[0].stack_key != decaying[1].stack_key
    assert decaying[1].trial_id == decaying[2].trial_id  # of 64 steps both
    constant = prepare([final_trial(budget=b, schedule=ScheduleConfig()) for b in budgets])
    assert len({trial.trial_id for trial in constant}) == 1


def test_the_report_is_not_part_of_a_trial() -> None:
    final, other = prepare([final_trial(), final_trial(study=StudyConfig())])
    assert final.trial_id == other.trial_id
    assert final.ends_at_target is False
    assert other.ends_at_target is True


def test_a_record_that_ended_at_its_target_goes_on() -> None:
    """As a study that asked for steps to a target left it."""
    final, other = prepare([final_trial(), final_trial(study=StudyConfig())])
    short, [early] = trained(other.config)
    assert finished(other, recorded(short)) == replace(early, seconds=0.0)
    assert finished(final, recorded(short)) is None
    whole, [result] = trained(final.config)
    assert finished(final, recorded(whole)) == replace(result, seconds=0.0)


def recorded(memory: Memory) -> TrialRecord:
    steps, losses = ([row[i] for row in memory.curves[0]] for i in (0, 1))
    return TrialRecord(batch_size=16, steps=steps, losses=losses)  # type: ignore[arg-type]


def test_the_last_lr_is_a_step_from_the_end_of_the_decay() -> None:
    memory, _ = trained(final_trial())
    lrs = [row[3] for row in memory.curves[0][1:]]
    assert lrs[0] == 0.2
    assert lrs[-1] == pytest.approx(0.2 / 200, rel=1e-12)
    assert np.all(np.diff(np.array(lrs, float)) < 0)
