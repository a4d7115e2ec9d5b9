"""The writer against a real SQLite store: what the journal says stands in MLflow, once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scaling import schema
from scaling.journal import Journal, JournalReader
from scaling.tracking import (
    Store,
    StoreError,
    SweepRecord,
    quiet_mlflow,
    store_message,
    without_password,
)
from scaling.writer import Writer

SWEEP = SweepRecord("study", "sweep-1", "the note", "how?", {"host": "here", "git_commit": "abc"})


def write_trial(journal: Journal, number: int, steps: int, end: bool = True) -> None:
    journal.write(
        "trial",
        trial=number,
        trial_id=f"id{number}",
        name=f"B=4 seed={number}",
        params={"batch_size": 4, "lr": 0.1, "targets": [0.5], "optimizer.name": "sgd"},
        tags={"overrides": "lr=0.1"},
        config="batch_size: 4\n",
    )
    journal.write("evaluation", step=0, trials=[number], loss=[2.0])
    for step in range(1, steps + 1):
        journal.write(
            "evaluation", step=step, trials=[number], loss=[1 / step], train_loss=[2 / step]
        )
    if end:
        tags, metrics = {"outcome": "reached"}, {"steps_to_target/0.5": 2.0}
        journal.write("outcome", trial=number, last_step=steps, tags=tags, metrics=metrics)


def runs_of(uri: str):
    quiet_mlflow()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return client, {
        run.data.tags[schema.KIND] + run.data.tags.get("trial_id", ""): run for run in runs
    }


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_everything_arrives_once(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        write_trial(journal, 9, 3)  # of an earlier call: not to be written again
        writer = Writer(uri, SWEEP, path)
        write_trial(journal, 0, 1500)  # more points than one request takes
        write_trial(journal, 1, 3)
        counts: list[int] = []
        writer.close("FINISHED", counts.append)
    client, runs = runs_of(uri)
    assert sorted(runs) == ["sweep", "trialid0", "trialid1"]
    parent, child = runs["sweep"], runs["trialid0"]
    assert parent.info.status == child.info.status == "FINISHED"
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["git_commit"] == "abc"
    assert child.data.tags["outcome"] == "reached"
    assert parent.data.tags["mlflow.note.content"] == "the note"
    assert child.data.params == {
        "batch_size": "4",
        "lr": "0.1",
        "targets": "[0.5]",
        "optimizer.name": "sgd",
    }
    assert child.data.metrics["steps_to_target/0.5"] == 2.0
    history = sorted(client.get_metric_history(child.info.run_id, "loss"), key=lambda m: m.step)
    assert [m.step for m in history] == list(range(1501))
    assert [m.value for m in history] == [2.0, *(1 / step for step in range(1, 1501))]
    examples = client.get_metric_history(child.info.run_id, "examples")
    assert {(m.step, m.value) for m in examples} == {(s, 4.0 * s) for s in range(1501)}
    assert len(client.get_metric_history(child.info.run_id, "train_loss")) == 1500
    artifact = client.download_artifacts(child.info.run_id, "config.yaml", str(tmp_path))
    assert Path(artifact).read_text() == "batch_size: 4\n"
    assert str(child.info.artifact_uri).startswith(tmp_path.as_uri())


def test_points_of_a_trial_still_training_are_seen(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        writer = Writer(uri, SWEEP, path)
        write_trial(journal, 0, 3, end=False)
        deadline = time.monotonic() + 30
        while "trialid0" not in runs_of(uri)[1] and time.monotonic() < deadline:
            time.sleep(0.5)
        run = runs_of(uri)[1]["trialid0"]
        assert run.info.status == "RUNNING"
        assert run.data.metrics["loss"] == 1 / 3
        journal.write("outcome", trial=0, last_step=3, tags={"outcome": "censored"}, metrics={})
        writer.close("FINISHED")
    client, runs = runs_of(uri)
    assert runs["trialid0"].info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 4


def test_a_sweep_that_stops_leaves_no_run_running(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        writer = Writer(uri, SWEEP, path)
        write_trial(journal, 0, 3, end=False)
        writer.close("KILLED")
    _, runs = runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"KILLED"}


def test_jobs_of_one_sweep_share_their_parent(tmp_path: Path, uri: str) -> None:
    path = tmp_path / "journal.jsonl"
    for number in range(2):
        with Journal(path) as journal:
            writer = Writer(uri, SWEEP, path)
            write_trial(journal, number, 2)
            writer.close("FINISHED")
    _, runs = runs_of(uri)
    assert sorted(runs) == ["sweep", "trialid0", "trialid1"]


@pytest.mark.parametrize("content", [None, b"rubbish that is no database" * 9])
def test_a_store_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    database = tmp_path / "folder" / "mlflow.db"
    if content is not None:
        database.parent.mkdir()
        database.write_bytes(content)
    (tmp_path / "journal.jsonl").touch()
    with pytest.raises(StoreError) as caught:
        Writer(f"sqlite:///{database}", SWEEP, tmp_path / "journal.jsonl")
    assert str(caught.value).startswith(f"tracking.uri=sqlite:///{database}: the MLflow store")
    assert "\n" not in str(caught.value)


def test_a_deleted_experiment_is_named(tmp_path: Path, uri: str) -> None:
    Store(uri, SWEEP)
    client, runs = runs_of(uri)
    client.delete_experiment(runs["sweep"].info.experiment_id)
    with pytest.raises(StoreError, match="experiment 'study' is deleted"):
        Store(uri, SWEEP)


def test_the_reader_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b"')
    with JournalReader(path) as reader:
        assert reader.read() == [{"a": 1}]
        assert reader.read() == []
        with path.open("ab") as file:
            file.write(b": 2}\n")
        assert reader.read() == [{"b": 2}]
    with JournalReader(path, start=9) as reader:
        assert reader.read() == [{"b": 2}]


def test_the_journal_takes_no_number_that_is_not_finite(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal, pytest.raises(ValueError, match="JSON"):
        journal.write("evaluation", step=1, trials=[0], loss=[float("nan")])


def test_passwords_are_not_shown() -> None:
    uri = "postgresql+psycopg://me:secret@host:5432/db"
    assert without_password(uri) == "postgresql+psycopg://me:***@host:5432/db"
    assert "secret" not in store_message(uri, RuntimeError(f"cannot connect to {uri}"))
