"""Imported by the fork server of `tests.warm_processes`, before it forks anything."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from mlflow.store.db import utils
from sqlalchemy import create_engine

from tests.warm_processes import take_over


def copy_fresh_tables() -> None:
    """The tables of a new SQLite store are a copy of those that MLflow made here once: its
    migrations take a second."""
    make = utils._initialize_tables
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'mlflow.db'}")
        make(engine)
        engine.dispose()
        made = (Path(folder) / "mlflow.db").read_bytes()

    def initialize(engine: Any) -> None:
        if engine.dialect.name != "sqlite":
            make(engine)
            return
        kept = sqlite3.connect(":memory:")
        kept.deserialize(made)
        with engine.connect() as connection:
            kept.backup(connection.connection.driver_connection)
        kept.close()

    utils._initialize_tables = initialize


copy_fresh_tables()
take_over()
