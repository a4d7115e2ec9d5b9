"""What stands in a store, asked of the database behind it, past all code that is being tested."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tests.stores.servers import SERVERS, MlflowServer

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
