"""The default store works from any directory, and lies there with its artifacts."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from analysis.read.store_database import read_database
from scaling.addresses import resolve_tracking_uri, sqlite_path
from scaling.store.client import Store
from tests.conftest import store_of

# relative addresses are cached by MLflow within a process: one of these holds all such signs
NAMES = [
    "q?1 a%20b%3F#c 'd' \"e\" größe 深い",
    "it's",
    "two words",
    'say "x"',
    "größe 深い",
    "a&b=c;d+e",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_default_store_lies_in_the_working_directory(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "top" / name
    folder.mkdir(parents=True)
    store_of("sqlite", request, folder)
    monkeypatch.chdir(folder)
    uri = resolve_tracking_uri()
    file = sqlite_path(uri)
    assert file is not None
    assert file.absolute() == folder / "mlflow.db"
    store = Store(uri, "study")
    run_id = store.create_run("a run", 1.0, {"kind": "trial"})
    store.log_text(run_id, "text", "a.txt")
    store.log(run_id, [("loss", 1.0, 1.0, 0)])
    assert read_database("study", uri).runs["run_id"].tolist() == [run_id]
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM metrics").fetchall() == [(1,)]
    database.close()
    assert (folder / "mlartifacts" / "study" / run_id / "artifacts" / "a.txt").is_file()
    assert os.listdir(tmp_path / "top") == [name]
