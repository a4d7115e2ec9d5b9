"""What a store did and could not say: done again, it is there once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.store import together
from scaling.store import writer as writing
from scaling.store.check import StoreError
from scaling.store.client import Store
from scaling.store.follow import Destination
from scaling.store.sync import Sync
from scaling.store.writer import Writer
from tests.conftest import store_of
from tests.scaling.store.test_tracking import new_journal, write_trial
from tests.stores.proxy import Loss, Proxy, proxy_to
from tests.stores.rows import points_of, query, rename_study
from tests.stores.servers import SERVERS, Postgres

CREATION = {  # the words of a run's creation on the wire, the last one those that are answered
    "postgresql": (b"INSERT INTO runs", b"COMMIT"),
    "http": (b"POST /api/2.0/mlflow/runs/create",),
}
LOGGING = {
    "postgresql": (b"INSERT INTO metrics", b"COMMIT"),
    "http": (b"POST /api/2.0/mlflow/runs/log-batch",),
}
Wire = tuple[str, str, Proxy, str]  # kind of store, its URI, a proxy to it, the URI through it


@pytest.fixture(params=["postgresql", pytest.param("http", marks=pytest.mark.long)])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    uri = store_of(request.param, request, tmp_path)
    port = SERVERS[uri].port
    with proxy_to(port) as proxy:
        yield request.param, uri, proxy, uri.replace(f":{port}", f":{proxy.port}")
    rename_study(uri)


def names_of(uri: str) -> list[str]:
    """The active runs of the study."""
    from_runs = "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id"
    where = "WHERE e.name = 'study' AND r.lifecycle_stage = 'active'"
    return sorted(name for (name,) in query(uri, f"SELECT r.name {from_runs} {where}"))


def step_until_done(sync: Sync) -> int:
    """How often the store failed on the way."""
    failures = 0
    while True:
        try:
            while sync.step():
                pass
            return failures
        except Exception:
            failures += 1
            assert failures < 10


@pytest.mark.parametrize("way", ["together", "one by one"])
@pytest.mark.parametrize("words", [CREATION, LOGGING], ids=["creation", "points"])
def test_an_answer_lost_after_the_commit(
    wire: Wire, words: dict, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: of the sweep's run and a trial's, or of two trials' points, where those go singly."""
    kind, uri, proxy, through = wire
    if way == "one by one":
        monkeypatch.setattr(together, "has_tables", lambda uri: False)
    elif kind == "http":
        pytest.skip("a server is written to one by one")
    losses = 1 if (way, words) == ("together", LOGGING) else 2
    with new_journal(tmp_path, "1") as journal:
        write_trial(journal, 0, 30)
        write_trial(journal, 1, 30)
    sync = Sync(tmp_path, Store(through, "study"), through)
    proxy.loss = Loss(words[kind], times=losses)
    assert step_until_done(sync) == proxy.lost == losses
    sync.close("sweep-1", "FINISHED")
    assert names_of(uri) == ["B=4 seed=0", "B=4 seed=1", "sweep-1"]
    points = points_of(uri)
    assert len(points) == len({point[:3] for point in points}) == 2 * (31 + 31 + 30 + 1)


def test_a_creation_that_arrives_after_its_repetition(wire: Wire, tmp_path: Path) -> None:
    kind, uri, proxy, through = wire
    if kind == "postgresql":
        pytest.skip("a server that loses the connection before COMMIT rolls back")
    with new_journal(tmp_path, "1") as journal:
        write_trial(journal, 0, 3)
    sync = Sync(tmp_path, Store(through, "study"), through)
    proxy.loss = Loss(words=CREATION[kind], times=2, late_seconds=1.0)
    assert step_until_done(sync) == 2
    time.sleep(2.5)
    assert len(names_of(uri)) == 4  # each of the two stands there twice
    sync.close("sweep-1", "FINISHED")
    assert names_of(uri) == ["B=4 seed=0", "sweep-1"]
    assert len(points_of(uri)) == 4 + 4 + 3 + 1


@pytest.mark.long
def test_the_end_does_not_wait_for_a_store_that_hangs(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not away, not an error: a statement that never returns, behind somebody's lock."""
    import psycopg

    monkeypatch.setattr(writing, "SILENCE_SECONDS", 1.0)
    uri = postgres.uri("mlflow")
    destination = Destination(uri, "study", "", tmp_path, "sweep-1", patience_seconds=2.0)
    writer = Writer(destination)
    assert writer.wait_until_open() == ""
    with psycopg.connect(uri.replace("+psycopg", "")) as lock:
        lock.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        with new_journal(tmp_path, "1") as journal:
            write_trial(journal, 0, 3)
        begin = time.monotonic()
        with pytest.raises(StoreError, match="has not answered for 3 s"):
            writer.close("FINISHED")
        assert time.monotonic() - begin < 20
    monkeypatch.undo()
    Writer(destination).close("FINISHED")
    assert names_of(uri) == ["B=4 seed=0", "sweep-1"]
    rename_study(uri)
