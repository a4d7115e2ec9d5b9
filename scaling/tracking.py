"""What a sweep leaves in an MLflow store; the only module of the package that imports mlflow.

It does so inside functions: training never waits for that import, nor for the store.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling import schema

METRICS_PER_REQUEST = 1000  # MLflow's limits
PARAMS_PER_REQUEST = 100
FLUSH_SECONDS = 5.0  # points of a trial still training wait at most about this long


class StoreError(RuntimeError):
    """The MLflow store cannot be opened or written; the message is one line."""


@dataclass(frozen=True)
class SweepRecord:
    """What the parent run of a sweep says of it."""

    study: str
    name: str
    note: str
    question: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class _Open:
    """A trial on its way into the store."""

    header: dict[str, Any]
    metrics: list[Any] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)
    run_id: str | None = None
    outcome: dict[str, Any] | None = None


class Store:
    """One sweep's parent run and its child runs in an MLflow store."""

    def __init__(self, uri: str, sweep: SweepRecord) -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        refuse_closed_database(uri)
        retries = os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._client = MlflowClient(uri)
        self._sweep = sweep
        self._experiment_id = self._experiment(uri, sweep.study)
        self._parent_id = self._parent()
        if retries == "2":  # opening fails fast; a write later may wait for the store
            del os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
        self._open: dict[int, _Open] = {}
        self._ended: list[int] = []
        self.written = 0

    def _experiment(self, uri: str, study: str) -> str:
        experiment = self._client.get_experiment_by_name(study)
        if experiment is not None:
            if experiment.lifecycle_stage != "active":
                raise StoreError(
                    f"experiment {study!r} is deleted in this store: restore it "
                    "(mlflow experiments restore) or choose another study.name"
                )
            return experiment.experiment_id
        tags = {"mlflow.experimentKind": "custom_model_development"}  # what the UI opens with
        if self._sweep.question:
            tags["mlflow.note.content"] = self._sweep.question
        return self._client.create_experiment(study, artifact_location(uri, study), tags)

    def _parent(self) -> str:
        sweep = self._sweep
        tags = {schema.KIND: "sweep", schema.STUDY: sweep.study, schema.SWEEP: sweep.name}
        tags |= {"mlflow.note.content": sweep.note, **sweep.tags}
        query = " and ".join(
            f"tags.{key} = '{tags[key]}'" for key in (schema.KIND, schema.SWEEP, "host")
        )
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        if found:  # jobs of one multirun under Hydra's basic launcher share their parent
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        run = self._client.create_run(self._experiment_id, tags=tags, run_name=sweep.name)
        return run.info.run_id

    def take(self, lines: list[dict[str, Any]]) -> None:
        """Sort journal lines to their trials."""
        from mlflow.entities import Metric

        for line in lines:
            if line["record"] == "trial":
                self._open[line["trial"]] = _Open(line)
            elif line["record"] == "outcome":
                self._open[line["trial"]].outcome = line
                self._ended.append(line["trial"])
            elif line["record"] == "evaluation":
                step, moment = line["step"], int(line["time"] * 1000)
                values = {key: line[key] for key in ("loss", "train_loss", "lr") if key in line}
                for position, number in enumerate(line["trials"]):
                    trial = self._open[number]
                    examples = step * trial.header["params"]["batch_size"]
                    trial.metrics.append(Metric("examples", examples, moment, step))
                    trial.metrics += [
                        Metric(key, column[position], moment, step)
                        for key, column in values.items()
                    ]

    @property
    def waiting(self) -> int:
        """Trials that have ended and are not written."""
        return len(self._ended)

    def write_ended(self) -> None:
        """Write the first trial that has ended; the others wait for the next call."""
        if self._ended:
            number = self._ended.pop(0)
            self._write(self._open.pop(number))
            self.written += 1

    def write_stale(self) -> None:
        """Write the points of trials still training that have waited long enough."""
        now = time.monotonic()
        for trial in self._open.values():
            if trial.metrics and now - trial.since > FLUSH_SECONDS:
                self._write(trial)
                trial.since = time.monotonic()

    def close(self, status: str) -> None:
        """End the parent run, and with it every trial that has not ended."""
        for trial in self._open.values():
            self._write(trial)
            if trial.run_id:
                self._client.set_terminated(trial.run_id, status)
        self._client.set_terminated(self._parent_id, status)

    def _write(self, trial: _Open) -> None:
        from mlflow.entities import Metric, Param, RunTag

        header, outcome = trial.header, trial.outcome
        params: list[Param] = []
        if trial.run_id is None:
            trial.run_id = self._create_run(header)
            params = [Param(key, _text(value)) for key, value in header["params"].items()]
        metrics, trial.metrics = trial.metrics, []
        tags: list[RunTag] = []
        if outcome is not None:
            tags = [RunTag(key, value) for key, value in outcome["tags"].items()]
            moment, step = int(outcome["time"] * 1000), outcome["last_step"]
            metrics += [
                Metric(key, value, moment, step) for key, value in outcome["metrics"].items()
            ]
        size = METRICS_PER_REQUEST - PARAMS_PER_REQUEST  # of all items together at most 1000
        for start in range(0, max(len(metrics), 1), size):
            self._client.log_batch(trial.run_id, metrics[start : start + size], params, tags)
            params, tags = [], []
        if outcome is not None:
            self._client.log_text(trial.run_id, header["config"], "config.yaml")
            self._client.set_terminated(trial.run_id, "FINISHED", int(outcome["time"] * 1000))

    def _create_run(self, header: dict[str, Any]) -> str:
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        tags = header["tags"] | self._sweep.tags
        tags |= {
            MLFLOW_PARENT_RUN_ID: self._parent_id,
            schema.KIND: "trial",
            schema.STUDY: self._sweep.study,
            schema.SWEEP: self._sweep.name,
            schema.TRIAL_ID: header["trial_id"],
        }
        run = self._client.create_run(
            self._experiment_id, int(header["time"] * 1000), tags, header["name"]
        )
        return run.info.run_id


def refuse_closed_database(uri: str) -> None:
    """Raise at once where a database cannot be opened or written; MLflow tries for minutes."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    if not re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://", uri):
        return
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        if uri.startswith("sqlite"):
            connection.execute(text("CREATE TABLE IF NOT EXISTS batch_scaling_probe (x INTEGER)"))
            connection.execute(text("DROP TABLE batch_scaling_probe"))
            connection.rollback()


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
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("alembic").setLevel(logging.WARNING)


def store_message(uri: str, error: Exception) -> str:
    """One line for whatever a store raises."""
    shown = without_password(uri)
    if isinstance(error, StoreError):
        return f"tracking.uri={shown}: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = without_password(lines[0] if lines else type(error).__name__)
    return (
        f"tracking.uri={shown}: the MLflow store cannot be opened or written ({reason[:300]}); "
        "check the address and your rights to write there"
    )


def without_password(text: str) -> str:
    """The same text with the password of any address in it left out."""
    return re.sub(r"(://[^/@:\s]*):[^/@\s]*@", r"\1:***@", text)
