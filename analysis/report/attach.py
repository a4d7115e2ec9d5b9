"""Attaching a report to its sweep's parent run in MLflow, and its frontier as runs with charts."""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.groups import group_label, select
from analysis.words import rounded
from scaling import schema

if TYPE_CHECKING:
    from analysis.result import StudyResult

ARTIFACT_PATH = "report"
CONTENTS = ("report.html", "summary.json", "tables", "figures")
DIGEST = "digest"  # tag of a report's run: of all its points
MOST_FRONTIERS = 50
MOST_VALUES = 24  # of a param, shown
Points = dict[str, list[tuple[int, float]]]  # metric -> (batch size, value)
MODE = "workflowType=machine_learning"  # MLflow opens its pages of language models otherwise


@dataclass(frozen=True)
class Shown:
    """What MLflow shows of a result beside its report.

    frontiers: a run each, its name and its points; fitted: metrics, and grid: params of the sweep.
    """

    study: str
    frontiers: list[tuple[str, Points]]
    fitted: dict[str, float]
    grid: dict[str, str]


def shown_of(result: StudyResult) -> Shown:
    return Shown(result.study, _frontiers(result), fitted_points(result), grid_values(result))


def import_mlflow() -> None:
    """What attach_report needs, which takes 3 s. No store is opened: that may create one."""
    with suppress(ImportError):  # attach_report meets it again
        import mlflow.artifacts
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def attach_report(
    tracking_uri: str, run_id: str, folder: Path, note: str, shown: Shown | None = None
) -> str:
    """Log the report as artifacts of the run, set its note, and show the frontier of a result.

    Returns "" or why it failed.
    """
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri)
        for name in CONTENTS:
            path = folder / name
            if path.is_dir():
                client.log_artifacts(run_id, str(path), f"{ARTIFACT_PATH}/{name}")
            else:
                client.log_artifact(run_id, str(path), ARTIFACT_PATH)
        experiment = client.get_run(run_id).info.experiment_id
        page = f"(#{_report_page(experiment, run_id)})"
        client.set_tag(run_id, "mlflow.note.content", note.replace("(REPORT)", page))
        if shown is not None:
            _log_frontiers(client, experiment, run_id, shown)
            _log_fits(client, run_id, shown)
    except Exception as error:  # the report is written: whatever a store says is only a warning
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def pages(tracking_uri: str, run_id: str) -> list[tuple[str, str]]:
    """Names and paths of MLflow's pages of the run's study; none if the store does not answer."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        experiment = MlflowClient(tracking_uri).get_run(run_id).info.experiment_id
    except MlflowException:
        return []
    start = f"#/experiments/{experiment}/runs?{MODE}"
    chart = f"{start}&compareRunsMode=CHART&viewStateShareKey="
    return [
        ("trials", f"{start}&viewStateShareKey={schema.VIEW_TRIALS}"),
        ("loss vs steps", chart + schema.VIEW_STEPS),
        ("loss vs examples", chart + schema.VIEW_EXAMPLES),
        ("frontier", chart + schema.VIEW_FRONTIER),
        ("report", f"#{_report_page(experiment, run_id)}"),
    ]


def _report_page(experiment: str, run_id: str) -> str:
    return f"/experiments/{experiment}/runs/{run_id}/artifacts/{ARTIFACT_PATH}/report.html?{MODE}"


def frontier_points(frontier: pd.DataFrame) -> Points:
    """Metric -> (batch size, value) of the rows that reached their target, finite values only."""
    reached = frontier[frontier["outcome"] == schema.REACHED].sort_values("batch_size")
    points = {}
    for quantity, metric in schema.FRONTIER.items():
        known = reached[["batch_size", quantity]].dropna()
        points[metric] = [
            (int(size), float(value)) for size, value in known.itertuples(index=False)
        ]
    return points


def fitted_points(result: StudyResult) -> dict[str, float]:
    """Metric of the sweep's run -> value, of every fit; finite values only."""
    points = {}
    for fit in result.fits:
        for quantity in schema.FITTED:
            value = getattr(fit, quantity)
            if value is not None and math.isfinite(value):
                name = schema.fitted_metric(quantity, fit.target_loss, group_label(fit.group))
                points[name] = float(value)
    return points


