"""What a study predicted of its own trials before they ran, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.stored_values import is_number, listed, wrong_tag
from analysis.report.part_of_study import chosen, restricted
from analysis.result import StudyResult
from analysis.topics import QUANTITIES
from analysis.topics.topic import Finding
from scaling import schema

COLUMNS = (
    "says", "source", "note", "metric", "at", "quantity", "what", "relation", "predicted",
    "tolerance", "allowed", "measured", "standard_error", "low", "high", "n", "holds", "reason",
)  # fmt: skip
HOLDS, FAILS, NOT_MEASURED = "holds", "does not hold", "not measured"


def predictions_of(sweeps: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Those of the newest sweep that has any (schema.PREDICTION_KEYS)."""
    predictions = listed(sweeps, schema.PREDICTIONS)
    for prediction in predictions:
        if not _is_sound(prediction):
            raise wrong_tag(schema.PREDICTIONS, prediction, "a list of sound predictions")
    return predictions


def _is_sound(prediction: Mapping[str, Any]) -> bool:
    """As a sweep writes it (schema.PREDICTION_KEYS)."""
    of_all = "quantity" in prediction
    at = prediction.get("at")
    subject = (
        prediction["quantity"] in QUANTITIES
        if of_all
        else isinstance(prediction.get("metric"), str) and (at in schema.AT or type(at) is int)
    )
    given = [key for key in schema.PREDICTED if key in prediction]
    numbers = [prediction[key] for key in (*given, *schema.TOLERANCES) if key in prediction]
    return (
        isinstance(prediction.get("says"), str)
        and set(prediction) <= set(schema.PREDICTION_KEYS)
        and isinstance(prediction.get("where", {}), dict)
        and subject
        and len(given) == 1
        and all(is_number(one) or (one == schema.THEORY and of_all) for one in numbers)
        and (given != ["equals"] or any(key in prediction for key in schema.TOLERANCES))
    )


