"""What stands in a store, asked of the database behind it, past all code that is being tested."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.stores.servers import SERVERS, MlflowServer

OF_NOW = ("creation_time", "last_update_time")  # of an experiment
Rows = dict[str, list[tuple]]
OF_STUDY = (
    "JOIN experiments e ON e.experiment_id = r.experiment_id "
    "WHERE e.name = :study AND r.lifecycle_stage = 'active'"
)


def database_of(uri: str) -> str:
    server = SERVERS.get(uri)
    return server.database if isinstance(server, MlflowServer) else uri


def query(uri: str, statement: str, **values: Any) -> list[tuple]:
    engine = sa.create_engine(database_of(uri), poolclass=NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement), values)]


def points_of(uri: str, study: str = "study") -> list[tuple]:
    """Every stored point (trial_id, metric, step, value, time), in order: twice what is doubled."""
    statement = (
        "SELECT t.value, m.key, m.step, m.value, m.timestamp FROM metrics m JOIN runs r "
        "ON r.run_uuid = m.run_uuid JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'trial_id' "
        f"{OF_STUDY}"
    )
    return sorted(query(uri, statement, study=study))


def ends_of(uri: str, study: str = "study") -> list[tuple[str, int]]:
    """Status and end time of every run."""
    rows = query(uri, f"SELECT r.status, r.end_time FROM runs r {OF_STUDY}", study=study)
    return [(status, moment) for status, moment in rows]


def rename_study(uri: str, study: str = "study") -> None:
    """Make room for another study of this name in a store that outlives a test."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is not None:
        if experiment.lifecycle_stage != "active":
            client.restore_experiment(experiment.experiment_id)
        client.rename_experiment(experiment.experiment_id, f"{study} {experiment.experiment_id}")


def tables_of(uri: str) -> Rows:
    """Every row of every table, in columns by name; instead of run ids whose run it is."""
    engine = sa.create_engine(uri)
    found: Rows = {}
    with engine.connect() as connection:
        named = connection.exec_driver_sql(
            "SELECT run_uuid, value FROM tags WHERE key = 'trial_id' UNION "
            "SELECT run_uuid, name FROM runs WHERE run_uuid NOT IN "
            "(SELECT run_uuid FROM tags WHERE key = 'trial_id')"
        ).all()
        ids = {run_id: f"<{name}>" for run_id, name in named}
        for name in sa.inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f'SELECT * FROM "{name}"').mappings()
            found[name] = sorted((_plain(row, ids) for row in rows), key=repr)
    engine.dispose()
    return found


def _plain(row: Any, ids: dict[str, str]) -> tuple:
    cells = []
    for column, value in sorted(row.items()):
        of_sweep = "<sweep" in ids.get(row.get("run_uuid", ""), "")
        if column in OF_NOW or (column == "end_time" and of_sweep):
            value = "now"
        if isinstance(value, str):
            value = re.sub(r"[0-9a-f]{32}", lambda found: ids.get(found[0], found[0]), value)
            value = re.sub(r"^.*/(mlartifacts|mlruns)", r"\1", value)
        cells.append((column, value))
    return tuple(cells)


def named_runs(uri: str) -> tuple[Any, dict[str, Any]]:
    """A client, and the runs of several sweeps by their trial or by name."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    named = {run.data.tags.get("trial_id", str(run.info.run_name)): run for run in runs}
    assert len(named) == len(runs)
    return client, named
