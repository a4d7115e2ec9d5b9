"""Frames of a simulated study, written to an MLflow store the way sweeps write theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from analysis.read.runs import LEADING
from scaling.schema import KIND, LAST_STEP, OUTCOME, SECONDS, STUDY, SWEEP, TARGETS, TRIAL_ID

START = 1_700_000_000_000
Edit = Callable[[dict[Any, Any]], object]


def new_store(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def write_study(
    uri: str, study: str, trials: pd.DataFrame, curves: pd.DataFrame, edit: Edit | None = None
) -> tuple[str, list[str]]:
    """A parent run and a run a trial; their ids. `edit` may change each trial's row before."""
    client = MlflowClient(uri)
    folder = Path(uri.removeprefix("sqlite:///")).parent / "artifacts"
    experiment = client.get_experiment_by_name(study)
    number = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(study, artifact_location=folder.as_uri())
    )
    tags = {KIND: "sweep", STUDY: study, SWEEP: "first", "git.commit": "0123abc"}
    parent = client.create_run(number, run_name=study, tags=tags).info.run_id
    points = dict(list(curves.groupby("run_id")))
    ids = []
    for row in trials.to_dict("records"):
        status, curve = "FINISHED", points[row["run_id"]]
        if edit:
            edit(row)
            status = row["status"]
        ids.append(_write_trial(client, number, parent, row, curve))
        if status != "RUNNING":
            client.set_terminated(ids[-1], status)
    client.set_terminated(parent)
    return parent, ids


def _write_trial(
    client: MlflowClient, experiment: str, parent: str, row: dict[Any, Any], curve: pd.DataFrame
) -> str:
    tags = {KIND: "trial", "mlflow.parentRunId": parent}
    tags |= {key: str(row[key]) for key in (TRIAL_ID, STUDY, SWEEP, OUTCOME, LAST_STEP, SECONDS)}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    params = {key: str(value) for key, value in row.items() if key not in LEADING}
    params[TARGETS] = json.dumps(row[TARGETS])
    points = [
        Metric(key, float(value), START + int(step), int(step))
        for key in ("loss", "train_loss", "examples")
        for step, value in zip(curve["step"], curve[key], strict=True)
        if key != "train_loss" or step > 0
    ]
    logged = [Param(key, value) for key, value in params.items()]
    client.log_batch(run_id, points[:900], logged)
    if len(points) > 900:
        client.log_batch(run_id, points[900:])
    return run_id


# Runs of another project: (params, metrics: key -> [(step, value)], status)
Foreign = tuple[dict[str, Any], dict[str, list[tuple[int, float]]], str]
FOREIGN: list[Foreign] = [
    ({"train.bs": 8, "lr": 0.1}, {"eval/loss": [(1, 2.0), (2, 1.5), (4, 1.0)]}, "FINISHED"),
    ({"train.bs": 16, "lr": 0.1}, {"eval/loss": [(1, 1.9), (2, 1.2), (4, 0.8)]}, "FINISHED"),
]


def write_foreign(uri: str, experiment: str, runs: list[Foreign]) -> list[str]:
    """An experiment as another project's code may have logged it; the runs' ids."""
    client = MlflowClient(uri)
    folder = Path(uri.removeprefix("sqlite:///")).parent / "artifacts"
    known = client.get_experiment_by_name(experiment)
    number = (
        known.experiment_id
        if known
        else client.create_experiment(experiment, artifact_location=folder.as_uri())
    )
    ids = []
    for params, metrics, status in runs:
        run_id = client.create_run(number).info.run_id
        points = [
            Metric(key, float(value), START + i, step)
            for key, values in metrics.items()
            for i, (step, value) in enumerate(values)
        ]
        logged = [Param(key, str(value)) for key, value in params.items()]
        client.log_batch(run_id, points, logged)
        client.set_terminated(run_id, status)
        ids.append(run_id)
    return ids
