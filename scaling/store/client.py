"""An MLflow store as a study uses it, through MLflow's API.

MLflow is imported inside functions: training never waits for that import, nor for the store.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from scaling.commands import command
from scaling.imports import import_for_good
from scaling.schema import note_text
from scaling.store.artifacts import artifact_location, follow_moved_folder
from scaling.store.check import DATABASE, StoreError, checked, with_limits
from scaling.store.held import HeldRun, held_points, held_runs
from scaling.store.pictures import lay_out

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

METRICS_PER_REQUEST = 1000  # MLflow's limits
PARAMS_PER_REQUEST = 100
Point = tuple[str, float, float, int]  # metric, value, seconds since 1970, step


class Store:
    """One experiment of an MLflow store, and the few ways in which a study writes to it.

    Every write may be repeated: a run is looked up before it is created a second time, and MLflow
    stores a point that comes again with the same time, step and value once.
    """

    def __init__(self, uri: str, study: str, question: str = "") -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        bound_requests()
        self._uri = uri
        self._places: dict[str, str] = {}
        with checked(uri):
            self._client = MlflowClient(with_limits(uri))
            self.experiment_id = self._experiment(uri, study, question)
            there = self._client.get_experiment(self.experiment_id).artifact_location
            follow_moved_folder(uri, study, self.experiment_id, there)

    def _experiment(self, uri: str, study: str, question: str) -> str:
        from mlflow.exceptions import MlflowException

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
        try:
            return self._client.create_experiment(study, artifact_location(uri, study), tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment(uri, study, question)  # from another machine, in between

    def runs(self, tags: Sequence[str]) -> dict[str, HeldRun]:
        """Every active run of the experiment, with what it has of these tags."""
        if DATABASE.match(self._uri):
            return held_runs(self._uri, self.experiment_id, tags)
        token, found = None, {}
        while True:
            page = self._client.search_runs(
                [self.experiment_id], max_results=1000, page_token=token
            )
            for run in page:
                held = {key: value for key, value in run.data.tags.items() if key in tags}
                found[run.info.run_id] = HeldRun(run.info.status, held, len(run.data.params))
            token = page.token
            if not token:
                return found

    def count_points(self, run_ids: Sequence[str], ask_each: bool) -> dict[str, int]:
        """How many points each of these runs has; where that takes many requests, only if ask_each.

        A database counts them in one; a server is asked for each metric of each run.
        """
        if not DATABASE.match(self._uri):
            return {run_id: self._n_points(run_id) for run_id in run_ids} if ask_each else {}
        counted = held_points(self._uri, self.experiment_id)
        return {run_id: counted.get(run_id, 0) for run_id in run_ids}

    def _n_points(self, run_id: str) -> int:
        return sum(map(len, self.points(run_id).values()))

    def points(self, run_id: str) -> dict[str, set[int]]:
        """The steps at which a run has each of its metrics."""
        metrics = self._client.get_run(run_id).data.metrics
        return {
            key: {point.step for point in self._client.get_metric_history(run_id, key)}
            for key in metrics
        }

    def params(self, run_id: str) -> dict[str, str]:
        return self._client.get_run(run_id).data.params

    def picture_steps(self, run_id: str, key: str) -> set[int]:
        """The steps of which the run's image slider has a picture."""
        names = [Path(item.path).name for item in self._client.list_artifacts(run_id, "images")]
        found = [re.match(rf"{re.escape(key)}\+step\+(\d+)\+", name) for name in names]
        return {int(one[1]) for one in found if one is not None}

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

    def find_runs(self, identity: dict[str, str]) -> list[str]:
        """The runs that carry these tags, the first one first."""
        plain = {key: value for key, value in identity.items() if "'" not in value}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in plain.items())
        found = self._client.search_runs(
            [self.experiment_id], query, order_by=["attributes.start_time", "attributes.run_id"]
        )
        return [run.info.run_id for run in found if identity.items() <= run.data.tags.items()]

    def delete_run(self, run_id: str) -> None:
        self._client.delete_run(run_id)

    def create_run(self, name: str, start_time: float, tags: dict[str, str]) -> str:
        run = self._client.create_run(self.experiment_id, int(start_time * 1000), tags, name)
        if not run.info.run_id:
            raise StoreError("the store's answer was cut off (connection aborted)")
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
        param_list = [Param(key, as_text(value)) for key, value in (params or {}).items()]
        tag_list = [RunTag(key, value) for key, value in (tags or {}).items()]
        size = METRICS_PER_REQUEST - PARAMS_PER_REQUEST  # of all items together at most 1000
        for start in range(0, max(len(metrics), 1), size):
            self._client.log_batch(run_id, metrics[start : start + size], param_list, tag_list)
            param_list, tag_list = [], []

    def set_experiment_tags(self, tags: dict[str, str]) -> None:
        """Tags that only the pages of MLflow read; a store that refuses them does not get them."""
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

    def know_artifacts(self, places: dict[str, str]) -> None:
        """Where the artifacts of some runs lie, by run id: MLflow asks the store for each."""
        self._places = places

    def _repository(self, run_id: str) -> ArtifactRepository:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        place = self._places.get(run_id) or self._client.get_run(run_id).info.artifact_uri
        assert place is not None  # every run of a store has one
        return get_artifact_repository(place, self._uri)

    def log_text(self, run_id: str, text: str, name: str) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_text(text, encoding="utf-8")
            parent = Path(name).parent.as_posix()
            self.log_file(run_id, path, None if parent == "." else parent)

    def log_file(self, run_id: str, path: Path, folder: str | None) -> None:
        self._repository(run_id).log_artifact(str(path), folder)

    def log_pictures(
        self, run_id: str, pictures: list[tuple[Path, int, float]], key: str
    ) -> list[Path]:
        """Pictures of the run's image slider, all at once; those that are left out (`lay_out`)."""
        with TemporaryDirectory() as folder:
            broken = lay_out(pictures, f"{run_id} {key}", key, Path(folder))
            if len(broken) < len(pictures):
                self._repository(run_id).log_artifacts(folder, "images")
        return broken

    def set_status(self, run_id: str, status: str, end_time: float | None = None) -> None:
        if status == "RUNNING":
            self._client.update_run(run_id, status)
        else:
            moment = None if end_time is None else int(end_time * 1000)
            self._client.set_terminated(run_id, status, moment)


def _description(study: str, question: str) -> str:
    """Of an experiment, in Markdown, which MLflow shows without any script in it."""
    paragraphs = [f"**{note_text(question)}**"] if question else []
    paragraphs += [
        "A sweep is a parent run, with the question, the command and the answer in its note, and "
        "the report among its artifacts; a trial is a child run. Under *Views*: trials, loss vs "
        "steps, loss vs examples (seeds averaged), frontier (once there is a report).",
        f"`{command('report', f'study={study}')}` writes the report.",
    ]
    return "\n\n".join(paragraphs)


def as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def bound_requests() -> None:
    """MLflow's own retries repeat what may have been done, and go on for minutes: none of them."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # seconds


def import_mlflow() -> None:
    """All of it that a study needs, ahead of time."""
    quiet_mlflow()
    import_for_good("mlflow.store.tracking.sqlalchemy_store")


def quiet_mlflow() -> None:
    """No usage reports, no log lines about the making of tables, no address of every run."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what fails is raised, too
    logging.getLogger("alembic").setLevel(logging.WARNING)
