"""A store that cannot be used: one line that names the key, never the password, before training."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import pytest

from scaling.addresses import without_password
from scaling.store.check import StoreError, store_message, with_limits
from scaling.store.client import Store
from scaling.store.follow import Destination
from scaling.store.note import note_path
from scaling.store.writer import Writer
from tests.command_line import sweeps
from tests.conftest import store_of
from tests.stores.proxy import proxy_to
from tests.stores.servers import PASSWORD, QUOTED, MlflowServer, Postgres, free_port

NEWER = "fedcba987654"  # a schema that MLflow has not made yet
QUICK = ["budget.max_steps=3", "study.name=small"]


def refusal(uri: str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the driver raises
        Store(uri, "study")
    line = store_message(uri, caught.value)
    assert line.startswith(f"tracking.uri={without_password(uri)}: ")
    assert "\n" not in line
    return line


def hides(line: str, *secrets: str) -> bool:
    return not any(secret in line for secret in (PASSWORD, QUOTED, *secrets))


def test_postgresql_of_a_wrong_password_host_port_or_name(postgres: Postgres) -> None:
    uri = postgres.uri("mlflow")
    line = refusal(postgres.uri("mlflow", "wr0ng%2Fpw"))
    assert "(user or password is wrong)" in line
    assert hides(line, "wr0ng")
    line = refusal(uri.replace("127.0.0.1", "nobody.invalid"))
    assert "(no such host is known)" in line
    assert hides(line)
    line = refusal(uri.replace(f":{postgres.port}/", f":{free_port()}/"))
    assert "(nothing answers at this host and port)" in line
    assert 'database "nothing" does not exist' in refusal(postgres.uri("nothing"))


def test_a_server_of_a_wrong_host_or_port() -> None:
    assert "(no such host is known)" in refusal("http://nobody.invalid:5000")
    assert "(nothing answers at this host and port)" in refusal(f"http://127.0.0.1:{free_port()}")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0].startswith("psycopg")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    line = refusal("postgresql+psycopg://me:s3cret@127.0.0.1/mlflow")
    assert "driver psycopg is missing; use postgresql+psycopg:// and pip install" in line
    assert hides(line, "s3cret")
    assert "driver postgresql+other is missing" in refusal("postgresql+other://me:s3cret@h/mlflow")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("schema", [NEWER, "728d730b5ebd"])
def test_tables_of_another_mlflow(
    kind: str, schema: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    says = "of a newer MLflow" if schema == NEWER else "of an older MLflow; make a backup"
    statement = f"UPDATE alembic_version SET version_num = '{schema}'"
    if kind == "sqlite":
        uri = store_of(kind, request, tmp_path)
        with sqlite3.connect(tmp_path / "mlflow.db") as connection:
            connection.execute(statement)
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        uri = postgres.create(f"of-{schema}")
        Store(uri, "study")
        postgres.execute(f"of-{schema}", statement)
        uri += "?connect_timeout=9"  # MLflow checks an address once in a process
    assert says in refusal(uri)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("http://me:sec/r@et@host", "http://me:***@host"),
        ("x=http://me:secret@host y", "x=http://me:***@host y"),
        (
            "postgresql://host/db?user=me&password=secret",
            "postgresql://host/db?user=me&password=***",
        ),
        ("http://host:5000/a", "http://host:5000/a"),
    ],
)
def test_passwords_with_any_sign_are_hidden(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_limits_leave_what_the_user_says_and_the_password(postgres: Postgres) -> None:
    uri = with_limits(f"{postgres.uri('mlflow')}?connect_timeout=3")
    assert "connect_timeout=3&" in uri
    assert QUOTED.replace("%2F", "/") in uri or QUOTED in uri
    assert Store(uri, "limits").experiment_id


@pytest.mark.long
def test_an_address_is_wrong_until_it_has_answered_once(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    destination = Destination(uri, "study", "", tmp_path, "sweep-1", patience_seconds=0.1)
    with pytest.raises(StoreError, match="nothing answers"):
        Writer(destination).wait_until_open()
    note_path(tmp_path, uri).touch()  # as an earlier sweep leaves it
    writer = Writer(destination)
    assert "training continues" in writer.wait_until_open()
    with pytest.raises(StoreError, match="nothing answers"):
        writer.close("FINISHED")


@pytest.mark.long
def test_a_locked_database_does_not_hold_up_the_start(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri = store_of("sqlite", request, tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        said: list[str] = []
        writer = Writer(Destination(uri, "study", "", tmp_path, "sweep-1"), said.append)
        assert "another program holds a lock on it); training continues" in writer.wait_until_open()
        lock.execute("ROLLBACK")
        writer.close("FINISHED")
        assert said == ["the MLflow store is back"]
    lock.close()
    Store(uri, "study")


@pytest.mark.long
def test_the_command_says_it_in_one_line_and_trains_nothing(
    postgres: Postgres, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    with proxy_to(mlflow_server.port, "me:right") as proxy:
        for uri, says in (
            (postgres.uri("mlflow", "wr0ng"), "user or password is wrong"),
            (f"http://me:wr0ng@127.0.0.1:{proxy.port}", "user or password is wrong"),
        ):
            done = sweeps(*QUICK, f"tracking.uri={uri}", cwd=tmp_path)
            assert done.returncode == 2
            assert done.stderr.startswith(f"error: tracking.uri={without_password(uri)}: ")
            assert says in done.stderr
            assert done.stderr.count("\n") == 1
            assert "wr0ng" not in done.stderr + done.stdout
            assert not list(tmp_path.glob("runs/small/*.jsonl"))
        done = sweeps(*QUICK, f"tracking.uri=http://me:right@127.0.0.1:{proxy.port}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_the_password_stands_in_no_file(
    postgres: Postgres, multirun: list[str], tmp_path: Path
) -> None:
    name = f"study.name=secret{len(multirun)}"
    uri = postgres.uri("mlflow", QUOTED)
    done = sweeps(*multirun, *QUICK, name, f"tracking.uri={uri}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hides(done.stdout + done.stderr)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5
    assert [p for p in written if QUOTED.encode() in p.read_bytes()] == []
