"""Studies of one batch size, or that ask for none: what was left of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from analysis.figures.drawing import Drawing
from analysis.figures.series import plot_overlaid_curves
from analysis.groups import group_label, select
from analysis.study import Study
from analysis.topics.topic import Frames, Part, Topic
from analysis.words import between, bracketed, rounded
from scaling.schema import DIVERGED, LOSSES, REACHED

FINAL_LOSS_COLUMNS = [
    "batch_size", "lr", "n_lrs", "n_seeds", "step", "loss", "loss_low", "loss_high", "best_loss",
]  # fmt: skip


def final_loss(study: Study) -> pd.DataFrame:
    """Held-out loss at the last evaluation of each group, at the lr at which it is least.

    Columns: group.., batch_size, lr, n_lrs, n_seeds, step (least last step of the seeds), loss
    (mean over the seeds of the last evaluation; loss_low and loss_high: least and greatest),
    best_loss (mean of each seed's lowest); where they were logged, accuracy (mean of the last) and
    parameters (of the network).
    Trials that diverged do not count. Lowest loss first.
    """
    points = study.curves.dropna(subset="loss").sort_values("step")
    measured = ["accuracy"] if "accuracy" in points and points["accuracy"].notna().any() else []
    counted = ["parameters"] if "parameters" in study.trials else []
    columns = [*study.group_by, *FINAL_LOSS_COLUMNS, *measured, *counted]
    if points.empty:
        return pd.DataFrame(columns=columns)
    last = points.groupby("run_id")[["step", "loss", *measured]].last()
    last["best_loss"] = points.groupby("run_id")["loss"].min()
    sound = study.trials[study.trials["outcome"] != DIVERGED]
    trials = sound.drop(columns=[c for c in last if c in sound]).join(last, "run_id", "inner")
    keys = [*study.group_by, "batch_size"]
    cells = trials.groupby([*keys, "lr"], dropna=False, as_index=False).agg(
        n_seeds=("run_id", "size"), step=("step", "min"), loss=("loss", "mean"),
        loss_low=("loss", "min"), loss_high=("loss", "max"), best_loss=("best_loss", "mean"),
        **{name: (name, "mean") for name in measured},
        **{name: (name, "first") for name in counted},
    )  # fmt: skip
    cells["n_lrs"] = cells.groupby(keys)["loss"].transform("size")
    best = cells.sort_values("loss", kind="stable").drop_duplicates(keys)
    return best[columns].reset_index(drop=True)


def outcome_rows(study: Study) -> list[dict[str, Any]]:
    """The answer's table for one batch size, a row a group, as text: label, steps to targets.."""
    frame = final_loss(study)
    several = frame["batch_size"].nunique() > 1
    rows = []
    for row in frame.to_dict("records"):
        group = {name: row[name] for name in study.group_by}
        size = f"{row['batch_size']:,}"
        named = [group_label(group), f"batch size {size}" if several else ""]
        span = between(row["loss_low"], row["loss_high"]) if row["n_seeds"] > 1 else ""
        accuracy, parameters = row.get("accuracy"), row.get("parameters")
        rows.append(
            {
                "label": ", ".join(filter(None, named)) or "all trials",
                "batch_size": size,
                "lr": rounded(row["lr"]) or "not known",
                "loss": f"{row['loss']:.4g}",
                "loss_range": span,
                "best_loss": f"{row['best_loss']:.4g}",
                "accuracy": ""
                if accuracy is None or pd.isna(accuracy)
                else f"{100 * accuracy:.1f} %",
                "parameters": ""
                if parameters is None or pd.isna(parameters)
                else f"{parameters:,.0f}",
                "step": f"{row['step']:,}",
                "n_seeds": row["n_seeds"],
                "steps": [
                    _steps(study, group, row["batch_size"], target) for target in study.targets
                ],
            }
        )
    return rows


def outcome_lead(study: Study) -> str:
    """One sentence: which group ends with the lowest loss; of what asks for none, how they end."""
    rows = outcome_rows(study)
    if not rows:
        return "There is no recorded curve of a trial that did not diverge."
    best = rows[0]
    if study.about == LOSSES and len(rows) > 1:
        least, most = (f"{loss:.3g}" for loss in final_loss(study)["loss"].iloc[[0, -1]])
        return f"Held-out losses end between {least} and {most}; the table lists them all."
    of = f"{best['label']} ends" if len(rows) > 1 else "Training ends"
    lowest = "with the lowest held-out loss," if len(rows) > 1 else "with a held-out loss of"
    accuracy = f" and an accuracy of {best['accuracy']}" if best["accuracy"] else ""
    text = f"{of} {lowest} {best['loss']}{bracketed(best['loss_range'])}{accuracy}"
    steps = "1 step" if best["step"] == "1" else f"{best['step']} steps"
    return f"{text}, after {steps} of batch size {best['batch_size']}."


def _steps(study: Study, group: dict[str, Any], batch_size: int, target: float) -> str:
    rows = study.frontier[study.frontier["target_loss"] == target]
    rows = rows[rows["batch_size"] == batch_size]
    for name, value in group.items():
        rows = rows[rows[name] == value]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    if row["outcome"] != REACHED:
        return "diverged" if row["outcome"] == DIVERGED else "not reached"
    return rounded(row["steps"]) + bracketed(between(row["steps_low"], row["steps_high"]))


def drawings(part: Part) -> Iterator[Drawing]:
    """The losses of all groups in one figure."""
    if "final_loss" not in part.frames:
        return
    study, curves = part.study, part.frames["loss_curves"]
    series = [(group_label(group) or "all trials", select(curves, group)) for group in part.groups]
    what = "Mean over the seeds, at the learning rate that ends lowest; the band spans the seeds"
    if study.frontier["batch_size"].nunique() > 1:
        what += "; batch sizes of a group share its colour"
    for y, remark in (("loss", ", dotted lines are the targets"), ("accuracy", "")):
        if y in curves and curves[y].notna().any():
            targets = study.targets if y == "loss" else ()
            yield Drawing(
                f"{y}_against_steps",
                f"Held-out {y} against steps",
                f"{what}{remark}.",
                partial(plot_overlaid_curves, series, y, targets),
                "loss_curves",
                curves,
            )


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    return {"final_loss": final_loss(study)} if study.is_about_losses else {}


TOPIC = Topic("final_loss", frames=_frames, drawings=drawings)
