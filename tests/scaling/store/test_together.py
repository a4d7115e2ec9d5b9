"""Trials written together: each once and whole, whatever happens meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from scaling.result import TrialResult
from scaling.store import bulk as bulk_module
from scaling.store.bulk import Bulk
from scaling.store.client import Store
from scaling.store.sync import Sync
from tests.conftest import store_of
from tests.scaling.store.test_bulk import replay
from tests.scaling.store.test_tracking import new_journal, runs_of, write_trial
from tests.stores.rows import named_runs, points_of, tables_of
from tests.stores.servers import Postgres


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


@pytest.fixture
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_of("sqlite", request, tmp_path)


def runs_of_one_sweep(folder: Path) -> None:
    with new_journal(folder, "1") as journal:
        for number in range(5):
            write_trial(journal, number, 6)
        journal.write("end", status="FINISHED")


def test_a_record_written_twice_changes_nothing(folder: Path, uri: str) -> None:
    runs_of_one_sweep(folder)
    replay(folder, uri, "sweep-1")
    tables = tables_of(uri)
    [note] = folder.glob("synced-*")
    assert replay(folder, uri, "sweep-1").written == 0
    assert tables_of(uri) == tables
    note.unlink()
    assert replay(folder, uri, "sweep-1").written == 5
    assert tables_of(uri) == tables


def test_another_folder_with_trials_of_the_study_goes_together_too(
    folder: Path, uri: str, requests: list[str]
) -> None:
    """The store has runs that its note does not know: only what it may have is asked for."""
    runs_of_one_sweep(folder)
    replay(folder, uri, "sweep-1")
    other = folder.parent / "other"
    other.mkdir()
    with new_journal(other, "3", "sweep-3") as journal:
        for number in (3, 4, 5, 6, 7):
            write_trial(journal, number, 6)
    replay(other, uri, "sweep-3")
    _, runs = named_runs(uri)
    assert set(requests) == {runs["id3"].info.run_id, runs["id4"].info.run_id}
    assert len(runs) == 2 + 8
    assert len(points_of(uri)) == 8 * (7 + 7 + 6 + 1)


def die(folder: Path, uri: str, where: str) -> None:
    """In a process of its own: SIGKILL before or after a transaction's end."""

    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    engine = Bulk(uri, "1")._engine.__class__
    if where == "in":  # the points are inserted, their latest are not
        event.listen(
            engine,
            "before_cursor_execute",
            lambda *about: (
                killed() if "INTO latest_metrics" in about[2] and len(about[3]) > 1 else 0
            ),
        )
    else:
        write = Bulk.write
        pytest.MonkeyPatch().setattr(Bulk, "write", lambda *about: killed(write(*about)))
    replay(folder, uri, "sweep-1")


@pytest.mark.long
@pytest.mark.parametrize("where", ["in", "after"])
def test_a_kill_leaves_all_or_nothing_and_then_all_once(where: str, folder: Path, uri: str) -> None:
    runs_of_one_sweep(folder)
    process = multiprocessing.get_context("spawn").Process(target=die, args=(folder, uri, where))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    whole = 5 * (7 + 7 + 6 + 1)
    assert len(points_of(uri)) == (whole if where == "after" else 0)
    rows = tables_of(uri)
    assert len(rows["runs"]) == (6 if where == "after" else 1)  # the sweep's own
    assert len(rows["latest_metrics"]) == (20 if where == "after" else 0)
    assert replay(folder, uri, "sweep-1").left_out == {}
    assert len(points_of(uri)) == whole
    runs = runs_of(uri)[1]
    assert len(runs) == 6
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


