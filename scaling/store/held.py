"""What the runs of an experiment hold, asked of its database in one statement for all of them.

MLflow's API builds an object for each tag, param and point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.store.check import engine_of

if TYPE_CHECKING:
    import sqlalchemy as sa


@dataclass
class HeldRun:
    """An active run of the experiment as the store has it."""

    status: str
    tags: dict[str, str]
    n_params: int


def held_runs(uri: str, experiment_id: str, tags: Sequence[str]) -> dict[str, HeldRun]:
    """Every active run, with what it has of these tags."""
    import sqlalchemy as sa

    active, their = _active(experiment_id), _table("tags", "run_uuid", "key", "value").c
    of_tags = sa.select(their.run_uuid, their.key, their.value)
    of_tags = of_tags.where(their.run_uuid.in_(_ids(active)), their.key.in_(tags))
    with engine_of(uri).connect() as connection:
        runs = {i: HeldRun(status, {}, 0) for i, status in connection.execute(active)}
        for run_id, key, value in connection.execute(of_tags):
            if run_id in runs:  # else made meanwhile
                runs[run_id].tags[key] = value
        for run_id, n_params in connection.execute(_counted("params", active)):
            if run_id in runs:
                runs[run_id].n_params = n_params
    return runs


def held_points(uri: str, experiment_id: str) -> dict[str, int]:
    """How many points each active run has, of those that have any."""
    with engine_of(uri).connect() as connection:
        rows = connection.execute(_counted("metrics", _active(experiment_id)))
        return {run_id: int(n) for run_id, n in rows}


def _table(name: str, *columns: str) -> sa.TableClause:
    import sqlalchemy as sa

    return sa.table(name, *map(sa.column, columns))


def _active(experiment_id: str) -> sa.Select:
    """The id and status of each active run of the experiment."""
    import sqlalchemy as sa

    runs = _table("runs", "run_uuid", "status", "experiment_id", "lifecycle_stage").c
    here = runs.experiment_id == int(experiment_id), runs.lifecycle_stage == "active"
    return sa.select(runs.run_uuid, runs.status).where(*here)


def _ids(active: sa.Select) -> sa.Select:
    import sqlalchemy as sa

    return sa.select(active.subquery().c.run_uuid)


def _counted(name: str, active: sa.Select) -> sa.Select:
    """How many rows of a table each of these runs has."""
    import sqlalchemy as sa

    run = _table(name, "run_uuid").c.run_uuid
    return sa.select(run, sa.func.count()).where(run.in_(_ids(active))).group_by(run)
