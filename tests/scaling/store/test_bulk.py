"""Rows written past MLflow's API: every table as the API leaves it, whatever happens meanwhile."""

from __future__ import annotations

import math
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scaling.result import TrialResult
from scaling.store import bulk as bulk_module
from scaling.store import together
from scaling.store.bulk import Bulk, UntestedTables
from scaling.store.client import Point, Store
from scaling.store.run_rows import NewRun, NotTaken, new_run_id, rows_of
from scaling.store.sync import Sync
from tests.conftest import store_of
from tests.scaling.store.test_tracking import new_journal, runs_of, write_trial
from tests.stores.rows import named_runs, tables_of
from tests.stores.servers import Postgres

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "record").mkdir()
    return tmp_path / "record"


@pytest.fixture(params=KINDS)
def two_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two that are empty: for the API and for rows."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        name = f"bulk-{time.time_ns()}"
        yield server.create(f"{name}-api"), server.create(f"{name}-rows")
        return
    api, rows = tmp_path / "api", tmp_path / "rows"
    api.mkdir()
    rows.mkdir()
    yield store_of("sqlite", request, api), store_of("sqlite", request, rows)


@pytest.fixture
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_of("sqlite", request, tmp_path)


def by_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "has_tables", lambda uri: False)


def everything(folder: Path) -> None:
    """Trials of every kind: more than go together, failed, extended, with pictures and a model."""
    (folder / "1").mkdir()
    (folder / "1" / "train.log").write_text("the whole story")
    (folder / "model.pt").write_bytes(b"weights")
    Image.new("RGB", (4, 4)).save(folder / "2.png")
    with new_journal(folder, "1") as journal:
        for number in range(70):
            write_trial(journal, number, 5 + number % 3)
        write_trial(journal, 70, 3, end=False)
        journal.write("failure", trial=70, error="ValueError: no", log="1/train.log")
        write_trial(journal, 71, 9, end=False)  # killed
        journal.write("picture", trial=0, step=2, path="2.png")
        write_trial(journal, 72, 900)
        journal.write("model", trial=72, kind="best", path="model.pt")
        write_trial(journal, 73, 4, end=False)
        result = TrialResult("diverged", {0.5: "diverged"}, {}, 4, 9.0, 4, 0.25)
        journal.write("outcome", trial=73, **result.as_line())
    time.sleep(0.01)
    with new_journal(folder, "2", "sweep-2") as journal:
        write_trial(journal, 71, 12)
        write_trial(journal, 70, 6)
        write_trial(journal, 1, 9)
        write_trial(journal, 80, 3)
        journal.write("sweep", tags={"answer": "4"}, files={"report.txt": "text"})
        journal.write("end", status="FINISHED")


def replay(folder: Path, uri: str, sweep: str = "sweep-2") -> Sync:
    sync = Sync(folder, Store(uri, "study", "how?"), uri, thorough=True)
    sync.close(sweep, "FINISHED")
    return sync


