"""Whole sweeps on real stores that are killed, locked, away, or written by many at once."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pytest

from analysis.read.runs import read_study, tidy
from analysis.read.store_client import read_client
from analysis.read.store_database import read_database
from tests.command_line import run, sweeps
from tests.conftest import store_of
from tests.stores.kills import kill_and_complete
from tests.stores.rows import query
from tests.stores.servers import STORES, MlflowServer, Postgres
from tests.stores.sweeping import (
    assert_complete,
    nothing_failed,
    output,
    sweep,
    wait_for_trials,
)

pytestmark = pytest.mark.long
AWAY_SECONDS = (2, 1, 3, 1, 60)


@pytest.mark.parametrize("kind", STORES)
def test_ten_kills(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    uri = store_of(kind, request, tmp_path)
    assert len(kill_and_complete(tmp_path / "it", uri, f"kills-{kind}", seed=1)) == 10


class Locked:
    """A SQLite file that another program holds: as good as away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def kill(self) -> None:
        self._lock = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        self._lock.execute("BEGIN EXCLUSIVE")

    def start(self) -> None:
        self._lock.execute("ROLLBACK")
        self._lock.close()


Server = Locked | Postgres | MlflowServer


@contextmanager
def own_servers(folder: Path) -> Iterator[dict[str, tuple[str, Server]]]:
    """Each kind with its URI; not those of the session, which others use."""
    with ExitStack() as stack:
        postgres, server = Postgres(), MlflowServer(folder)
        stack.callback(postgres.remove)
        stack.callback(server.kill)
        yield {
            "sqlite": (f"sqlite:///{folder}/own.db", Locked(folder / "own.db")),
            "postgresql": (postgres.create("mlflow"), postgres),
            "http": (server.uri, server),
        }


def five_times_away(folder: Path, uri: str, server: Server) -> None:
    """A sweep in which the store is killed five times; it ends well, and everything is there."""
    more = ["tracking.patience_seconds=150"]
    with sweep(folder, uri, "away", *more, steps=3000) as process:
        wait_for_trials(folder, "away", process)
        for seconds in AWAY_SECONDS:
            server.kill()
            time.sleep(seconds)
            server.start()
            time.sleep(1)
        assert process.wait() == 0, output(folder)
    assert nothing_failed(folder, "away")
    assert_complete(folder, uri, "away")


def test_killed_and_restarted_five_times_and_away_for_a_minute(tmp_path: Path) -> None:
    """The three stores at the same time: they mostly wait."""
    errors: dict[str, BaseException] = {}

    def guarded(kind: str, uri: str, server: Server) -> None:
        try:
            five_times_away(tmp_path / kind, uri, server)
        except BaseException as error:
            errors[kind] = error

    with own_servers(tmp_path) as servers:
        threads = [
            threading.Thread(target=guarded, args=(kind, *place)) for kind, place in servers.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == {}


def test_the_end_says_what_is_left_and_the_start_goes_on_without(tmp_path: Path) -> None:
    """The store is gone before the end, and still when the same command starts again."""
    quick = ["lr=0.1,0.2", "budget.max_steps=50", "study.name=gone", "tracking.patience_seconds=2"]
    server = MlflowServer(tmp_path)
    command = ["-m", *quick, f"tracking.uri={server.uri}"]
    assert sweeps(*command, cwd=tmp_path).returncode == 0
    server.kill()
    done = sweeps(*command, "seed=1", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "training continues, and what it records is written when the store is back" in done.stdout
    )
    assert "has 2 s to come back" in done.stdout
    assert "0 of the 2 trials to write are in the store; the rest: python -m sweeps.sync " in (
        done.stderr
    )
    assert done.stderr.count("\n") == 1
    server.start()
    done = run("sweeps.sync", "runs/gone", "--uri", server.uri, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 trials written" in done.stdout
    assert len(read_study("gone", server.uri)[0]) == 4
    server.kill()


@pytest.mark.parametrize("kind", STORES)
def test_eight_sweeps_of_different_studies_at_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    uri = store_of(kind, request, tmp_path)
    names = [f"one-of-eight-{kind}-{number}" for number in range(8)]
    more = ["hydra.launcher.workers=0", "hydra.launcher.stack_size=64"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(sweep(tmp_path / name, uri, name, *more, steps=200))
            for name in names
        ]
        assert [process.wait() for process in processes] == [0] * 8
    for name in names:
        assert_complete(tmp_path / name, uri, name)


def frames(uri: str, read: Callable | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and curves by identity; run ids are each store's own."""
    trials, curves = tidy(read("equal", uri), "equal") if read else read_study("equal", uri)
    curves = curves.merge(trials[["run_id", "trial_id"]], on="run_id").drop(columns="run_id")
    sweeps_of = [{**tags, "run_id": ""} for tags in trials.attrs["sweeps"]]
    trials = trials.drop(columns="run_id").sort_values("trial_id", ignore_index=True)
    trials.attrs["sweeps"] = [
        {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
        for tags in sweeps_of
    ]
    return trials, curves.sort_values(["trial_id", "step"], ignore_index=True)


def test_the_frames_read_from_the_three_stores_are_equal(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    arguments = ["-m", "lr=0.01,0.1,50", "batch_size=1,8", "seed=0,1", "study.name=equal"]
    arguments += ["schedule=cosine", "budget.max_steps=300", "tracking.uri=none"]
    assert sweeps(*arguments, cwd=tmp_path).returncode == 0
    uris = {kind: store_of(kind, request, tmp_path) for kind in STORES}
    for uri in uris.values():
        done = run("sweeps.sync", "runs/equal", "--uri", uri, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    expected = frames(uris["sqlite"])
    assert len(expected[0]) == 12
    assert set(expected[0]["outcome"]) >= {"diverged"}
    ways = [(uris["postgresql"], read_database), (uris["postgresql"], read_client)]
    for uri, read in [*ways, (uris["http"], None)]:
        for one, other in zip(frames(uri, read), expected, strict=True):
            pd.testing.assert_frame_equal(one, other)
            assert json.dumps(one.attrs, default=str) == json.dumps(other.attrs, default=str)


def test_a_server_gives_every_point_of_a_long_curve(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """More than 25,000, where one of its requests stops in silence."""
    n = 25_003
    assert (
        sweeps(
            *("budget.max_steps=3", "study.name=long", f"tracking.uri={mlflow_server.uri}"),
            cwd=tmp_path,
        ).returncode
        == 0
    )
    run_id = read_study("long", mlflow_server.uri)[0]["run_id"].iloc[0]
    rows = [("loss", 1 / step, step, run_id, step, 0) for step in range(4, n)]
    with sqlite3.connect(mlflow_server.folder / "server.db") as database:
        columns = "(key, value, timestamp, run_uuid, step, is_nan)"
        database.executemany(f"INSERT INTO metrics {columns} VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.close()
    _, curves = read_study("long", mlflow_server.uri)
    assert curves["step"].tolist() == list(range(n))
    counted = query(mlflow_server.uri, "SELECT count(*) FROM metrics WHERE key = 'loss' AND "
                    "run_uuid = :run", run=run_id)  # fmt: skip
    assert counted == [(n,)]