@pytest.mark.parametrize("committed", [True, False])
def test_a_lost_answer_doubles_nothing(
    committed: bool, folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_of_one_sweep(folder)
    write, losses = Bulk.write, [1, 2]

    def lost(*about: Any) -> Any:
        if not losses:
            return write(*about)
        losses.pop()
        if committed:
            write(*about)
        raise OperationalError("COMMIT", {}, ConnectionResetError("connection reset"))

    monkeypatch.setattr(Bulk, "write", lost)
    sync = Sync(folder, Store(uri, "study"), uri)
    failures = 0
    for _ in range(20):
        try:
            sync.step()
        except OperationalError:
            failures += 1
    sync.close("sweep-1", "FINISHED")
    assert failures == (1 if committed else 2)  # what the store has is written on through the API
    assert len(runs_of(uri)[1]) == 6
    assert len(points_of(uri)) == 5 * (7 + 7 + 6 + 1)


def test_a_locked_database_is_away(folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "BUSY_MILLISECONDS", 50)
    runs_of_one_sweep(folder)
    sync = Sync(folder, Store(uri, "study"), uri)
    sync._read()
    sync._runs.of_sweep(sync._ended[0].sweep)
    lock = sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(OperationalError, match="database is locked"):
            sync.step()
    lock.execute("ROLLBACK")
    lock.close()
    sync.close("sweep-1", "FINISHED")
    assert len(points_of(uri)) == 5 * (7 + 7 + 6 + 1)


@pytest.mark.parametrize("when", ["at the start", "meanwhile"])
def test_tables_that_were_not_tested_are_left_to_the_api(
    when: str, folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch, requests: list[str]
) -> None:
    runs_of_one_sweep(folder)
    said: list[str] = []
    [revision] = bulk_module.TESTED
    if when == "at the start":
        monkeypatch.setattr(bulk_module, "TESTED", ("fedcba987654",))
    sync = Sync(folder, Store(uri, "study"), uri, said.append)
    monkeypatch.setattr(bulk_module, "TESTED", ("fedcba987654",))
    sync.close("sweep-1", "FINISHED")
    assert said == [
        f"the store's tables have the revision {revision}, which this version was not tested with: "
        "trials are written one by one through MLflow's API, which is slower"
    ]
    assert sync.left_out == {}
    assert len(requests) == 5
    assert len(points_of(uri)) == 5 * (7 + 7 + 6 + 1)


@pytest.mark.long
def test_a_text_that_postgresql_refuses_keeps_no_other_trial_out(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    server: Postgres = request.getfixturevalue("postgres")
    uri = server.create(f"refused-{time.time_ns()}")
    with new_journal(folder, "1") as journal:
        for number in range(5):
            write_trial(journal, number, 6)
        header = {"trial_id": "bad", "name": "a \0 b", "params": {"batch_size": 4, "lr": 0.1}}
        journal.write("trial", trial=9, **header, tags={}, config="")
        result = TrialResult("reached", {0.5: "reached"}, {0.5: 2.0}, 3, 0.2, None, 0.25)
        journal.write("outcome", trial=9, **result.as_line())
    sync = replay(folder, uri, "sweep-1")
    assert (sync.n_refused, sync.written) == (1, 5)
    assert len(points_of(uri)) == 5 * (7 + 7 + 6 + 1)


def test_an_experiment_deleted_meanwhile_gets_no_rows(folder: Path, uri: str) -> None:
    store = Store(uri, "study")
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 6)
        sync = Sync(folder, store, uri)
        sync.step()
        named_runs(uri)[0].delete_experiment(store.experiment_id)
        for number in range(1, 5):
            write_trial(journal, number, 6)
    sync.close("sweep-1", "FINISHED")
    assert sync.n_refused == 4
    assert len(tables_of(uri)["runs"]) == 2


def test_points_of_trials_still_training_go_together(
    folder: Path, uri: str, requests: list[str]
) -> None:
    with new_journal(folder, "1") as journal:
        for number in range(5):
            write_trial(journal, number, 3, end=False)
        sync = Sync(folder, Store(uri, "study"), uri)
        sync.step()
        for trial in sync._trials.values():
            trial.since -= 60
        sync.write_stale()
        assert len(points_of(uri)) == 5 * (4 + 4 + 3)
        assert {run.info.status for run in runs_of(uri)[1].values()} == {"RUNNING"}
        for number in range(5):
            write_trial(journal, number, 6, begin=4)
    sync.close("sweep-1", "FINISHED")
    assert requests == []
    assert len(points_of(uri)) == 5 * (7 + 7 + 6 + 1)
    assert {run.info.status for run in runs_of(uri)[1].values()} == {"FINISHED"}
