"""Every number of the report as a frame (tables/*.csv), and the summary that programs read."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit.fit_result import FitResult, headline
from analysis.groups import group_label as group_label  # beside groups_of for its users
from analysis.groups import own_group
from analysis.measure.frontier import hardest_reached
from analysis.report.trust import tuning_budget
from analysis.study import StudyResult
from analysis.theory.epochs import examples_in_data
from analysis.fit.lr_rules import predict_lr
from analysis.topics.noise_floor import noise_floor_frame
from analysis.topics.noise_scale import noise_against_critical, noise_along_runs
from analysis.topics.one_batch_size import final_loss, is_about_losses
from analysis.topics.one_step_lr import has_one_step, one_step_lr_frame
from analysis.topics.search import search_frame
from analysis.topics.weight_decay import weight_decay_gaps
from scaling.curves import interpolate_loss
from scaling.schema import DIVERGED, LOSSES, REACHED

SUMMARY_FORMAT = 1
MOST_LETTERS = 100  # of a file's name made of a study's or a group's
Group = dict[str, Any]


def tables(result: StudyResult) -> dict[str, pd.DataFrame]:
    """Name -> frame of all that is written as CSV; what the figures show is among them."""
    special = {"final_loss": final_loss(result)} if is_about_losses(result) else {}
    if has_one_step(result):
        special["one_step_lr"] = one_step_lr_frame(result)
    if len(gaps := weight_decay_gaps(result)):
        special["weight_decay_gaps"] = gaps
    return special | {
        "recommendations": result.recommendations,
        "fits": fits(result),
        "steps_by_batch_size": steps_by_batch_size(result),
        "critical_batch_size": critical_batch_size(result),
        "forms": forms(result),
        "residuals": residuals(result),
        "best_lr": best_lr(result),
        "lr_rules": result.lr_rules,
        "steps_by_lr": result.cells,
        "loss_curves": loss_curves(result),
        "loss_at_fixed_examples": result.fixed_budget,
        "theory": result.theory,
        "stability": result.stability,
        "noise_floor": noise_floor_frame(result),
        "tuning_budget": tuning_budget(result),
        "search": search_frame(result),
        "laws": result.laws,
        "loss_by_size": result.loss_by_size,
        "compute_frontier": result.compute_frontier,
        "loss_by_compute": result.loss_by_compute,
        "twice_the_compute": result.twice_the_compute,
        "step_time": result.step_time,
        "time_to_target": result.time_to_target,
        "batch_size_choices": result.batch_size_choices,
        "halve_double": result.halve_double,
        "noise_scale": noise_along_runs(result),
        "noise_scale_at_targets": noise_against_critical(result),
    }


def groups_of(result: StudyResult) -> list[Group]:
    """Values of what varies besides batch size, lr and seed; one empty group if nothing does."""
    groups: list[Group] = []
    for fit in result.fits:
        if fit.group not in groups:
            groups.append(fit.group)
    return groups or [{}]


def file_name(text: str) -> str:
    """A name safe for files and directories: letters, digits, `.`, `_`, `=`, `-`.

    Names that lose letters, or are too long, are told apart by a digest.
    """
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "_", text.replace(" = ", "=")).strip("._")
    if plain and text.isascii() and len(plain) <= MOST_LETTERS:
        return plain
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain[:MOST_LETTERS] or 'unnamed'}_{digest}"


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
            "overhead_of_hyperbola": overhead.get("value_of_hyperbola"),
            "overhead_reference_batch_size": overhead.get("reference_batch_size"),
            "overhead_of_knee": overhead.get("value_of_knee"),
            "half_elasticity": fit.critical_batch_size_half_elasticity,
            "exact_same_grid": exact.get("same_grid"),
            "exact_continuous_lr": exact.get("continuous_lr"),
        }
        for name in ("overhead", "half_elasticity"):
            ends = fit.ci95.get(f"critical_batch_size_{name}", (None, None))
            row[f"{name}_low"], row[f"{name}_high"] = ends
        rows.append(fit.group | {k: _float(v) for k, v in row.items()})
    return pd.DataFrame(rows)


def forms(result: StudyResult) -> pd.DataFrame:
    """The shapes fitted to each frontier, and what B_crit each gives; see fitting.compare_forms."""
    rows = []
    for fit in result.fits:
        for form in fit.forms:
            low, high = form.get("ci95", (None, None))
            if form["form"] == fit.form:
                low, high = fit.ci95.get("critical_batch_size", (None, None))
            row = {k: v if k == "form" else _float(v) for k, v in form.items() if k != "ci95"}
            ends = {"low": _float(low), "high": _float(high)}
            where = fit.group | {"target_loss": fit.target_loss}
            rows.append(where | row | ends | {"preferred": form["form"] == fit.preferred_form})
    return pd.DataFrame(rows)


def residuals(result: StudyResult) -> pd.DataFrame:
    """log S minus the fit's log S at each batch size, a row for each target and batch size.

    Columns: group.., target_loss, batch_size, log_residual, low, high (the 95 % interval of log S,
    minus the fit; NaN with few seeds), outcome (a censored one's residual is at least
    log_residual), used (in the fit), at_most (the residual is at most log_residual: left-censored,
    or a best lr at the edge of the tried ones).
    """
    rows = []
    for fit in result.fits:
        own = select(result.frontier, fit.group)
        own = own[own["target_loss"] == fit.target_loss]
        for point, fitted in zip(
            own.to_dict("records"), fit.predict(own["batch_size"].to_numpy()), strict=True
        ):
            reached = point["outcome"] == REACHED
            at_most = point["batch_size"] in fit.upper_bounded_batch_sizes
            bound = "steps_upper" if at_most else "steps_lower"
            steps = point["steps"] if reached else point.get(bound, math.nan)
            used = fit.batch_sizes + fit.bounded_batch_sizes + fit.upper_bounded_batch_sizes
            values = (steps, point["steps_low"], point["steps_high"])
            residual = [float(np.log(value / fitted)) for value in values]
            row = fit.group | {"target_loss": fit.target_loss, "batch_size": point["batch_size"]}
            row |= dict(zip(("log_residual", "low", "high"), residual, strict=True))
            row |= {"outcome": point["outcome"], "used": point["batch_size"] in used}
            rows.append(row | {"at_most": at_most})
    columns = [*result.group_by, "target_loss", "batch_size", "log_residual", "low", "high"]
    return pd.DataFrame(rows, columns=pd.Index([*columns, "outcome", "used", "at_most"]))


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

    Of a study of losses: at the lr that ends lowest. loss_low and loss_high: least and
    greatest of the seeds; steps common to all seeds. With accuracy where that was logged, epochs
    (passes through the data) where those are a known number of examples, and exact_loss (expected)
    and noise_floor (where it settles) where theory is exact.
    """
    names = [*result.group_by, "batch_size", *result.tuned]
    columns = [*names, "step", "examples", "loss", "loss_low", "loss_high", "n_seeds"]
    if result.curves.empty or not set(names) <= set(result.trials):  # a table of steps
        return pd.DataFrame(columns=columns)
    if is_about_losses(result):
        best = final_loss(result)
    else:
        best = hardest_reached(result.frontier, [*result.group_by, "batch_size"])
    by_run = result.curves.groupby("run_id")
    # of trials of equal batch size, lr and seed the longest has curves here
    read = result.trials["run_id"].isin(by_run.groups)
    usable = result.trials[read & (result.trials["outcome"] != DIVERGED)]
    cells = dict(list(usable.groupby(names)))
    frames = []
    for point in best.sort_values([*result.group_by, "batch_size"]).to_dict("records"):
        key = tuple(point[name] for name in names)
        if key in cells:
            curves = [by_run.get_group(run).set_index("step") for run in cells[key]["run_id"]]
            frame = _seed_mean(curves, {name: point[name] for name in names})
            n_examples = examples_in_data(cells[key]).iloc[0]
            frames.append(frame.assign(epochs=frame["examples"] / n_examples))
    if not frames:
        return pd.DataFrame(columns=columns)
    exact = result.exact_curves
    measured = pd.concat(frames, ignore_index=True)
    if measured["epochs"].isna().all():
        measured = measured.drop(columns="epochs")
    if not len(exact):
        return measured
    return measured.merge(exact, on=[*result.group_by, "batch_size", "lr", "step"], how="left")


