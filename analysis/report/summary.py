"""The summary that programs read: summary.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.groups import their_group, their_name
from analysis.result import StudyResult
from scaling.schema import LOSSES

SUMMARY_FORMAT = 1


def summary(result: StudyResult) -> dict[str, Any]:
    """summary.json: plain values, null (None) and never NaN for what is not known."""
    frontier = [
        {
            "group": their_group({key: row[key] for key in result.group_by}),
            **{key: row[key] for key in ("target_loss", "batch_size", "steps", "examples", "lr")},
            **{key: row[key] for key in ("outcome", "lr_at_edge")},
            "ci95_steps": [row["steps_low"], row["steps_high"]],
            **{key: row[key] for key in ("n_seeds", "n_lrs")},
            **_tuned(row, result.tuned[1:]),
        }
        for row in result.frontier.to_dict("records")
    ]
    about_losses = result.about == LOSSES  # then a critical batch size has no meaning
    content = {
        "format": SUMMARY_FORMAT,
        "study": result.study,
        "example": result.units.example,
        "unit": result.units.unit or None,
        "units_per_example": result.units.units_per_example,
        "fits": []
        if about_losses
        else [fit.summary() | {"group": their_group(fit.group)} for fit in result.fits],
        "frontier": frontier,
        "laws": [] if about_losses else law_entries(result.frames["laws"], result.group_by),
        "rule_regret": rule_regret_entries(result.frames["rule_regret"], result.group_by),
        "warnings": result.warnings,
    }
    return plain(content)


def _tuned(row: Mapping[Any, Any], others: Sequence[str]) -> dict[str, Any]:
    """The best values of what is tuned beside lr, and which are at an end of those tried."""
    if not others:
        return {}
    at_edge = [their_name(name) for name in others if row[f"{name}_at_edge"] is True]
    return {"tuned": {their_name(name): row[name] for name in others}, "tuned_at_edge": at_edge}


def law_entries(laws: pd.DataFrame, group_by: Sequence[str]) -> list[dict[str, Any]]:
    """The laws of the summary: intervals as pairs, `group` only where a law is of one value."""
    pairs = ("exponent", "coefficient", "offset")
    flat = ("y", "definition", "x", "form", "target_loss", "batch_size", "examples", *pairs)
    flat += ("offset_is", "rmse_log", "n", "n_left_out", "approximate_ci", "reason")
    return [
        {
            "group": their_group({key: row[key] for key in group_by if pd.notna(row[key])}),
            **{key: row[key] for key in flat},
            "ci95": {key: [row[f"{key}_low"], row[f"{key}_high"]] for key in pairs},
            "exponent_without_one": [
                row["exponent_without_one_low"], row["exponent_without_one_high"]
            ],
        }
        for row in laws.to_dict("records")
    ]  # fmt: skip


def rule_regret_entries(regrets: pd.DataFrame, group_by: Sequence[str]) -> list[dict[str, Any]]:
    """The regret of rules, a record a group, target, rule and batch size."""
    flat = [name for name in regrets if name not in (*group_by, "regret_low", "regret_high")]
    return [
        {
            "group": their_group({key: row[key] for key in group_by}),
            **{str(key): row[key] for key in flat},
            "ci95_regret": [row["regret_low"], row["regret_high"]],
        }
        for row in regrets.to_dict("records")
    ]


def plain(value: Any) -> Any:
    """JSON's own types throughout; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
