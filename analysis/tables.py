"""Every number of the report as a frame (tables/*.csv), and the summary that programs read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.fitting import FitResult
from analysis.lr_rules import predict_lr
from analysis.study import StudyResult
from scaling.schema import DIVERGED

SUMMARY_FORMAT = 1
Group = dict[str, Any]


def tables(result: StudyResult) -> dict[str, pd.DataFrame]:
    """Name -> frame of all that is written as CSV; what the figures show is among them."""
    return {
        "recommendations": result.recommendations,
        "fits": fits(result),
        "steps_by_batch_size": steps_by_batch_size(result),
        "critical_batch_size": critical_batch_size(result),
        "best_lr": best_lr(result),
        "lr_rules": result.lr_rules,
        "steps_by_lr": result.cells,
        "loss_curves": loss_curves(result),
        "loss_at_fixed_examples": result.fixed_budget,
        "theory": result.theory,
    }


def groups_of(result: StudyResult) -> list[Group]:
    """Values of what varies besides batch size, lr and seed; one empty group if nothing does."""
    groups: list[Group] = []
    for fit in result.fits:
        if fit.group not in groups:
            groups.append(fit.group)
    return groups or [{}]


def group_label(group: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k.rsplit('.', 1)[-1]} {v:g}" if _is_number(v) else f"{k.rsplit('.', 1)[-1]} {v}"
        for k, v in group.items()
    )


def file_name(text: str) -> str:
    """A name safe for files and directories: letters, digits, `.`, `_`, `=`, `-`."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", text).strip("._") or "unnamed"


