"""Journals into real stores: every run and every point, once, whatever is repeated."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling import schema
from scaling.addresses import without_password
from scaling.record.journal import Journal
from scaling.result import TrialResult
from scaling.store.check import StoreError, store_message
from scaling.store.client import Store, quiet_mlflow
from scaling.store.follow import Destination
from scaling.store.sync import Sync
from scaling.store.writer import Writer
from tests.conftest import store_of
from tests.stores.rows import ends_of, points_of, rename_study
from tests.stores.servers import STORES

SWEEP = {
    "study": "study",
    "name": "sweep-1",
    "note": "the note",
    "tags": {"host": "here", "directory": "/work/it's", "git_commit": "abc"},
}


def new_journal(folder: Path, name: str, sweep: str = "sweep-1") -> Journal:
    return Journal(folder / f"{name}.jsonl", "study", {**SWEEP, "name": sweep})


def write_trial(
    journal: Journal, number: int, steps: int, end: bool = True, begin: int = 0
) -> None:
    journal.write(
        "trial",
        trial=number,
        trial_id=f"id{number}",
        name=f"B=4 seed={number}",
        params={"batch_size": 4, "lr": 0.1, "targets": [0.5], "optimizer.name": "sgd"},
        tags={"overrides": "lr=0.1"},
        config="batch_size: 4\n",
    )
    if begin == 0:
        journal.write("evaluation", step=0, trials=[number], loss=[2.0])
    for step in range(max(1, begin), steps + 1):
        journal.write(
            "evaluation", step=step, trials=[number], loss=[1 / step], train_loss=[2 / step]
        )
    if end:
        result = TrialResult("reached", {0.5: "reached"}, {0.5: 2.0}, steps, 1 / steps, None, 0.25)
        journal.write("outcome", trial=number, **result.as_line())


def runs_of(uri: str):
    quiet_mlflow()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    named = [run.data.tags[schema.KIND] + run.data.tags.get("trial_id", "") for run in runs]
    assert len(named) == len(set(named))
    return client, dict(zip(named, runs, strict=True))


LONG = pytest.mark.long
EACH = ["sqlite", "postgresql", pytest.param("http", marks=LONG)]
EACH_BY_WRITER = [kind if kind == "sqlite" else pytest.param(kind, marks=LONG) for kind in STORES]


@pytest.fixture(params=EACH)
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    uri = store_of(request.param, request, tmp_path)
    yield uri
    if request.param != "sqlite":
        rename_study(uri)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


def open_writer(uri: str, folder: Path) -> Writer:
    writer = Writer(Destination(uri, "study", "how?", folder, "sweep-1"))
    writer.wait_until_open()
    return writer


def replay(folder: Path, uri: str, status: str = "FINISHED") -> int:
    sync = Sync(folder, Store(uri, "study", "how?"), uri)
    sync.close("sweep-1", status)
    return sync.written


@pytest.mark.parametrize("uri", EACH_BY_WRITER, indirect=True)
def test_everything_arrives_once(tmp_path: Path, folder: Path, uri: str) -> None:
    writer = open_writer(uri, folder)
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 1500)  # more points than one request takes
        write_trial(journal, 1, 3)
        journal.write("end", status="FINISHED")
    counts: list[tuple[int, int]] = []
    writer.close("FINISHED", lambda written, left: counts.append((written, left)))
    assert counts[-1] == (2, 0)
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
        "optimizer.name": "sgd",
    }
    assert child.data.tags["targets"] == "[0.5]"
    assert child.data.metrics["steps_to_target/0.5"] == 2.0
    history = sorted(client.get_metric_history(child.info.run_id, "loss"), key=lambda m: m.step)
    assert [m.step for m in history] == list(range(1501))
    assert [m.value for m in history] == [2.0, *(1 / step for step in range(1, 1501))]
    examples = client.get_metric_history(child.info.run_id, "examples")
    assert {(m.step, m.value) for m in examples} == {(s, 4.0 * s) for s in range(1501)}
    assert len(client.get_metric_history(child.info.run_id, "train_loss")) == 1500
    artifact = client.download_artifacts(child.info.run_id, "config.yaml", str(tmp_path))
    assert Path(artifact).read_text() == "batch_size: 4\n"
    if uri.startswith("sqlite"):
        assert str(child.info.artifact_uri).startswith(tmp_path.as_uri())


@pytest.mark.long
@pytest.mark.parametrize("uri", EACH_BY_WRITER, indirect=True)
def test_points_of_a_trial_still_training_are_seen(folder: Path, uri: str) -> None:
    writer = open_writer(uri, folder)
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3, end=False)
        deadline = time.monotonic() + 30
        run = None
        while run is None or "loss" not in run.data.metrics:  # made before its points are written
            assert time.monotonic() < deadline
            time.sleep(0.5)
            run = runs_of(uri)[1].get("trialid0")
        assert run.info.status == "RUNNING"
        assert run.data.metrics["loss"] == 1 / 3
        write_trial(journal, 0, 5, begin=4)
        writer.close("FINISHED")
    client, runs = runs_of(uri)
    assert runs["trialid0"].info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 6


def test_replaying_changes_nothing(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 30)
        write_trial(journal, 1, 30)
    assert replay(folder, uri) == 2
    points, runs = points_of(uri), runs_of(uri)[1]
    assert replay(folder, uri) == 0
    [note] = folder.glob("synced-*")
    for content in (note.read_bytes()[:-3], note.read_bytes()[:400], b""):
        note.write_bytes(content)  # lost, old, or torn by a crash
        replay(folder, uri)
        replay(folder, uri)
        assert points_of(uri) == points
        assert set(runs_of(uri)[1]) == set(runs)
        assert {r.info.run_id for r in runs_of(uri)[1].values()} == {
            r.info.run_id for r in runs.values()
        }


def test_a_run_that_was_closed_is_not_closed_again(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 10, end=False)
    replay(folder, uri, "KILLED")
    before = [end for _, end in ends_of(uri)]
    with new_journal(folder, "2", "sweep-2") as journal:
        write_trial(journal, 1, 5)
        journal.write("end", status="FINISHED")
    Sync(folder, Store(uri, "study"), uri).close("sweep-2", "FINISHED")
    after = ends_of(uri)
    assert sorted(status for status, _ in after) == ["FINISHED"] * 2 + ["KILLED"] * 2
    ends = [end for status, end in after if status == "KILLED"]
    assert sorted(ends) == sorted(before)


def test_a_trial_done_again_keeps_its_run_and_its_points(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 10, end=False)  # killed
    replay(folder, uri, "KILLED")
    assert runs_of(uri)[1]["trialid0"].info.status == "KILLED"
    with new_journal(folder, "2", "sweep-2") as journal:
        write_trial(journal, 0, 20)
        journal.write("end", status="FINISHED")
    sync = Sync(folder, Store(uri, "study"), uri)
    sync.close("sweep-2", "FINISHED")
    client, runs = runs_of(uri)
    assert runs["trialid0"].info.status == "FINISHED"
    steps = [m.step for m in client.get_metric_history(runs["trialid0"].info.run_id, "loss")]
    assert sorted(steps) == list(range(21))


def write_failure(journal: Journal, number: int, log: Path) -> None:
    write_trial(journal, number, 0, end=False, begin=1)  # the header alone
    journal.write("failure", trial=number, error="ValueError: no", log=str(log))


def test_a_failed_trial_says_so_until_it_is_done(folder: Path, uri: str, tmp_path: Path) -> None:
    log = folder / "train.log"
    log.write_text("the whole story")
    with new_journal(folder, "2") as journal:
        write_trial(journal, 0, 4, end=False)
        time.sleep(0.01)
        with new_journal(folder, "1") as parent:  # read before the worker's, written after it
            write_failure(parent, 0, log)
    run_ids = set()
    for _ in range(2):
        replay(folder, uri, "FAILED")
        client, runs = runs_of(uri)
        failed = runs["trialid0"]
        run_ids.add(failed.info.run_id)
        assert failed.info.status == "FAILED"
        assert failed.data.tags["error"] == "ValueError: no"
        artifact = client.download_artifacts(failed.info.run_id, "train.log", str(tmp_path))
        assert Path(artifact).read_text() == "the whole story"
        assert len(client.get_metric_history(failed.info.run_id, "loss")) == 5
    time.sleep(0.01)
    with new_journal(folder, "3", "sweep-2") as journal:
        write_trial(journal, 0, 6)
    replay(folder, uri)
    done = runs_of(uri)[1]["trialid0"]
    assert done.info.status == "FINISHED"
    assert "error" not in done.data.tags
    assert {done.info.run_id} == run_ids


def test_a_trial_that_goes_on_is_running_again(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3, end=False)
    replay(folder, uri, "KILLED")
    with new_journal(folder, "2", "sweep-2") as journal:
        time.sleep(0.01)
        write_trial(journal, 0, 6, end=False)
        sync = Sync(folder, Store(uri, "study"), uri)
        while sync.step():
            pass
        sync.close_left_over("sweep-2")
        sync._write(sync._trials["id0"])
        assert runs_of(uri)[1]["trialid0"].info.status == "RUNNING"
        sync.close("sweep-2", "KILLED")
        assert runs_of(uri)[1]["trialid0"].info.status == "KILLED"


@pytest.mark.long
@pytest.mark.parametrize("uri", EACH_BY_WRITER, indirect=True)
def test_a_store_made_anew_gets_everything_again(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 5)
    open_writer(uri, folder).close("FINISHED")
    points = points_of(uri)
    if uri.startswith("sqlite"):
        Path(uri.removeprefix("sqlite:///")).unlink()
    else:
        rename_study(uri)
    open_writer(uri, folder).close("FINISHED")
    assert points_of(uri) == points
    assert len(points) == 6 + 6 + 5 + 1


def test_a_sweep_that_stops_leaves_no_run_running(folder: Path, uri: str) -> None:
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3, end=False)
    replay(folder, uri, "KILLED")
    _, runs = runs_of(uri)
    assert {run.info.status for run in runs.values()} == {"KILLED"}


@pytest.mark.long
def test_a_locked_database_is_waited_for(folder: Path, sqlite: str) -> None:
    writer = open_writer(sqlite, folder)
    lock = sqlite3.connect(sqlite.removeprefix("sqlite:///"), check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(25, lock.rollback)  # longer than SQLite itself waits
    release.start()
    with new_journal(folder, "1") as journal:
        write_trial(journal, 0, 3)
        writer.close("FINISHED")
    release.join()
    lock.close()
    assert len(runs_of(sqlite)[1]) == 2
    assert (
        len({point[:3] for point in points_of(sqlite)}) == len(points_of(sqlite)) == 4 + 4 + 3 + 1
    )


@pytest.mark.parametrize("content", [None, b"rubbish that is no database" * 9])
def test_a_store_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    database = tmp_path / "folder" / "mlflow.db"
    if content is not None:
        database.parent.mkdir()
        database.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        open_writer(f"sqlite:///{database}", tmp_path)
    assert str(caught.value).startswith(f"tracking.uri=sqlite:///{database}: the MLflow store")
    assert "\n" not in str(caught.value)


def open_store(uri: str) -> str:
    return Store(uri, "study").experiment_id


def open_at_once(uri: str, n_processes: int) -> None:
    """Every process a fresh one; mlflow is imported before they part, so that they collide."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mlflow.store.tracking.sqlalchemy_store", "scaling.store.client"]
    )
    with context.Pool(n_processes) as pool:
        assert len(set(pool.map(open_store, [uri] * n_processes, chunksize=1))) == 1


@pytest.mark.long
def test_a_fresh_store_opened_by_many_at_once(sqlite: str) -> None:
    open_at_once(sqlite, 16)


@pytest.mark.long
def test_a_fresh_store_opened_by_64_at_once_5_times(tmp_path: Path) -> None:
    for number in range(5):
        open_at_once(f"sqlite:///{tmp_path}/{number}.db", 64)


def test_a_deleted_experiment_is_named(tmp_path: Path, uri: str) -> None:
    store = Store(uri, "study")
    client, _ = runs_of(uri)
    client.delete_experiment(store.experiment_id)
    with pytest.raises(StoreError, match="experiment 'study' is deleted"):
        Store(uri, "study")


def test_passwords_are_not_shown() -> None:
    uri = "postgresql+psycopg://me:secret@host:5432/db"
    assert without_password(uri) == "postgresql+psycopg://me:***@host:5432/db"
    assert "secret" not in store_message(uri, RuntimeError(f"cannot connect to {uri}"))