def read(uri: str) -> dict[str, Any]:
    """What MLflow's client says of every run, with all histories and artifacts."""
    client, runs = named_runs(uri)
    said = {}
    parents = {run.info.run_id: name for name, run in runs.items()}
    for name, run in runs.items():
        run_id, info = run.info.run_id, run.info
        tags = run.data.tags | {"mlflow.parentRunId": ""}
        tags["mlflow.parentRunId"] = parents.get(run.data.tags.get("mlflow.parentRunId", ""), "")
        histories = {
            key: [(p.step, p.value, p.timestamp) for p in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        }
        files = sorted(item.path for item in client.list_artifacts(run_id))
        times = (info.start_time, info.end_time if name.startswith("id") else 0)
        about = (info.run_name, info.status, info.user_id, info.lifecycle_stage, times)
        said[name] = [about, tags, run.data.params, run.data.metrics, histories, files]
    return said


def test_every_table_is_as_the_api_leaves_it(
    two_stores: tuple[str, str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    requests: list[str],
) -> None:
    everything(folder)
    api, rows = two_stores
    assert replay(folder, rows).left_out == {}
    assert len(requests) <= 2  # what sweeps say
    with monkeypatch.context() as patch:
        by_api(patch)
        assert replay(folder, api).left_out == {}
    assert len(requests) > 70
    one, other = tables_of(api), tables_of(rows)
    assert one.keys() == other.keys()
    for name in one:
        assert other[name] == one[name], name
    assert {len(one["runs"]), len(one["metrics"]) > 3000} == {77, True}


@pytest.mark.long
def test_the_client_reads_the_same(
    two_stores: tuple[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(folder)
    api, rows = two_stores
    replay(folder, rows)
    by_api(monkeypatch)
    replay(folder, api)
    expected, found = read(api), read(rows)
    assert found == expected
    assert found["id72"][-1] == ["config.yaml", "model"]
    assert found["id0"][-1] == ["config.yaml", "images"]


LARGEST = 1.7976931348623157e308
NUMBERS = [math.inf, -math.inf, math.nan, LARGEST, -LARGEST, 0.0, -0.0, 5e-324, 1e400, 3, 0.1]


def random_points(seed: int) -> list[Point]:
    """Few or many, with ties of step and of time, and everything that numbers can be."""
    draw = random.Random(seed)
    return [
        (draw.choice("abc"), draw.choice(NUMBERS), draw.choice((1.0, 2.5)), draw.randrange(9))
        for _ in range(draw.choice((1, 3, 10, 400)))
    ]


def written_both_ways(stores: tuple[str, str], parts: list[list[Point]]) -> None:
    """The same points of one run, in several goes, by the API and as rows."""
    new = NewRun("B=4", 1.0, {"kind": "trial", "trial_id": "id0", "mlflow.user": "me"})
    api, rows = (Store(uri, "study") for uri in stores)
    bulk = Bulk(stores[1], rows.experiment_id)
    run_id, other_id = api.create_run(new.name, new.start_time, new.tags), new_run_id()
    for number, points in enumerate(parts):
        params = {"lr": 0.1, "long": "x" * 6000} if number == 0 else {}
        tags = {"error": str(number), "cut": "y" * 9000, f"of {number}": ""}
        api.log(run_id, points, params, tags)
        made = None if number else new
        assert bulk.write([rows_of(other_id, made, points, params, tags)]) != {}
    api.set_status(run_id, "FAILED", 9.5)
    assert bulk.end([(other_id, "FAILED", 9.5)]) == {other_id}


@pytest.mark.parametrize("seed", range(3))
def test_any_points_are_as_the_api_leaves_them(two_stores: tuple[str, str], seed: int) -> None:
    """Several at one step and time, some of them twice, in any order; the newest is the latest."""
    written_both_ways(two_stores, [random_points(99 * seed + part) for part in range(9)])
    expected, found = tables_of(two_stores[0]), tables_of(two_stores[1])
    assert found == expected
    assert len(found["metrics"]) > 100
    assert len(found["latest_metrics"]) == 3


def test_what_is_not_finite_is_kept(uri: str) -> None:
    store, run_id = Store(uri, "study"), new_run_id()
    bulk = Bulk(uri, store.experiment_id)
    points = [(str(number), value, 1.0, 0) for number, value in enumerate(NUMBERS)]
    bulk.write([rows_of(run_id, NewRun("B=4", 1.0, {"kind": "trial"}), points, {}, {})])
    metrics = runs_of(uri)[1]["trial"].data.metrics
    assert [metrics["0"], metrics["1"]] == [LARGEST, -LARGEST]
    assert math.isnan(metrics["2"])
    assert metrics["8"] == LARGEST


def test_rows_written_twice_change_nothing(uri: str) -> None:
    store, run_id = Store(uri, "study"), new_run_id()
    bulk = Bulk(uri, store.experiment_id)
    points, about = random_points(1), ({"lr": 0.1}, {"outcome": "reached"})
    bulk.write([rows_of(run_id, NewRun("B=4", 1.0, {}), points, *about)])
    tables = tables_of(uri)
    bulk.write([rows_of(run_id, None, points, *about)])
    assert tables_of(uri) == tables


def test_an_mlflow_without_its_checks_is_left_to_the_api(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.utils import validation

    bulk = Bulk(uri, Store(uri, "study").experiment_id)
    bulk.check_tables()
    monkeypatch.delattr(validation, "_validate_tag")
    with pytest.raises(UntestedTables, match="has no _validate_tag"):
        bulk.check_tables()


def test_the_tables_of_the_installed_mlflow_are_tested(uri: str) -> None:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        [(revision,)] = connection.execute("SELECT version_num FROM alembic_version")
    connection.close()
    assert revision in bulk_module.TESTED


REFUSED: dict[str, Callable[[], Any]] = {
    "a name": lambda: rows_of("r", None, [], {"p" * 300: 1}, {}),
    "the run's name": lambda: rows_of("r", None, [], {}, {"mlflow.runName": "x"}),
    "a metric's name": lambda: rows_of("r", None, [("a\nb", 1.0, 1.0, 0)], {}, {}),
    "no name": lambda: rows_of("r", NewRun("", 1.0, {}), [], {}, {}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_mlflow_may_refuse_makes_no_rows(what: str) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises((NotTaken, MlflowException)):
        REFUSED[what]()


def test_what_the_database_refuses_is_left_to_the_api(uri: str) -> None:
    bulk = Bulk(uri, Store(uri, "study").experiment_id)
    rows = rows_of(new_run_id(), NewRun("B=4", 1.0, {}), [], {}, {})
    bulk.write([rows])
    fresh = rows_of(new_run_id(), NewRun("B=8", 1.0, {}), [], {"lr": 1}, {})
    with pytest.raises(NotTaken):
        bulk.write([fresh, rows])  # made twice
    assert len(tables_of(uri)["runs"]) == 1
    assert tables_of(uri)["params"] == []


def test_ids_grow_with_time() -> None:
    first = new_run_id()
    time.sleep(0.003)
    second = new_run_id()
    assert first < second
    for one in (first, second):
        assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", one)
    assert abs(int(second[:12], 16) / 1000 - time.time()) < 5