def _seed_mean(curves: list[pd.DataFrame], where: dict[str, Any]) -> pd.DataFrame:
    """The mean of the seeds' curves (indexed by step) at the steps that all of them have."""
    seeds = _at_common_steps([curve["loss"].dropna().sort_index() for curve in curves])
    frame = pd.DataFrame(where, index=seeds.index).reset_index()
    frame = frame[[*where, "step"]]
    frame["examples"] = frame["step"] * where["batch_size"]
    frame["loss"] = seeds.mean(axis=1).to_numpy()
    frame["loss_low"] = seeds.min(axis=1).to_numpy()
    frame["loss_high"] = seeds.max(axis=1).to_numpy()
    frame["n_seeds"] = seeds.shape[1]
    if all("accuracy" in curve for curve in curves):
        accuracy = pd.concat([curve["accuracy"] for curve in curves], axis=1, join="inner")
        frame["accuracy"] = accuracy.mean(axis=1).reindex(seeds.index).to_numpy()
    return frame


def _at_common_steps(losses: list[pd.Series]) -> pd.DataFrame:
    """A column a seed, at the steps of all; interpolated where they were evaluated at others."""
    seeds = pd.concat(losses, axis=1, join="inner").sort_index()
    if 2 * len(seeds) >= min(map(len, losses)):
        return seeds
    first, last = max(one.index[0] for one in losses), min(one.index[-1] for one in losses)
    union = np.unique(np.concatenate([one.index.to_numpy(float) for one in losses]))
    union = union[(union >= first) & (union <= last)]
    found = [interpolate_loss(one.index.to_numpy(float), one.to_numpy(), union) for one in losses]
    return pd.DataFrame(dict(enumerate(found)), index=pd.Index(union, name="step"))


