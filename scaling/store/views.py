"""Saved views of an experiment, as MLflow's page of runs lists them under "Views".

MLflow does not document their form: a version that does not know it ignores these tags. A view is
the experiment's tag ``mlflow.sharedViewState.<id>``: JSON of name, createdAt, updatedAt and state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scaling import schema

TAG = "mlflow.sharedViewState."
MOST_COLUMNS = 8
CREATED_AT = 1_700_000_000_000  # milliseconds; constant: the same views give the same tags
DERIVED = {schema.INITIAL_LOSS, schema.IRREDUCIBLE_LOSS, schema.TASK_CONTENT, *schema.REQUESTED}


def view_tags(
    params: Sequence[Mapping[str, Any]], targets: Iterable[float], pictures: str | None = None
) -> dict[str, str]:
    """The experiment's tags, by their key.

    params: of its trials, which become columns where they differ; pictures: key of the image
    slider, if there is one.
    """
    labels = [schema.target_label(target) for target in sorted(targets)]
    columns = [_column("params", key) for key in varying(params)[:MOST_COLUMNS]]
    columns += [_column("metrics", key) for key in ("loss",)]
    columns += [_column("metrics", schema.STEPS_TO_TARGET + label) for label in labels[:1]]
    columns += [_column("tags", schema.OUTCOME), "attributes.`Duration`"]
    trials = {"searchFilter": f"tags.{schema.KIND} = 'trial'", "selectedColumns": columns}
    by_setting = {"mode": "tag", "groupByData": schema.SETTING}
    mean = {"groupBy": {"aggregateFunction": "average", "groupByKeys": [by_setting]}}
    shown = [_images(pictures)] if pictures else []
    views = {
        schema.VIEW_TRIALS: ("trials", trials, [_line("loss"), *shown]),
        schema.VIEW_STEPS: ("loss vs steps", trials | mean, _losses(None)),
        schema.VIEW_EXAMPLES: ("loss vs examples", trials | mean, _losses("examples")),
        schema.VIEW_FRONTIER: (
            "frontier",
            {"searchFilter": f"tags.{schema.KIND} = 'report'", "runsHiddenMode": "SHOWALL"},
            [_line(metric) for metric in schema.FRONTIER.values()],
        ),
    }
    return {TAG + key: _envelope(*view) for key, view in views.items()}


def varying(params: Sequence[Mapping[str, Any]]) -> list[str]:
    """Params that differ between trials: batch size, lr and seed first."""
    first = ["batch_size", "lr", "seed"]
    keys = dict.fromkeys(key for one in params for key in one if key not in DERIVED)
    others = [key for key in keys if key not in first]
    return first + [k for k in others if len({json.dumps(one.get(k)) for one in params}) > 1]


def _envelope(name: str, state: Mapping[str, Any], charts: list[dict[str, Any]]) -> str:
    section = {"uuid": "batch-scaling", "name": name, "display": True, "columns": 2}
    section |= {"isReordered": False, "deleted": False, "isGenerated": False}
    whole = {
        "orderByKey": _column("metrics", "loss"),  # by another key than time: no nesting
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "runsHiddenMode": "FIRST_10_RUNS",
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": True,
        "groupBy": None,
        "compareRunSections": [
            section | {"isReordered": False, "deleted": False, "isGenerated": False}
        ],
        "compareRunCharts": [
            chart | {"uuid": f"batch-scaling-{n}", "metricSectionId": "batch-scaling"}
            for n, chart in enumerate(charts)
        ],
        **state,
    }
    text = json.dumps(whole, separators=(",", ":"))
    envelope = {"name": name, "createdAt": CREATED_AT, "updatedAt": CREATED_AT, "state": text}
    return json.dumps(envelope, separators=(",", ":"))


def _column(kind: str, key: str) -> str:
    return f"{kind}.`{key}`"


def _losses(against: str | None) -> list[dict[str, Any]]:
    return [_line(key, against) for key in ("loss", "train_loss", "accuracy")]


def _line(metric: str, against: str | None = None) -> dict[str, Any]:
    """A chart of a metric against steps, or another metric; both axes logarithmic."""
    share = metric == "accuracy"
    return _card("LINE") | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": f"{metric} vs {against or 'steps'}",
        "xAxisKey": "metric" if against else "step",
        "selectedXAxisMetricKey": against or "",
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        "lineSmoothness": 0,
        "xAxisScaleType": "log",
        "scaleType": "linear" if share else "log",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "ignoreOutliers": False,
    }


def _images(key: str) -> dict[str, Any]:
    return _card("IMAGE") | {"imageKeys": [key], "step": 0, "showRunParams": False}


def _card(kind: str) -> dict[str, Any]:
    return {"type": kind, "runsCountToCompare": 10, "deleted": False, "isGenerated": False}
