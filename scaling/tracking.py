"""An MLflow store as a study uses it; the only module of the package that imports mlflow.

It does so inside functions: training never waits for that import, nor for the store.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from scaling.schema import note_text

METRICS_PER_REQUEST = 1000  # MLflow's limits
PARAMS_PER_REQUEST = 100
Point = tuple[str, float, float, int]  # metric, value, seconds since 1970, step


class StoreError(RuntimeError):
    """The MLflow store cannot be opened or written; the message is one line."""


class Store:
    """One experiment of an MLflow store, and the few ways in which a study writes to it.

    Every write may be repeated: a run is looked up before it is created a second time, and MLflow
    stores a point that comes again with the same time, step and value once.
    """

    def __init__(self, uri: str, study: str, question: str = "") -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        name = hashlib.sha256(uri.encode()).hexdigest()[:16]
        # MLflow makes the tables of a fresh database without regard to others that do the same.
        with FileLock(Path(tempfile.gettempdir()) / f"batch-scaling-{name}.lock", mode=0o666):
            refuse_closed_database(uri)
            with _few_retries():
                self._client = MlflowClient(uri)
                self.experiment_id = self._experiment(uri, study, question)

    def _experiment(self, uri: str, study: str, question: str) -> str:
        experiment = self._client.get_experiment_by_name(study)
        if experiment is not None:
            if experiment.lifecycle_stage != "active":
                raise StoreError(
                    f"experiment {study!r} is deleted in this store: restore it "
                    "(mlflow experiments restore) or choose another study.name"
                )
            return experiment.experiment_id
        tags = {
            "mlflow.experimentKind": "custom_model_development",  # what the UI opens with
            "mlflow.note.content": _description(study, question),
        }
        return self._client.create_experiment(study, artifact_location(uri, study), tags)

    def has_run(self, run_id: str) -> bool:
        """The run is there, in this experiment, and not deleted."""
        from mlflow.exceptions import MlflowException

        try:
            info = self._client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise  # the store is away: that says nothing about the run
            return False
        return info.experiment_id == self.experiment_id and info.lifecycle_stage == "active"

    def is_empty(self) -> bool:
        """The experiment has no run."""
        return not self._client.search_runs([self.experiment_id], max_results=1)

    def find_run(self, identity: dict[str, str]) -> str | None:
        """The run that carries these tags, if there is one."""
        plain = {key: value for key, value in identity.items() if "'" not in value}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in plain.items())
        for run in self._client.search_runs([self.experiment_id], query):
            if identity.items() <= run.data.tags.items():
                return run.info.run_id
        return None

    def create_run(self, name: str, start_time: float, tags: dict[str, str]) -> str:
        run = self._client.create_run(self.experiment_id, int(start_time * 1000), tags, name)
        return run.info.run_id

    def log(
        self,
        run_id: str,
        points: list[Point],
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Points, params and tags of a run, in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, value, int(moment * 1000), step) for key, value, moment, step in points
        ]
        param_list = [Param(key, _text(value)) for key, value in (params or {}).items()]
        tag_list = [RunTag(key, value) for key, value in (tags or {}).items()]
        size = METRICS_PER_REQUEST - PARAMS_PER_REQUEST  # of all items together at most 1000
        for start in range(0, max(len(metrics), 1), size):
            self._client.log_batch(run_id, metrics[start : start + size], param_list, tag_list)
            param_list, tag_list = [], []

    def set_experiment_tags(self, tags: dict[str, str]) -> None:
        """Tags that only the pages of MLflow read; a store that does not take them goes without."""
        from mlflow.exceptions import MlflowException

        present = self._client.get_experiment(self.experiment_id).tags
        for key, value in tags.items():
            if present.get(key) == value:
                continue
            try:
                self._client.set_experiment_tag(self.experiment_id, key, value)
            except MlflowException as error:
                if error.error_code not in ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"):
                    raise  # the store is away

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag if it is there."""
        if key in self._client.get_run(run_id).data.tags:
            self._client.delete_tag(run_id, key)

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self._client.log_text(run_id, text, name)

    def log_file(self, run_id: str, path: Path, folder: str) -> None:
        self._client.log_artifact(run_id, str(path), folder)

    def log_picture(self, run_id: str, path: Path, key: str, step: int) -> None:
        """A picture of the run's image slider."""
        from PIL import Image

        with Image.open(path) as picture:
            self._client.log_image(run_id, picture.convert("RGB"), key=key, step=step)

    def set_status(self, run_id: str, status: str, end_time: float | None = None) -> None:
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            moment = None if end_time is None else int(end_time * 1000)
            self._client.set_terminated(run_id, status, moment)


@contextmanager
def _few_retries() -> Iterator[None]:
    """Opening a server fails fast; a write later may wait for it."""
    key = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    given = os.environ.get(key)
    os.environ[key] = given or "2"
    try:
        yield
    finally:
        if given is None:
            del os.environ[key]


def refuse_closed_database(uri: str) -> None:
    """Raise at once where a database cannot be opened or written; MLflow tries for minutes."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if not re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://", uri):
        return
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        if uri.startswith("sqlite"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.rollback()


def _description(study: str, question: str) -> str:
    """Of an experiment, in Markdown, which MLflow shows without any script in it."""
    paragraphs = [f"**{note_text(question)}**"] if question else []
    paragraphs += [
        "A sweep is a parent run, with the question, the command and the answer in its note, and "
        "the report among its artifacts; a trial is a child run. Under *Views*: trials, loss vs "
        "steps, loss vs examples (seeds averaged), frontier (once there is a report).",
        f"`python -m analysis study={study}` writes the report.",
    ]
    return "\n\n".join(paragraphs)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def artifact_location(uri: str, study: str) -> str | None:
    """Where an experiment's artifacts lie: beside a SQLite file; servers decide themselves."""
    if uri.startswith(("http://", "https://")):
        return None
    prefix = "sqlite:///"
    folder = Path(uri[len(prefix) :]).parent if uri.startswith(prefix) else Path.cwd()
    return (folder / "mlartifacts" / study).as_uri()


def quiet_mlflow() -> None:
    """No usage reports, and no log lines about the making of tables."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what fails is raised, too
    logging.getLogger("alembic").setLevel(logging.WARNING)


def store_message(uri: str, error: Exception) -> str:
    """One line for whatever a store raises."""
    shown = without_password(uri)
    if isinstance(error, StoreError):
        return f"tracking.uri={shown}: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {without_password(lines[0] if lines else '')}"
    return (
        f"tracking.uri={shown}: the MLflow store cannot be opened or written ({reason[:300]}); "
        "check the address and your rights to write there"
    )


def without_password(text: str) -> str:
    """The same text with the password of any address in it left out."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1:***@", text)