def grid_values(result: StudyResult) -> dict[str, str]:
    """Param -> its values, as far as they can be read: "1, 2, 4"; of what the trials differ in."""
    values = {}
    for name in dict.fromkeys(["batch_size", "lr", "seed", *result.group_by]):
        if name in result.trials:
            known = sorted(result.trials[name].dropna().unique(), key=_number_first)
            shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in known]
            rest = f", .. {len(shown)} in all" if len(shown) > MOST_VALUES else ""
            values[schema.GRID_PARAM + name] = ", ".join(shown[:MOST_VALUES]) + rest
    return values


def _number_first(value: Any) -> tuple[bool, float, str]:
    number = isinstance(value, int | float | np.number)
    return not number, float(value) if number else 0.0, str(value)


def _log_fits(client: Any, run_id: str, shown: Shown) -> None:
    """The sweep's run can be sorted and compared by what came out, and by what it was asked.

    A param cannot be overwritten: a study that grew keeps its first grid there, and its whole grid
    in the tag GRID.
    """
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    run = client.get_run(run_id)
    points = dict(shown.fitted)
    before = [key for key in run.data.metrics if key.partition("/")[0] in schema.FITTED]
    points |= {key: math.nan for key in before if key not in points}  # no metric can be deleted
    metrics = [Metric(key, value, now, 0) for key, value in points.items()]
    grid = shown.grid
    params = [Param(key, value) for key, value in grid.items() if key not in run.data.params]
    tags = []
    if any(run.data.params.get(key, value) != value for key, value in grid.items()):
        lines = [f"{key.removeprefix(schema.GRID_PARAM)}: {value}" for key, value in grid.items()]
        tags = [RunTag(schema.GRID, "; ".join(lines))]
    client.log_batch(run_id, metrics[:900], params[:90], tags)


def _frontiers(result: StudyResult) -> list[tuple[str, Points]]:
    """Of each group and target."""
    frontiers = []
    for group in result.groups:
        frontier = select(result.frontier, group)
        for target in sorted(frontier["target_loss"].unique())[:MOST_FRONTIERS]:
            points = frontier_points(frontier[frontier["target_loss"] == target])
            label = group_label(group)
            name = ", ".join(part for part in (label, f"loss {rounded(target)}") if part)
            frontiers.append((name, points))
    return frontiers


def _log_frontiers(client: Any, experiment: str, parent: str, shown: Shown) -> None:
    """A run a group and target, with the batch size as step: MLflow draws them as lines.

    A metric cannot be overwritten, so a run whose points changed is deleted and created again.
    """
    known = {}
    for run in client.search_runs([experiment], f"tags.{schema.KIND} = 'report'"):
        if run.info.status == "FINISHED":
            known[run.data.tags.get(DIGEST)] = run.info.run_id
        else:  # of a report that was killed while it wrote it
            client.delete_run(run.info.run_id)
    wanted = {}
    for name, points in shown.frontiers:
        text = json.dumps([parent, name, points])
        wanted[hashlib.sha256(text.encode()).hexdigest()[:16]] = (name, points)
    for digest, run_id in known.items():
        if digest not in wanted:
            client.delete_run(run_id)
    for digest, (name, points) in list(wanted.items())[:MOST_FRONTIERS]:
        if digest not in known and any(points.values()):
            tags = {schema.KIND: "report", schema.STUDY: shown.study, DIGEST: digest}
            _log_frontier(client, experiment, name, tags | {"mlflow.parentRunId": parent}, points)


def _log_frontier(
    client: Any,
    experiment: str,
    name: str,
    tags: dict[str, str],
    points: Points,
) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    run = client.create_run(experiment, now, tags, f"frontier, {name}")
    metrics = [Metric(key, y, now, size) for key, rows in points.items() for size, y in rows]
    client.log_batch(run.info.run_id, metrics[:1000])
    client.set_terminated(run.info.run_id)
