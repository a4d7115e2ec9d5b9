"""Reading one run back from an MLflow store: what repeating it or registering its model needs."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scaling import addresses, schema
from scaling.addresses import without_password
from scaling.store.check import StoreError, store_message
from scaling.store.client import quiet_mlflow

History = dict[int, float]  # step -> value


class RunError(StoreError):
    """A run that cannot be used for what was asked; the message is one line."""


@dataclass(frozen=True)
class StoredRun:
    """A finished trial. tags: its own and those that it has from its sweep; config: its YAML."""

    run_id: str
    name: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    config: str

    def refused(self, reason: str) -> RunError:
        return RunError(f"run_id={self.run_id}: {reason}")


class ModelVersion(NamedTuple):
    """What a registered version says of itself; description: Markdown."""

    tags: dict[str, str]
    description: str


class RunReader:
    """The runs of one store."""

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        _refuse_absent_file(uri)
        self.uri = uri
        self._client = MlflowClient(uri)

    def read(self, run_id: str) -> StoredRun:
        """RunError for a run that is not there, is no finished trial, or has no configuration."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
            return StoredRun(
                *_finished_trial(run), config=self.artifact_text(run_id, "config.yaml")
            )
        except RunError:
            raise
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise RunError(f"run_id={run_id}: no such run in {self._shown()}") from None
            raise RunError(store_message(self.uri, error)) from None
        except Exception as error:
            raise RunError(store_message(self.uri, error)) from None

    def history(self, run: StoredRun, metric: str) -> History:
        """Every point of a metric; of several at one step the newest."""
        points = self._client.get_metric_history(run.run_id, metric)
        return {p.step: p.value for p in sorted(points, key=lambda point: point.timestamp)}

    def best(self, study: str, params: Mapping[str, str]) -> str:
        """The finished trial of `study` with these params and the least last held-out loss."""
        experiment = self._client.get_experiment_by_name(study)
        if experiment is None:
            names = [one.name for one in self._client.search_experiments(max_results=1000)]
            near = difflib.get_close_matches(study, names, n=1)
            known = ", ".join(sorted(set(names) - {"Default"})) or "none"
            hint = f"did you mean {near[0]}?" if near else f"there: {known}"
            raise RunError(f"study={study}: no experiment of this name in {self._shown()}; {hint}")
        query = f"tags.{schema.KIND} = 'trial' and attributes.status = 'FINISHED'"
        losses, token = dict[str, float](), None
        while True:
            page = self._client.search_runs(
                [experiment.experiment_id], query, max_results=1000, page_token=token
            )
            for run in page:
                if "loss" in run.data.metrics and _matches(_all_params(run.data), params):
                    losses[run.info.run_id] = run.data.metrics["loss"]
            token = page.token
            if not token:
                break
        if not losses:
            cell = " ".join(f"{key}={value}" for key, value in params.items())
            raise RunError(f"study={study}: no finished trial has {cell or 'a loss'}")
        return min(losses, key=lambda run_id: (losses[run_id], run_id))

    def artifact(self, run_id: str, path: str, folder: Path) -> Path:
        """A copy of an artifact in `folder`; RunError where the run has none of this name."""
        from mlflow.exceptions import MlflowException

        try:
            return Path(self._client.download_artifacts(run_id, path, str(folder)))
        except (MlflowException, OSError):
            raise RunError(f"run_id={run_id}: has no artifact {path}") from None

    def add_model_version(
        self, run_id: str, folder: Path, place: str, name: str, kind: str, about: ModelVersion
    ) -> str:
        """Keep a saved model at `place` of the run's artifacts; its version as model `name`.

        The version says which trial it is of, and the run has a tag that names the version.
        """
        from mlflow.exceptions import MlflowException

        self._client.log_artifacts(run_id, str(folder), place)
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{place}"
        version = self._client.create_model_version(
            name, source, run_id, tags=about.tags, description=about.description
        ).version
        self._client.set_tag(run_id, schema.MODEL_TAG + kind, f"models:/{name}/{version}")
        return str(version)

    def artifact_text(self, run_id: str, path: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            return self.artifact(run_id, path, Path(folder)).read_text(encoding="utf-8")

    def _shown(self) -> str:
        return without_password(self.uri, whole=True)


def _refuse_absent_file(uri: str) -> None:
    """Opening it would make an empty database."""
    path = addresses.sqlite_path(uri)
    if path is not None and not path.is_file():
        shown = without_password(uri, whole=True)
        raise RunError(
            f"tracking.uri={shown}: there is no such file; name the store that has the run"
        )


def _finished_trial(run: Any) -> tuple[Any, ...]:
    data, info = run.data, run.info
    kind = data.tags.get(schema.KIND)
    if kind != "trial":
        is_what = f"a run of kind {kind}" if kind else "not a run of this project"
        raise RunError(f"run_id={info.run_id}: is {is_what}; name a trial's run")
    if info.status != "FINISHED":
        raise RunError(f"run_id={info.run_id}: is {info.status}; only a finished trial can be used")
    return info.run_id, info.run_name or "", dict(data.tags), _all_params(data), dict(data.metrics)


def _all_params(data: Any) -> dict[str, str]:
    """With what was asked of it last, which stands in tags."""
    asked = {key: data.tags[key] for key in schema.REQUESTED if key in data.tags}
    params = {key: schema.current_name(key, value) for key, value in data.params.items()}
    return {**params, **asked}


def _matches(given: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """0.1 and 1e-1 are one number."""
    for key, value in wanted.items():
        if key not in given:
            return False
        value = schema.current_name(key, value)
        try:
            if float(given[key]) != float(value):
                return False
        except ValueError:
            if given[key] != value:
                return False
    return True
