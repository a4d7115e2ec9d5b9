"""What a study predicted of its own trials before they ran, and whether it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling import schema

COLUMNS = (
    "says", "source", "metric", "at", "relation", "predicted", "tolerance", "measured", "n",
    "holds",
)  # fmt: skip
HOLDS, FAILS, NOT_MEASURED = "holds", "does not hold", "not measured"


def predictions_of(sweeps: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Those of the newest sweep that has any (schema.PREDICTION_KEYS)."""
    for tags in sweeps:
        if tags.get(schema.PREDICTIONS):
            return json.loads(tags[schema.PREDICTIONS])
    return []


def check_predictions(
    trials: pd.DataFrame, curves: pd.DataFrame, predictions: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """A row a prediction: what was predicted, what was measured, whether it holds.

    trials and curves as analysis.runs reads them. measured: of the trials that it speaks of the one
    that comes nearest to breaking it, or breaks it most; n: how many there are. A trial without
    the value (it diverged before) breaks it. holds: HOLDS, FAILS, or NOT_MEASURED where there is
    no such trial. What does not hold comes first.
    """
    rows = [_check(trials, curves, prediction) for prediction in predictions]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = table["holds"].map({FAILS: 0, NOT_MEASURED: 1, HOLDS: 2})
    return table.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


@dataclass(frozen=True)
class Verdict:
    """Of all predictions: a sentence, and whether everything holds."""

    sentence: str
    sound: bool


def verdict(table: pd.DataFrame) -> Verdict | None:
    """None where nothing was predicted."""
    if table.empty:
        return None
    n_holding, n = int((table["holds"] == HOLDS).sum()), len(table)
    if n_holding == n:
        return Verdict(f"All {n} predictions hold.", True)
    wrong = table.loc[table["holds"] == FAILS, "says"].tolist()
    unknown = int((table["holds"] == NOT_MEASURED).sum())
    parts = [f"{n_holding} of {n} predictions hold."]
    parts += [f"These do not: {'; '.join(wrong)}."] if wrong else []
    parts += [f"Not measured: {unknown}."] if unknown else []
    return Verdict(" ".join(parts), False)


def _check(
    trials: pd.DataFrame, curves: pd.DataFrame, prediction: Mapping[str, Any]
) -> dict[str, Any]:
    relation = next(kind for kind in schema.PREDICTED if kind in prediction)
    predicted = float(prediction[relation])
    tolerance = float(prediction.get("tolerance", 0.0))
    values = _values(trials, curves, prediction)
    wrong = {
        "equals": np.abs(values - predicted) - tolerance,
        "at_most": values - predicted,
        "at_least": predicted - values,
    }[relation]
    holds = NOT_MEASURED if not len(values) else HOLDS if (wrong <= 0).all() else FAILS
    return {
        **{key: str(prediction.get(key, "")) for key in ("says", "source", "metric", "at")},
        "relation": relation,
        "predicted": predicted,
        "tolerance": tolerance if relation == "equals" else np.nan,
        "measured": float(values[np.argmax(wrong)]) if len(values) else np.nan,
        "n": len(values),
        "holds": holds,
    }


def _values(
    trials: pd.DataFrame, curves: pd.DataFrame, prediction: Mapping[str, Any]
) -> np.ndarray:
    """One number of each trial that the prediction speaks of, NaN where it has none."""
    chosen = np.ones(len(trials), dtype=bool)
    for param, wanted in (prediction.get("where") or {}).items():
        allowed = wanted if isinstance(wanted, list) else [wanted]
        known = trials[param].map(_plain) if param in trials else pd.Series(None, trials.index)
        chosen &= known.isin([_plain(value) for value in allowed]).to_numpy()
    metric, at = prediction["metric"], prediction["at"]
    if metric not in curves:
        return np.full(int(chosen.sum()), np.nan)
    points = curves.dropna(subset=[metric])
    if at not in schema.AT:
        points = points[points["step"] == at]
    by_run = points.sort_values("step").groupby("run_id")[metric]
    found = {"greatest": by_run.max, "least": by_run.min}.get(at, by_run.last)()
    return found.reindex(trials.loc[chosen, "run_id"]).to_numpy(float)


def _plain(value: Any) -> Any:
    """A param as MLflow holds it: lists as JSON text, numbers as numbers."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return json.dumps([float(item) for item in value])
    return value if isinstance(value, (bool, str)) or value is None else float(value)