def select(frame: pd.DataFrame, group: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of one group."""
    keep = np.ones(len(frame), dtype=bool)
    for column, value in group.items():
        if column in frame:
            keep &= (frame[column] == value).to_numpy()
    return frame[keep].reset_index(drop=True)


def fits(result: StudyResult) -> pd.DataFrame:
    """The fits of the summary, flat: nested fields by dotted name, intervals as _low and _high."""
    return pd.DataFrame([_flat(fit.summary()) | {"reason": fit.reason} for fit in result.fits])


def steps_by_batch_size(result: StudyResult) -> pd.DataFrame:
    """The frontier, with what the fit and the exact theory say at the same batch sizes."""
    frames = []
    for fit in result.fits:
        own = select(result.frontier, fit.group)
        own = own[own["target_loss"] == fit.target_loss].copy()
        own["fitted_steps"] = fit.predict(own["batch_size"].to_numpy())
        own["fitted_steps_low"], own["fitted_steps_high"] = fit.predict_interval(
            own["batch_size"].to_numpy()
        )
        theory = select(result.theory, fit.group)
        theory = theory[theory["target_loss"] == fit.target_loss]
        for choice in ("same_grid", "continuous_lr"):
            exact = theory[theory["lr_choice"] == choice].set_index("batch_size")
            own[f"exact_steps_{choice}"] = own["batch_size"].map(exact["steps"]).astype(float)
            own[f"exact_lr_{choice}"] = own["batch_size"].map(exact["lr"]).astype(float)
        frames.append(own)
    return pd.concat(frames, ignore_index=True) if frames else result.frontier


def critical_batch_size(result: StudyResult) -> pd.DataFrame:
    """B_crit of each target by each definition, with interval and exact values where known."""
    rows = []
    for fit in result.fits:
        low, high = fit.ci95.get("critical_batch_size", (None, None))
        exact, overhead = fit.exact or {}, fit.critical_batch_size_overhead
        row = {
            "target_loss": fit.target_loss,
            "min_examples/min_steps": fit.critical_batch_size,
            "low": low,
            "high": high,
            "at_least": fit.at_least,
            "at_most": fit.at_most,
            "overhead": overhead.get("value"),
            "overhead_from_data": overhead.get("value_from_data"),
            "overhead_reference_batch_size": overhead.get("reference_batch_size"),
            "half_elasticity": fit.critical_batch_size_half_elasticity,
            "exact_same_grid": exact.get("same_grid"),
            "exact_continuous_lr": exact.get("continuous_lr"),
        }
        rows.append(fit.group | {k: _float(v) for k, v in row.items()})
    return pd.DataFrame(rows)


def best_lr(result: StudyResult) -> pd.DataFrame:
    """Best lr of each target and batch size, with interval, and what each rule says there."""
    table = result.frontier.drop(columns=["steps", "examples", "steps_low", "steps_high"])
    for name in result.lr_rules["rule"].unique() if len(result.lr_rules) else ():
        table[f"lr_{name}"] = np.nan
    for rule in result.lr_rules.to_dict("records"):
        group = {key: rule[key] for key in result.group_by}
        own = (table["target_loss"] == rule["target_loss"]).to_numpy()
        for key, value in group.items():
            own = own & (table[key] == value).to_numpy()
        sizes = table.loc[own, "batch_size"].to_numpy(dtype=float)
        table.loc[own, f"lr_{rule['rule']}"] = predict_lr(rule, sizes)
    return table


def loss_curves(result: StudyResult) -> pd.DataFrame:
    """Seed-mean held-out loss of each batch size at its best lr for the hardest target it reached.

    loss_low and loss_high: least and greatest of the seeds; steps common to all seeds.
    """
    reached = result.frontier[result.frontier["lr"].notna()].sort_values("target_loss")
    best = reached.drop_duplicates([*result.group_by, "batch_size"])
    by_run = result.curves.groupby("run_id")
    usable = result.trials[result.trials["outcome"] != DIVERGED]
    cells = dict(list(usable.groupby([*result.group_by, "batch_size", "lr"])))
    frames = []
    for point in best.sort_values([*result.group_by, "batch_size"]).to_dict("records"):
        key = (*(point[name] for name in result.group_by), point["batch_size"], point["lr"])
        if key not in cells:
            continue
        runs = [by_run.get_group(run).set_index("step")["loss"] for run in cells[key]["run_id"]]
        seeds = pd.concat(runs, axis=1, join="inner").dropna().sort_index()
        where = {name: point[name] for name in [*result.group_by, "batch_size", "lr"]}
        frame = pd.DataFrame(where, index=seeds.index).reset_index()
        frame["examples"] = frame["step"] * point["batch_size"]
        frame["loss"] = seeds.mean(axis=1).to_numpy()
        frame["loss_low"] = seeds.min(axis=1).to_numpy()
        frame["loss_high"] = seeds.max(axis=1).to_numpy()
        frame["n_seeds"] = seeds.shape[1]
        frames.append(frame)
    columns = [*result.group_by, "batch_size", "lr", "step", "examples", "loss"]
    columns += ["loss_low", "loss_high", "n_seeds"]
    return (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    )


def summary(result: StudyResult) -> dict[str, Any]:
    """summary.json: plain values, null (None) and never NaN for what is not known."""
    frontier = [
        {
            "group": {key: row[key] for key in result.group_by},
            **{key: row[key] for key in ("target_loss", "batch_size", "steps", "examples", "lr")},
            **{key: row[key] for key in ("outcome", "lr_at_edge")},
            "ci95_steps": [row["steps_low"], row["steps_high"]],
            **{key: row[key] for key in ("n_seeds", "n_lrs")},
        }
        for row in result.frontier.to_dict("records")
    ]
    content = {
        "format": SUMMARY_FORMAT,
        "study": result.study,
        "fits": [fit.summary() for fit in result.fits],
        "frontier": frontier,
        "laws": [],
        "warnings": result.warnings,
    }
    return plain(content)


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


def hardest_fit(result: StudyResult, group: Mapping[str, Any]) -> FitResult | None:
    own = [fit for fit in result.fits if fit.group == group]
    return min(own, key=lambda fit: fit.target_loss, default=None)


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, "" if key == "group" else f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            flat[f"{prefix}{key}.low"], flat[f"{prefix}{key}.high"] = value
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
