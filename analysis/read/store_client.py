"""The runs of an experiment through MLflow's client: any store, a request a run and metric."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.stores import (
    OUR_TRIALS,
    OURS,
    PARENT,
    NoExperiment,
    StoredRuns,
    Wanted,
    points_frame,
    public_uri,
    unreadable,
)
from scaling import schema


def open_client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def search_runs(client: Any, experiment_id: str, text: str | None) -> list[Any]:
    from mlflow.exceptions import MlflowException

    runs, token = [], None
    try:
        while True:
            page = client.search_runs(
                [experiment_id], filter_string=text or "", max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs
    except MlflowException as error:
        if text and error.error_code == "INVALID_PARAMETER_VALUE":
            reason = str(error).splitlines()[0].removeprefix("INVALID_PARAMETER_VALUE: ")
            raise AnalysisError(f"source.filter={text}: MLflow rejects it ({reason})") from None
        raise


def read_client(study: str, uri: str, wanted: Wanted = OUR_TRIALS) -> StoredRuns:
    """The same through MLflow's client: any store, a request a run and metric."""
    from mlflow.exceptions import MlflowException

    try:
        client = open_client(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            stages = {e.name: "active" for e in client.search_experiments(max_results=1000)}
            if experiment is not None:
                stages[study] = experiment.lifecycle_stage
            raise NoExperiment(study, public_uri(uri), stages)
        runs = search_runs(client, experiment.experiment_id, wanted.filter)
        beyond = [] if wanted.only_trials else _parents_of(client, runs)
        return _from_entities(client, runs, beyond, wanted)
    except (MlflowException, OSError) as error:
        raise unreadable(uri, error) from None


def _parents_of(client: Any, runs: list[Any]) -> list[Any]:
    """Parent runs, and theirs, that a filter left out. One that was deleted for good is skipped."""
    from mlflow.exceptions import MlflowException

    known = {run.info.run_id for run in runs}
    parents: list[Any] = []
    while missing := {r.data.tags.get(PARENT) for r in [*runs, *parents]} - known - {None}:
        known |= missing
        for run_id in sorted(missing):
            try:
                parents.append(client.get_run(run_id))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
    return parents


def _from_entities(client: Any, runs: list[Any], beyond: list[Any], wanted: Wanted) -> StoredRuns:
    """beyond: runs of which only params and tags are kept."""
    read = [
        run
        for run in runs
        if run.info.status == "FINISHED"
        and (not wanted.only_trials or run.data.tags.get(schema.KIND) in OURS)
    ]

    def history(key: str) -> Iterator[tuple[str, int, int, float]]:
        for run in read:
            if key in run.data.metrics:
                yield from _whole_history(client, run, key)

    def long(field: str) -> pd.DataFrame:
        rows = [
            (r.info.run_id, *item)
            for r in [*runs, *beyond]
            for item in getattr(r.data, field).items()
        ]
        return pd.DataFrame(rows, columns=["run_id", "key", "value"])

    code = {run.info.run_id: i for i, run in enumerate(runs)}
    return StoredRuns(
        runs=pd.DataFrame(
            [(r.info.run_id, r.info.status, r.info.end_time) for r in runs],
            columns=["run_id", "status", "end_time"],
        ),
        params=long("params"),
        tags=long("tags"),
        latest=long("metrics"),
        metrics={key: points_frame(history(key), code) for key in wanted.metrics},
    )


def _whole_history(client: Any, run: Any, key: str) -> Iterator[tuple[str, int, int, float]]:
    """Every point of a metric. Raises AnalysisError if the store held the last one back.

    Requests have limits (25,000 points in one of MLflow's), and some cut what is beyond in silence.
    """
    points = client.get_metric_history(run.info.run_id, key)
    last = run.data.metrics[key]
    if not any(point.value == last or point.value != point.value for point in reversed(points)):
        raise AnalysisError(
            f"metric {key} of run {run.info.run_id}: the store gave {len(points):,} points and not "
            "the last one; read its database directly with tracking_uri=..."
        )
    for point in points:
        value = point.value if math.isfinite(point.value) else math.inf
        yield run.info.run_id, point.step, point.timestamp, value
