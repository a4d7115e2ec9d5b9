"""Laws, compute, time, and half or twice the batch size, as rows of text for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit.law_fit import FEWEST_FOR_CLAIM
from analysis.groups import listed
from analysis.report.answers import between, rounded, size_words
from analysis.report.tables import group_label, groups_of, select
from analysis.study import StudyResult
from analysis.fit.scaling_laws import OWN_TARGETS

Row = dict[str, str]

_NAMES = {
    "critical_batch_size": "critical batch size", "min_steps": "fewest steps",
    "min_examples": "fewest examples", "target_loss": "target loss", "model_size": "model size",
    "batch_size": "batch size", "steps": "steps", "loss": "held-out loss", "compute": "compute",
}  # fmt: skip
_CHOICES = {
    "fastest": "fastest (least time), of those measured",
    "fastest_fitted": "fastest, between them by the fits",
    "cheapest": "cheapest (fewest examples), of those measured",
}


@dataclass
class ScalingAnswers:
    """Rows of text, empty where nothing is known.

    trades: from the balanced batch size (else the middle one) at each group's hardest target;
    twice: what twice the compute buys by more steps, a larger batch, a larger model;
    times: the named batch sizes in seconds; laws: exponents; unknown_laws: sentences that say why
    the others are not known; compute: what ten times the budget should be spent on.
    """

    trades: list[Row] = field(default_factory=list)
    twice: list[Row] = field(default_factory=list)
    times: list[Row] = field(default_factory=list)
    laws: list[Row] = field(default_factory=list)
    unknown_laws: list[str] = field(default_factory=list)
    compute: list[str] = field(default_factory=list)
    has_seconds: bool = False


def scaling_answers(result: StudyResult) -> ScalingAnswers:
    """Of every group at its hardest target; all the rest stands in the tables."""
    found = ScalingAnswers(has_seconds=len(result.time_to_target) > 0)
    for group in groups_of(result):
        found.trades += _trades(_hardest(select(result.halve_double, group)), group)
        found.times += _times(_hardest(select(result.batch_size_choices, group)), group)
        found.twice += _twice(select(result.twice_the_compute, group), group)
    shown = result.laws[result.laws["y"].isin(["critical_batch_size", "min_steps", "min_examples"])]
    two_powers = result.laws[result.laws["form"] == "two_powers"]
    every = pd.concat([shown, two_powers])
    known = every["exponent"].notna()
    found.laws = [_law(law, result.group_by) for law in every[known].to_dict("records")]
    found.unknown_laws = _unknown(every[~known])
    for family in result.families:
        own = select(result.laws[result.laws["x"] == "compute"], family.others)
        if len(own):
            found.compute.append(_ten_times(own, group_label(family.others)))
    return found


def _unknown(laws: pd.DataFrame) -> list[str]:
    """Why there is no law, a sentence a reason; the table has them one by one."""
    found = []
    for reason, rows in laws.groupby("reason", sort=False):
        pairs = dict.fromkeys(zip(rows["y"], rows["x"], strict=True))
        names = listed([f"{_NAMES[y]} in {_NAMES[x]}" for y, x in pairs])
        found.append(f"{names}: {reason}.")
    return [text[0].upper() + text[1:] for text in found]


def _hardest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["target_loss"] == rows["target_loss"].min()] if len(rows) else rows


def _trades(rows: pd.DataFrame, group: Mapping[str, Any]) -> list[Row]:
    found = []
    for row in _from_one_size(rows).to_dict("records"):
        text = {
            "group": group_label(group), "target": rounded(row["target_loss"]),
            "start": size_words(row["batch_size"]), "to": size_words(row["to_batch_size"]),
            "change": "double" if row["to_batch_size"] > row["batch_size"] else "halve",
            "extrapolated": "extrapolated" if row["extrapolated"] else "",
        }  # fmt: skip
        for name in ("steps", "examples", "seconds"):
            text[name] = _percent(row[f"{name}_percent"])
            low, high = row[f"{name}_percent_low"], row[f"{name}_percent_high"]
            known = np.isfinite([low, high]).all()
            text[f"{name}_range"] = f"{_percent(low)} to {_percent(high)}" if known else ""
        found.append(text)
    return found


def _twice(rows: pd.DataFrame, group: Mapping[str, Any]) -> list[Row]:
    return [
        {
            "group": group_label(group), "way": row["way"],
            "critical": size_words(row["critical_batch_size"]),
            "target": rounded(row["target_loss"]),
            "model_size": size_words(row["model_size"]),
            "batch_size": size_words(row["batch_size"]), "steps": rounded(row["steps"]),
            "compute": f"{row['compute']:.3g}",
            "lr": rounded(row["lr"]) + (" (edge)" if row["lr_at_edge"] else ""),
            "loss": f"{row['loss']:.4g}", "loss_range": between(row["loss_low"], row["loss_high"]),
            "lowest": "lowest" if row["loss"] == rows["loss"].min() else "",
        }
        for row in rows.to_dict("records")
    ]  # fmt: skip


def _from_one_size(rows: pd.DataFrame) -> pd.DataFrame:
    """From the balanced batch size, else from the middle one of those measured."""
    if not len(rows) or (rows["start"] == "balanced").any():
        return rows[rows["start"] == "balanced"] if len(rows) else rows
    inside = rows[~rows["extrapolated"].astype(bool)]
    sizes = sorted(inside["batch_size"].unique())
    return inside[inside["batch_size"] == sizes[len(sizes) // 2]] if sizes else inside


def _times(rows: pd.DataFrame, group: Mapping[str, Any]) -> list[Row]:
    return [
        {
            "group": group_label(group),
            "target": rounded(row["target_loss"]),
            "name": _CHOICES[row["name"]],
            "batch_size": size_words(row["batch_size"]),
            "batch_size_range": between(row["batch_size_low"], row["batch_size_high"]),
            "edge": "at the edge of what was measured" if row["batch_size_at_edge"] else "",
            "seconds": rounded(row["seconds"]),
            "seconds_range": between(row["seconds_low"], row["seconds_high"]),
            "steps": rounded(row["steps"]),
            "examples": rounded(row["examples"]),
        }
        for row in rows.to_dict("records")
    ]


def _law(law: Mapping[Any, Any], group_by: list[str]) -> Row:
    group = {name: law[name] for name in group_by if pd.notna(law[name])}
    fixed = f"target {rounded(law['target_loss'])}" if pd.notna(law["target_loss"]) else ""
    if law["definition"] == OWN_TARGETS:
        fixed = "each size at its own target"
    offset = ""
    if law["x"] == "target_loss" and law["offset_is"] != "zero":
        how = "fitted" if law["offset_is"] == "free" else "recorded"
        offset = f"irreducible loss {rounded(law['offset'])} ({how})"
    without = law["exponent_without_one_low"], law["exponent_without_one_high"]
    return {
        "group": group_label(group),
        "y": _NAMES[law["y"]] + (" (two powers)" if law["form"] == "two_powers" else ""),
        "x": _NAMES[law["x"]],
        "fixed": ", ".join(text for text in (fixed, offset) if text),
        "exponent": _decimal(law["exponent"]),
        "range": _decimals(law["exponent_low"], law["exponent_high"]),
        "without_one": _decimals(*without),
        "misfit": _percent(100 * law["rmse_log"]).lstrip("+"),
        "n": str(law["n"]) + (f", {law['n_left_out']} left out" if law["n_left_out"] else ""),
    }


def _ten_times(laws: pd.DataFrame, label: str) -> str:
    """What ten times the compute should be spent on, or why that is not known."""
    parts, missing = [], []
    for law in laws[laws["y"] != "loss"].to_dict("records"):
        if pd.isna(law["exponent"]) or law["n"] < FEWEST_FOR_CLAIM:
            missing.append(law["reason"] or _few_budgets(law["n"]))
            continue
        low, high = (10 ** law[f"exponent_{end}"] for end in ("low", "high"))
        known = f" ({rounded(low)} to {rounded(high)})" if np.isfinite([low, high]).all() else ""
        parts.append(f"{_NAMES[law['y']]} times {rounded(10 ** law['exponent'])}{known}")
    text = "Ten times the compute: " + ", ".join(parts) + "." if parts else ""
    if missing:
        unknown = "; ".join(dict.fromkeys(missing))
        text += f"{' ' if text else ''}Not known for the rest" if parts else "Not known"
        text += f": {unknown}. Train beyond that edge to find out."
    return f"{label}: {text}" if label else text


def _few_budgets(n: int) -> str:
    return f"the best lies inside what was trained at {n} budgets, a claim needs {FEWEST_FOR_CLAIM}"


def _percent(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return f"{value:+.{0 if abs(value) >= 10 else 1}f}\N{NO-BREAK SPACE}%"


def _decimal(value: float) -> str:
    return f"{value:.2f}"


def _decimals(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if np.isfinite([low, high]).all() else ""
