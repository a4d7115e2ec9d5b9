"""What journals say: merged curves, and whether they answer a request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scaling.config import BudgetConfig, TrialConfig
from scaling.journal import Journal
from scaling.record import TrialRecord, describe, finished, plan, read_record
from scaling.result import TrialResult
from scaling.trial import prepare
from tests.scaling.trials import regression_trial, trained

SWEEP = {"study": "s", "name": "n", "note": "", "tags": {}}
CONFIG = regression_trial(lr=0.1, max_steps=300, relative_targets=[0.3, 0.1])


def recorded(config: TrialConfig) -> tuple[TrialRecord, TrialResult]:
    memory, [result] = trained(config)
    steps, losses = [row[0] for row in memory.curves[0]], [row[1] for row in memory.curves[0]]
    return TrialRecord(config.batch_size, steps, losses, result.diverged_step, 1.0), result


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