def summary(result: StudyResult) -> dict[str, Any]:
    """summary.json: plain values, null (None) and never NaN for what is not known."""
    frontier = [
        {
            "group": own_group({key: row[key] for key in result.group_by}),
            **{key: row[key] for key in ("target_loss", "batch_size", "steps", "examples", "lr")},
            **{key: row[key] for key in ("outcome", "lr_at_edge")},
            "ci95_steps": [row["steps_low"], row["steps_high"]],
            **{key: row[key] for key in ("n_seeds", "n_lrs")},
        }
        for row in result.frontier.to_dict("records")
    ]
    about_losses = result.about == LOSSES  # then a critical batch size has no meaning
    content = {
        "format": SUMMARY_FORMAT,
        "study": result.study,
        "fits": []
        if about_losses
        else [fit.summary() | {"group": own_group(fit.group)} for fit in result.fits],
        "frontier": frontier,
        "laws": [] if about_losses else law_entries(result.laws, result.group_by),
        "warnings": result.warnings,
    }
    return plain(content)


def law_entries(laws: pd.DataFrame, group_by: Sequence[str]) -> list[dict[str, Any]]:
    """The laws of the summary: intervals as pairs, `group` only where a law is of one value."""
    pairs = ("exponent", "coefficient", "offset")
    flat = ("y", "definition", "x", "form", "target_loss", "batch_size", "examples", *pairs)
    flat += ("offset_is", "rmse_log", "n", "n_left_out", "approximate_ci", "reason")
    return [
        {
            "group": own_group({key: row[key] for key in group_by if pd.notna(row[key])}),
            **{key: row[key] for key in flat},
            "ci95": {key: [row[f"{key}_low"], row[f"{key}_high"]] for key in pairs},
            "exponent_without_one": [
                row["exponent_without_one_low"], row["exponent_without_one_high"]
            ],
        }
        for row in laws.to_dict("records")
    ]  # fmt: skip


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


def headline_fit(result: StudyResult, group: Mapping[str, Any]) -> FitResult | None:
    own = [fit for fit in result.fits if fit.group == group]
    return headline(own)


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
