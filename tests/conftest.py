"""The stores that a study may be written to, real ones, for all tests that want them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.servers import MlflowServer, Postgres

# Hundreds of processes import this project: compiling it each time takes half a second of each.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# As many tests as cores run at once: more threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs PostgreSQL is long. Files of sweeps, the longest, begin first: none is left over
    to one process at the end."""
    for item in items:
        if "postgres" in item.nodeid or "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: not item.path.is_relative_to(Path(__file__).parent / "sweeps"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.create("mlflow")
    yield server
    server.remove()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow_server"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database; making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("empty")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


def store_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The URI of a store: sqlite (a fresh one in the folder), postgresql or http."""
    if kind == "postgresql":
        return request.getfixturevalue("postgres").uri("mlflow")
    if kind == "http":
        return request.getfixturevalue("mlflow_server").uri
    empty = request.getfixturevalue("empty_store").read_bytes()
    (folder / "mlflow.db").write_bytes(empty)
    return f"sqlite:///{folder}/mlflow.db"