def check_predictions(
    result: StudyResult, predictions: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """What was predicted, what was measured, whether it holds. What does not hold comes first.

    Of a metric a row: measured is of the trials that it speaks of the one that comes nearest to
    breaking it, or breaks it most; a trial without the value (it diverged before) breaks it. Of a
    quantity a row for each of its numbers (`what`), with standard_error, low and high. n: trials;
    tolerance: absolute, in the measured unit; allowed: as the study states it. holds: HOLDS, FAILS,
    or NOT_MEASURED where there is no such trial or value; reason: why it does not hold.
    """
    rows = [row for prediction in predictions for row in _check(result, prediction)]
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
    failing = table[table["holds"] == FAILS]
    wrong = [
        f"{says} ({what})" if what else says
        for says, what in zip(failing["says"], failing["what"], strict=True)
    ]
    unknown = int((table["holds"] == NOT_MEASURED).sum())
    parts = [f"{n_holding} of {n} predictions hold."]
    parts += [f"These do not: {'; '.join(wrong)}."] if wrong else []
    parts += [f"Not measured: {unknown}."] if unknown else []
    return Verdict(" ".join(parts), False)


def _check(result: StudyResult, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = _of_quantity if "quantity" in prediction else _of_metric
    keys = ("says", "source", "note", "metric", "at", "quantity")
    stated = {key: str(prediction.get(key, "")) for key in keys}
    return [stated | row for row in rows(result, prediction)]


def _of_metric(result: StudyResult, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = _values(result.trials, result.curves, prediction)
    if not len(values):
        nothing = Finding("", None, reason="no trial of the study matches it")
        return [_row(prediction, nothing, 0)]
    if np.isnan(values).any():
        without = int(np.isnan(values).sum())
        reason = f"{without} of {len(values)} trials have no such value: they ended before it"
        return [_row(prediction, Finding("", None, reason=reason), len(values)) | {"holds": FAILS}]
    rows = [_row(prediction, Finding("", float(value)), len(values)) for value in values]
    return [max(rows, key=lambda row: row["excess"])]


def _of_quantity(result: StudyResult, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
    part, frames = restricted(result, result.frames, prediction.get("where"))
    n = len(part.trials)
    name = prediction["quantity"]
    if not n:
        findings = [Finding("", None, reason="no trial of the study matches it")]
    elif name not in QUANTITIES:
        findings = [Finding("", None, reason="this version has no quantity of this name")]
    else:
        try:
            findings = QUANTITIES[name](part, frames)
        except AnalysisError as error:
            findings = [Finding("", None, reason=str(error))]
    findings = findings or [Finding("", None, reason="these trials do not have it")]
    return [_row(prediction, finding, n) for finding in findings]


def _row(prediction: Mapping[str, Any], finding: Finding, n: int) -> dict[str, Any]:
    """One line of the table; excess: how far the value is beyond what is allowed, if positive."""
    relation = next(kind for kind in schema.PREDICTED if kind in prediction)
    wanted = prediction[relation]
    predicted = finding.predicted if wanted == schema.THEORY else float(wanted)
    tolerance, allowed = _tolerance(prediction, predicted, finding.standard_error)
    excess, reason = np.nan, finding.reason
    if finding.value is None or not np.isfinite(finding.value):
        reason = reason or "no value was found"
    elif predicted is None:
        reason = "no theory is known for it"
    elif tolerance is None:
        reason = "its standard error is not known"
    else:
        beyond = {
            "equals": abs(finding.value - predicted) - tolerance,
            "at_most": finding.value - predicted + tolerance,
            "at_least": predicted - finding.value + tolerance,
        }
        excess = beyond[relation]
        reason = "" if excess <= 0 else _reason(finding, predicted, relation)
    return {
        "what": finding.what,
        "relation": relation,
        "predicted": np.nan if predicted is None else predicted,
        "tolerance": np.nan if tolerance is None or not allowed else tolerance,
        "allowed": allowed,
        "measured": np.nan if finding.value is None else finding.value,
        "standard_error": np.nan if finding.standard_error is None else finding.standard_error,
        "low": np.nan if finding.low is None else finding.low,
        "high": np.nan if finding.high is None else finding.high,
        "n": n,
        "holds": NOT_MEASURED if np.isnan(excess) else HOLDS if excess <= 0 else FAILS,
        "reason": reason,
        "excess": excess,
    }


def _tolerance(
    prediction: Mapping[str, Any], predicted: float | None, standard_error: float | None
) -> tuple[float | None, str]:
    """Absolute, None where it is not known; and as the study states it, "" for none."""
    if "standard_errors" in prediction:
        count = float(prediction["standard_errors"])
        text = f"{count:g} standard errors"
        if standard_error is None or not np.isfinite(standard_error):
            return None, text
        return count * standard_error, text
    if "relative_tolerance" in prediction:
        share = float(prediction["relative_tolerance"])
        text = f"{100 * share:g} %" if share >= 1e-3 else f"relative {share:g}"
        return (share * abs(predicted) if predicted is not None else None), text
    if "tolerance" in prediction:
        return float(prediction["tolerance"]), f"{float(prediction['tolerance']):g}"
    return 0.0, ""


def _reason(finding: Finding, predicted: float, relation: str) -> str:
    """By how much, in the unit that tells whether it matters."""
    gap = (finding.value or 0.0) - predicted
    side = "above" if gap > 0 else "below"
    if finding.standard_error:
        off = f"{abs(gap) / finding.standard_error:.2g} standard errors"
    else:
        off = f"{abs(gap):.2g}" + (f" ({100 * abs(gap / predicted):.2g} %)" if predicted else "")
    right = {"equals": False, "at_most": gap <= 0, "at_least": gap >= 0}[relation]
    return f"only {off} {side} the bound" if right else f"{off} {side} what was predicted"


def _values(
    trials: pd.DataFrame, curves: pd.DataFrame, prediction: Mapping[str, Any]
) -> np.ndarray:
    """One number of each trial that the prediction speaks of, NaN where it has none."""
    which = chosen(trials, prediction.get("where"))
    metric, at = prediction["metric"], prediction["at"]
    if metric not in curves:
        return np.full(int(which.sum()), np.nan)
    points = curves.dropna(subset=[metric])
    if at not in schema.AT:
        points = points[points["step"] == at]
    by_run = points.sort_values("step").groupby("run_id")[metric]
    values = {"greatest": by_run.max, "least": by_run.min}.get(at, by_run.last)()
    return values.reindex(trials.loc[which, "run_id"]).to_numpy(float)
