"""Many runs into a SQL store at once: rows into MLflow's own tables, in one transaction.

MLflow's API builds an object for each point. Here the rows are inserted that create_run, log_batch
and set_terminated insert; the tests compare every table. Only for layouts of the tables that were
tested so: of any other one, as of a server, everything goes through the API.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scaling import schema
from scaling.store.check import engine_of
from scaling.store.run_rows import CHECKS, NotTaken, Row, RunRows, milliseconds

if TYPE_CHECKING:
    from sqlalchemy import Connection

TESTED = ("dc11669786a5",)  # revisions of the tables (alembic's): that of MLflow 3.17
BUSY_MILLISECONDS = 20_000  # how long SQLite waits for a lock, as MLflow has it
SQL = re.compile(r"(sqlite|postgresql)(\+\w+)?://")


class UntestedTables(NotTaken):
    """The message is their revision."""


class Bulk:
    """The runs of one experiment of a SQLite or PostgreSQL store.

    Each method is one transaction. What raises is a store that is away (as of sqlalchemy), or
    NotTaken.
    """

    def __init__(self, uri: str, experiment_id: str) -> None:
        self._engine, self._experiment = engine_of(uri), int(experiment_id)

    def check_tables(self) -> None:
        """UntestedTables where rows cannot be written, also for want of one of MLflow's checks."""
        from mlflow.utils import validation

        with self._transaction():
            pass
        lacking = [name for name in CHECKS if not hasattr(validation, name)]
        if lacking:
            raise UntestedTables(f"{TESTED[-1]}, but this MLflow has no {lacking[0]}")

    def holders(self, trial_ids: Sequence[str]) -> set[str]:
        """Which of these trials have an active run."""
        import sqlalchemy as sa

        runs, tags = _tables("runs", "tags")
        kinds = tags.alias()
        of_trial = (tags.c.key == schema.TRIAL_ID) & tags.c.value.in_(trial_ids)
        of_kind = (kinds.c.key == schema.KIND) & (kinds.c.value == "trial")
        of_here = (runs.c.experiment_id == self._experiment) & (runs.c.lifecycle_stage == "active")
        both = tags.join(runs, runs.c.run_uuid == tags.c.run_uuid)
        both = both.join(kinds, kinds.c.run_uuid == runs.c.run_uuid)
        found = sa.select(tags.c.value).select_from(both).where(of_trial, of_kind, of_here)
        with self._transaction() as connection:
            return set(connection.execute(found).scalars())

    def write(self, all_rows: Sequence[RunRows]) -> dict[str, str]:
        """Insert runs with all that is theirs, but of none that was deleted.

        Returns where the artifacts lie of each that was taken, by its id.

        What is there already stays: of a tag the new value counts, of the latest points the newest.
        """
        runs, metrics, latest, params, tags = _tables(
            "runs", "metrics", "latest_metrics", "params", "tags"
        )
        with self._transaction() as connection:
            place = self._artifact_location(connection)
            places = self._active(connection, [one.run_id for one in all_rows if one.run is None])
            made = [self._whole(one.run, place) for one in all_rows if one.run is not None]
            places |= {run["run_uuid"]: run["artifact_uri"] for run in made}
            taken = [one for one in all_rows if one.run_id in places]
            insert = _insertion(connection)
            for statement, rows in (
                (insert(runs), made),
                (insert(params).on_conflict_do_nothing(), _all(one.params for one in taken)),
                (insert(metrics).on_conflict_do_nothing(), _all(one.points for one in taken)),
                (_newest(insert(latest), latest), _all(one.latest for one in taken)),
                (_replacing(insert(tags), "value"), _all(one.tags for one in taken)),
            ):
                if rows:
                    connection.execute(statement, rows)
        return places

    def end(self, ends: Sequence[tuple[str, str, float]]) -> set[str]:
        """Give runs (id, status, seconds since 1970) their last status; those that were active."""
        import sqlalchemy as sa

        [runs] = _tables("runs")
        with self._transaction() as connection:
            active = self._active(connection, [run_id for run_id, _, _ in ends])
            values = [
                {"id": run_id, "last": status, "moment": milliseconds(moment)}
                for run_id, status, moment in ends
                if run_id in active
            ]
            update = sa.update(runs).where(runs.c.run_uuid == sa.bindparam("id"))
            update = update.values(status=sa.bindparam("last"), end_time=sa.bindparam("moment"))
            if values:
                connection.execute(update, values)
        return set(active)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Of a layout that was tested. Errors of content, not of the store, are NotTaken."""
        from sqlalchemy import exc

        try:
            with self._engine.begin() as connection:
                if connection.dialect.name == "sqlite":
                    connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
                    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
                    connection.exec_driver_sql("BEGIN IMMEDIATE")  # a lock is waited for here
                revision = "SELECT version_num FROM alembic_version"
                found = connection.exec_driver_sql(revision).scalars().all()
                if len(found) != 1 or found[0] not in TESTED:
                    raise UntestedTables(", ".join(found))
                yield connection
        except (exc.OperationalError, exc.InterfaceError):
            raise
        except (exc.SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
            raise NotTaken from error

    def _artifact_location(self, connection: Connection) -> str:
        import sqlalchemy as sa

        [experiments] = _tables("experiments")
        columns = experiments.c.artifact_location, experiments.c.lifecycle_stage
        here = sa.select(*columns).where(experiments.c.experiment_id == self._experiment)
        found = connection.execute(here).one_or_none()
        if found is None or found.lifecycle_stage != "active":
            raise NotTaken
        return found.artifact_location

    def _whole(self, run: Row, place: str) -> Row:
        from mlflow.utils.uri import append_to_uri_path

        folder = append_to_uri_path(place, run["run_uuid"], "artifacts")
        return run | {"experiment_id": self._experiment, "artifact_uri": folder}

    def _active(self, connection: Connection, run_ids: Sequence[str]) -> dict[str, str]:
        """Where the artifacts lie of those of these runs that are there and not deleted."""
        import sqlalchemy as sa

        [runs] = _tables("runs")
        stays = runs.c.run_uuid.in_(run_ids), runs.c.lifecycle_stage == "active"
        found = sa.select(runs.c.run_uuid, runs.c.artifact_uri).where(*stays)
        rows = connection.execute(found).all() if run_ids else []
        return {run_id: place for run_id, place in rows}  # noqa: C416 - rows are no pairs


def has_tables(uri: str) -> bool:
    """Of a store at this address: tables that can be written past MLflow's API."""
    return SQL.match(uri) is not None


def _tables(*names: str) -> list[Any]:
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels import models  # noqa: F401 - it declares the tables

    return [Base.metadata.tables[name] for name in names]


def _insertion(connection: Connection) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    return {"postgresql": postgresql, "sqlite": sqlite}[connection.dialect.name].insert


def _replacing(statement: Any, *columns: str, where: Any = None) -> Any:
    new = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(
        index_elements=["key", "run_uuid"], set_=new, where=where
    )


def _newest(statement: Any, latest: Any) -> Any:
    """MLflow's rule: the largest (step, timestamp, value)."""
    import sqlalchemy as sa

    age = "step", "timestamp", "value"
    new = sa.tuple_(*(statement.excluded[name] for name in age))
    newer = new > sa.tuple_(*(latest.c[name] for name in age))
    return _replacing(statement, *age, "is_nan", where=newer)


def _all(lists: Iterable[list[Row]]) -> list[Row]:
    return [row for rows in lists for row in rows]
