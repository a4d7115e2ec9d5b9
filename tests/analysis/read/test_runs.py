"""Reading a study: both ways give equal frames, what does not count is said, errors are clear."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis.errors import AnalysisError
from analysis.read.runs import read_study, tidy
from analysis.read.store_client import read_client
from analysis.read.store_database import read_database
from analysis.read.stores import public_uri
from scaling.addresses import resolve_tracking_uri
from tests.analysis.conftest import STUDY_NAME, Frames
from tests.analysis.read.stored import Edit, new_store, write_study

Store = Callable[..., str]


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, small_study: Frames) -> Store:
    """Writes the first n trials of the small study, edited, into a store of their own."""
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())

    def write(n: int, edit: Edit | None = None) -> str:
        trials, curves = small_study
        write_study(new_store(tmp_path), STUDY_NAME, trials.head(n), curves, edit)
        return new_store(tmp_path)

    return write


def test_what_was_written_is_read(small_store: str, small_study: Frames) -> None:
    trials, curves = read_study(STUDY_NAME, small_store)
    written, points = small_study
    assert len(trials) == len(written)
    assert trials.attrs["left_out"] == []
    assert [sweep["git.commit"] for sweep in trials.attrs["sweeps"]] == ["0123abc"]
    both = trials.merge(written, on=["batch_size", "lr", "seed"], suffixes=("", "_written"))
    assert len(both) == len(written)
    for name in ("trial_id", "outcome", "last_step", "targets", "task.dimension", "task.name"):
        assert both[name].tolist() == both[f"{name}_written"].tolist(), name
    assert trials["batch_size"].dtype == trials["seed"].dtype == np.int64
    assert trials["task.label_noise"].dtype == np.float64
    names = trials.set_index("run_id")["trial_id"]
    read = curves.assign(run_id=curves["run_id"].map(names)).sort_values(["run_id", "step"])
    expected = points.sort_values(["run_id", "step"])
    for name in ("step", "loss", "examples"):
        np.testing.assert_array_equal(read[name], expected[name])
    assert curves.loc[curves["step"] == 0, "train_loss"].isna().all()
    assert curves.groupby("run_id")["step"].apply(lambda s: s.is_monotonic_increasing).all()


def test_database_and_client_give_equal_frames(small_store: str) -> None:
    by_sql = tidy(read_database(STUDY_NAME, small_store), STUDY_NAME)
    by_client = tidy(read_client(STUDY_NAME, small_store), STUDY_NAME)
    for one, other in zip(by_sql, by_client, strict=True):
        pd.testing.assert_frame_equal(one, other)
        assert one.attrs == other.attrs


def test_probes_and_step_seconds(store: Store) -> None:
    uri = store(4)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY_NAME)
    assert experiment is not None
    (first, *_) = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    client.log_metric(first.info.run_id, "step_seconds", 0.25, step=7)
    for end, seconds in ((1, 0.5), (2, 0.125)):  # the same shape, timed twice
        tags = {"kind": "probe", "trial_id": "shape"}
        run_id = client.create_run(experiment.experiment_id, tags=tags).info.run_id
        client.log_param(run_id, "batch_size", 8)
        for step in (3, 4):
            client.log_metric(run_id, "step_seconds", seconds, step=step)
        client.set_terminated(run_id, end_time=end)
    for read in (read_database, read_client):
        trials, curves = tidy(read(STUDY_NAME, uri), STUDY_NAME)
        assert len(trials) == 4
        timed = trials.set_index("run_id")["step_seconds"].dropna()
        assert timed.to_dict() == {first.info.run_id: 0.25}
        assert curves["loss"].notna().all()
        assert "step_seconds" not in curves
        assert trials.attrs["probes"] == [{"batch_size": 8, "step_seconds": (0.125, 0.125)}]


def test_newest_finished_run_of_a_trial_counts(store: Store, small_study: Frames) -> None:
    again, failed = small_study[0]["trial_id"].head(2)

    def second(row: dict[str, Any]) -> None:
        row["seconds"] = 2.0
        row["status"] = "FAILED" if row["trial_id"] == failed else "FINISHED"

    store(4)
    trials, _ = read_study(STUDY_NAME, store(2, second))
    seconds = trials.set_index("trial_id")["seconds"]
    assert len(seconds) == 4
    assert seconds[again] == 2.0
    assert seconds[failed] == 0.1
    assert trials.attrs["left_out"] == [
        "Trials left out because they did not finish: 1 FAILED.",
        "Shorter or older runs of a trial that was run again, left out: 1.",
    ]


def test_unfinished_and_broken_trials_are_left_out_and_said(store: Store) -> None:
    faults = iter(["RUNNING", "FAILED", "no lr", "none", "none", "none"])

    def edit(row: dict[str, Any]) -> None:
        fault = next(faults)
        if fault == "no lr":
            del row["lr"]
        elif fault != "none":
            row["status"] = fault

    trials, curves = read_study(STUDY_NAME, store(6, edit))
    assert len(trials) == 3
    assert set(curves["run_id"]) == set(trials["run_id"])
    assert trials.attrs["left_out"] == [
        "Trials left out because they did not finish: 1 FAILED, 1 RUNNING.",
        "Trials left out because their record lacks params or losses: 1.",
    ]


def test_points_written_again_and_non_finite_ones(store: Store) -> None:
    uri = store(1)
    trials, before = read_study(STUDY_NAME, uri)
    client, run_id = MlflowClient(uri), trials["run_id"].iloc[0]
    client.log_metric(run_id, "loss", 123.0, timestamp=2 * 10**12, step=3)  # resumed and rewritten
    client.log_metric(run_id, "loss", math.nan, timestamp=2 * 10**12, step=4)
    client.log_metric(run_id, "loss", math.inf, timestamp=2 * 10**12, step=5)
    for read in (read_database, read_client):
        _, after = tidy(read(STUDY_NAME, uri), STUDY_NAME)
        assert after.loc[after["step"] == 3, "loss"].tolist() == [123.0]
        others = after["step"] != 3
        pd.testing.assert_frame_equal(after[others], before[others])


def _all(**changes: str) -> Edit:
    return lambda row: row.update(changes)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_all(status="RUNNING"), r"none of its 2 trials is finished \(2 RUNNING\)"),
        (_all(status="KILLED"), r"none of its 2 trials is finished \(2 KILLED\)"),
        (_all(outcome="diverged"), "all of its 2 finished trials diverged"),
        (lambda row: row.pop("batch_size"), "no finished trial has .* the params batch_size"),
    ],
)
def test_a_study_that_says_nothing(store: Store, edit: Edit, says: str) -> None:
    with pytest.raises(AnalysisError, match=f"^study={STUDY_NAME}: {says}"):
        read_study(STUDY_NAME, store(2, edit))


def test_a_study_without_trials(store: Store) -> None:
    with pytest.raises(AnalysisError, match="the experiment has no trials"):
        read_study(STUDY_NAME, store(0))


@pytest.mark.parametrize("read", [read_database, read_client])
def test_unknown_study_lists_what_there_is(small_store: str, read: Any) -> None:
    with pytest.raises(
        AnalysisError, match=f"study=nothing: no experiment .* there: {STUDY_NAME}$"
    ):
        read("nothing", small_store)


def test_a_missing_store_is_not_created(tmp_path: Path) -> None:
    uri = new_store(tmp_path)
    with pytest.raises(AnalysisError, match="there is no such file"):
        read_study(STUDY_NAME, uri)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(AnalysisError, match="cannot be read as an MLflow store"):
        read_study(STUDY_NAME, new_store(tmp_path))
    sqlite3.connect(tmp_path / "other.db").close()
    (tmp_path / "other.db").touch()
    with pytest.raises(AnalysisError, match="cannot be read as an MLflow store"):
        read_study(STUDY_NAME, f"sqlite:///{tmp_path / 'other.db'}")


def test_missing_driver_and_password_are_handled() -> None:
    with pytest.raises(AnalysisError, match=r"driver nodriver|cannot be read") as caught:
        read_study(STUDY_NAME, "postgresql+nodriver://me:secret@nowhere/mlflow")
    assert "secret" not in str(caught.value)
    assert public_uri("http://me:secret@host/x") == "http://me:***@host/x"


def test_tracking_uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///sub/x.db")
    assert resolve_tracking_uri() == f"sqlite:///{tmp_path}/sub/x.db"
    assert resolve_tracking_uri("http://host:5000") == "http://host:5000"
    assert resolve_tracking_uri("sqlite:////a/b.db") == "sqlite:////a/b.db"
