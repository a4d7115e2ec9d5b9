"""What journals say: merged curves, and whether they answer a request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import BudgetConfig, TrialConfig
from scaling.outcome import Watch
from scaling.record.checkpoint import Header
from scaling.record.journal import Journal
from scaling.record.plan import describe, differences, finished, plan
from scaling.record.study import BEGUN, FAILED, StudyRecord, TrialRecord, commits_of, read_record
from scaling.result import TrialResult
from scaling.tasks.config import CustomTaskConfig
from scaling.trial import prepare
from tests.scaling.trials import regression_trial, trained

SWEEP = {"study": "s", "name": "n", "note": "", "tags": {}}
CONFIG = regression_trial(lr=0.1, max_steps=300, relative_targets=[0.3, 0.1])


def recorded(config: TrialConfig) -> tuple[TrialRecord, TrialResult]:
    memory, [result] = trained(config)
    steps, losses = [row[0] for row in memory.curves[0]], [row[1] for row in memory.curves[0]]
    ended = (result.diverged_step, result.not_finite)
    return TrialRecord(config.batch_size, steps, losses, *ended, seconds=1.0), result


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, lr=0.003),
        replace(CONFIG, lr=30.0),
        replace(CONFIG, lr=30.0, divergence_factor=1e300),
        replace(CONFIG, relative_targets=[]),
    ],
    ids=["reached", "censored", "exploded", "not finite", "no target"],
)
def test_a_recorded_curve_gives_the_result_of_training(config: TrialConfig) -> None:
    record, result = recorded(config)
    [trial] = prepare([config])
    assert finished(trial, record) == replace(result, seconds=1.0)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_few_evaluations_say_what_all_of_them_say(data: st.DataObject) -> None:
    """Curves that rise and fall, meet targets and leave them, explode and are not finite."""
    [trial] = prepare([replace(CONFIG, divergence_factor=4.0)])
    start = trial.initial_loss
    factors = st.sampled_from([1.0, 0.5, 0.31, 0.3, 0.2, 0.1, 0.05, 3.9, 4.1, np.inf, np.nan])
    losses = [start * data.draw(factors) for _ in range(data.draw(st.integers(1, 60)))]
    record = TrialRecord(CONFIG.batch_size, list(range(len(losses))), losses)
    asked = replace(trial, cap=data.draw(st.integers(1, 70)))
    watch = Watch([asked])
    looked = (watch.look(step, np.array([0]), np.array([loss])) for step, loss in enumerate(losses))
    ended = any(len(numbers) for numbers in looked)
    result = finished(asked, replace(record, seconds=1.0))
    assert repr(result) == repr(replace(watch.result(0), seconds=1.0) if ended else None)


def test_easier_requests_are_answered_and_harder_ones_not() -> None:
    record, _ = recorded(CONFIG)

    def answered(**fields: object) -> bool:
        [trial] = prepare([replace(CONFIG, **fields)])  # pyright: ignore[reportArgumentType]
        return finished(trial, record) is not None

    assert answered(relative_targets=[0.5])
    assert answered(relative_targets=[0.2, 0.11])
    assert answered(tail_factor=1.5)
    assert answered(budget=BudgetConfig(20))
    assert not answered(relative_targets=[0.01])
    assert not answered(relative_targets=[])
    assert not answered(tail_factor=5.0)


def test_an_interrupted_curve_is_no_answer() -> None:
    record, _ = recorded(CONFIG)
    [trial] = prepare([CONFIG])
    cut = replace(record, steps=record.steps[:-1], losses=record.losses[:-1])
    assert finished(trial, cut) is None


def test_a_whole_curve_without_its_outcome_is_no_answer() -> None:
    record, _ = recorded(CONFIG)
    [trial] = prepare([CONFIG])
    assert finished(trial, record) is not None
    assert finished(trial, replace(record, status=BEGUN)) is None


def test_a_curve_with_a_hole_is_no_answer() -> None:
    record, _ = recorded(CONFIG)
    [trial] = prepare([CONFIG])
    hole = [position for position, step in enumerate(record.steps) if step == 7]
    for values in (record.steps, record.losses):
        del values[hole[0]]
    assert finished(trial, record) is None


def test_journals_are_merged_by_identity(tmp_path: Path) -> None:
    [trial] = prepare([CONFIG])
    for name, n_steps in (("1", 5), ("2", 8)):
        with Journal(tmp_path / f"{name}.jsonl", "s", SWEEP) as journal:
            header = {"trial_id": trial.trial_id, "params": {"batch_size": 64}}
            journal.write("trial", trial=3, **header)
            for step in range(n_steps):
                journal.write("evaluation", step=step, trials=[3], loss=[10.0 - step])
    with (tmp_path / "2.jsonl").open("a") as file:
        file.write('{"record": "evalu')  # the writer was killed here
    record = read_record(tmp_path)
    [known] = record.trials.values()
    assert known.steps == list(range(8))
    assert known.losses == [10.0 - step for step in range(8)]
    assert record.torn == [tmp_path / "2.jsonl"]
    planned = plan([trial], record)
    assert (planned.results, planned.to_do, planned.interrupted) == ({}, [0], {0})
    text = "\n".join(describe(planned, [trial], record))
    assert "examples     at most 19,200" in text
    assert "torn last line in" in text


def header_at(step: int, trial_id: str) -> Header:
    return Header(Path(f"{step}.ckpt"), step, step + 1, [trial_id], [1.0])


def test_a_checkpoint_needs_the_curve_up_to_it() -> None:
    record, _ = recorded(CONFIG)
    [trial] = prepare([replace(CONFIG, relative_targets=[])])
    study = StudyRecord({trial.trial_id: record})
    last = record.steps[-1]
    checkpoints = [header_at(step, trial.trial_id) for step in (5, last, last + 100)]
    planned = plan([trial], study, checkpoints)
    assert [header.step for header in planned.saved[0]] == [last, 5]  # newest first
    lost = record.steps.index(12)
    del record.steps[lost], record.losses[lost]  # a journal was removed
    planned = plan([trial], study, checkpoints)
    assert [header.step for header in planned.saved[0]] == [5]


def test_dry_run_counts_what_a_checkpoint_saves() -> None:
    record, _ = recorded(CONFIG)
    [trial] = prepare([replace(CONFIG, relative_targets=[])])
    study = StudyRecord({trial.trial_id: record})
    planned = plan([trial], study, [header_at(20, trial.trial_id)])
    text = "\n".join(describe(planned, [trial], study))
    assert "to continue       1 trials, 1 from a checkpoint and 0 from step 0" in text
    assert f"examples     at most {280 * 64:,}" in text


def test_dry_run_with_a_trial_that_has_no_finite_evaluation() -> None:
    record = TrialRecord(64, diverged_step=0, seconds=2.0)
    [trial] = prepare([CONFIG])
    other = prepare([replace(CONFIG, seed=1)])[0]
    study = StudyRecord({trial.trial_id: record})
    planned = plan([trial, other], study)
    assert planned.to_do == [1]
    assert describe(planned, [trial, other], study)[-1].startswith("time         about 2.0 s")


def test_a_failed_trial_is_told_from_an_interrupted_one() -> None:
    record, _ = recorded(CONFIG)
    [trial] = prepare([replace(CONFIG, relative_targets=[])])
    study = StudyRecord({trial.trial_id: record})
    record.status = FAILED
    assert (plan([trial], study).failed, plan([trial], study).interrupted) == ({0}, set())
    record.status = BEGUN  # again since
    assert (plan([trial], study).failed, plan([trial], study).interrupted) == (set(), {0})


def test_commits_and_changed_tasks_are_said() -> None:
    [trial] = prepare([CONFIG])
    own = replace(
        trial,
        config=replace(CONFIG, task=CustomTaskConfig(path="mine.Task")),
        task_content="new",
    )
    here = {"git_commit": "a" * 40, "code_git_commit": "c" * 40}
    study = StudyRecord(commits={commits_of(here)}, task_contents={"mine.Task": {"new"}})
    assert differences([own], study, here) == []
    study.task_contents["mine.Task"] = {"old"}
    [changed] = differences([own], study, here)
    assert changed.startswith("task.path=mine.Task: its code or data changed")
    [commits] = differences([trial], study, {**here, "git_commit": "b" * 40})
    assert "aaaaaaaaaaaa, cccccccccccc; now bbbbbbbbbbbb, cccccccccccc" in commits
