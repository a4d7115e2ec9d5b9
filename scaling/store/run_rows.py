"""A run as rows of MLflow's tables, as its API stores it."""

from __future__ import annotations

import math
import secrets
import sys
import time
from dataclasses import dataclass
from typing import Any

from scaling.store.client import Point, as_text

RUN_NAME, USER = "mlflow.runName", "mlflow.user"
CHECKS = ("_validate_metric", "_validate_param", "_validate_tag")  # MLflow's, not public
Row = dict[str, Any]


class NotTaken(Exception):
    """Not written as rows: for MLflow's API, which says why where it refuses something."""


@dataclass(frozen=True)
class NewRun:
    name: str
    start_time: float  # seconds since 1970
    tags: dict[str, str]


@dataclass(frozen=True)
class RunRows:
    """run: None if it is there already; latest: of each metric the newest point."""

    run_id: str
    run: Row | None
    points: list[Row]
    latest: list[Row]
    params: list[Row]
    tags: list[Row]


def rows_of(
    run_id: str,
    new: NewRun | None,
    points: list[Point],
    params: dict[str, Any],
    tags: dict[str, str],
) -> RunRows:
    """NotTaken, or what MLflow's own checks raise, for what MLflow may refuse."""
    from mlflow.utils.validation import _validate_param, _validate_tag

    checked_params = [_validate_param(key, as_text(value)) for key, value in params.items()]
    checked_tags = [_validate_tag(key, value) for key, value in tags.items()]
    kept = {tag.key: tag.value for tag in checked_tags}
    if new is not None:
        kept = new.tags | {RUN_NAME: new.name} | kept
    if RUN_NAME in tags or (new is not None and (not new.name or RUN_NAME in new.tags)):
        raise NotTaken
    metrics = _metric_rows(run_id, points)
    return RunRows(
        run_id,
        None if new is None else _new_row(run_id, new),
        metrics,
        _latest_rows(metrics),
        [{"key": one.key, "value": one.value, "run_uuid": run_id} for one in checked_params],
        [{"key": key, "value": value, "run_uuid": run_id} for key, value in kept.items()],
    )


def new_run_id() -> str:
    """A UUID of version 7 (RFC 9562): ids grow with time, so that a B-tree's inserts are local."""
    random = secrets.randbits(74)
    moment, high, low = time.time_ns() // 1_000_000, random >> 62, random & (1 << 62) - 1
    return f"{moment << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"


def milliseconds(moment: float) -> int:
    return int(moment * 1000)


def _new_row(run_id: str, new: NewRun) -> Row:
    """Without experiment_id and artifact_uri, which the store knows."""
    return {
        "run_uuid": run_id,
        "name": new.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "source_version": "",
        "user_id": new.tags.get(USER, "unknown"),
        "status": "RUNNING",
        "start_time": milliseconds(new.start_time),
        "end_time": None,
        "deleted_time": None,
        "lifecycle_stage": "active",
    }


def _metric_rows(run_id: str, points: list[Point]) -> list[Row]:
    """NaN is 0 with a mark, and what is infinite the largest number that there is."""
    from mlflow.utils.validation import _validate_metric

    largest = sys.float_info.max
    for key, value, moment, step in {point[0]: point for point in points}.values():
        _validate_metric(key, value, moment, step)
    return [
        {
            "key": key,
            "value": 0.0 if (nan := math.isnan(value)) else min(max(value, -largest), largest),
            "timestamp": int(moment * 1000),
            "run_uuid": run_id,
            "step": step,
            "is_nan": nan,
        }
        for key, value, moment, step in points
    ]


def _latest_rows(metrics: list[Row]) -> list[Row]:
    newest: dict[str, Row] = {}
    for row in metrics:
        known = newest.setdefault(row["key"], row)
        if _age(row) > _age(known):
            newest[row["key"]] = row
    return list(newest.values())


def _age(row: Row) -> tuple[int, int, float]:
    """MLflow's rule: of the points of a metric the one with the largest of these is the latest."""
    return row["step"], row["timestamp"], row["value"]
