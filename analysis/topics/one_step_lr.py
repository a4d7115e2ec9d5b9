"""The learning rate at which a single step lowers the loss most, from losses after one step.

The loss of a regression is quadratic, so after one step from fixed weights with a fixed batch it
is a parabola in lr, J_0 - b lr + a lr^2, exactly; trials of one seed take the same batch at every
lr. The mean over seeds has its least value at lr = <b> / (2 <a>), with the standard error of a
ratio of means over S seeds, sqrt(sum (b/2 - lr a)^2 / (S (S-1))) / <a>.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.tooltips import tell
from analysis.groups import group_label, select
from analysis.study import Study
from analysis.theory.finite import FiniteProblem, best_one_step_lr
from analysis.theory.trials import Finite, theory_of
from analysis.topics.topic import Finding, Frames, Part, Topic

Floats = NDArray[np.float64]

COLUMNS = ["batch_size", "lr", "standard_error", "predicted_lr", "n_seeds", "n_lrs"]
_LINE_POINTS = 60


def has_one_step(study: Study) -> bool:
    """Whether the study asks about a single step: no trial has another."""
    trials = study.trials
    if trials.empty or not {"task.name", "last_step"} <= set(trials):  # a table of steps, say
        return False
    fixed = trials["task.name"] == "finite_regression"
    return bool((fixed & (trials["last_step"] == 1)).all())


def one_step_lr_frame(study: Study) -> pd.DataFrame:
    """group.., COLUMNS: the measured best one-step lr of every group and batch size.

    Of every seed the parabola through step 0 and step 1 at its lrs (least squares, where there are
    more than two). predicted_lr: finite_theory.best_one_step_lr, NaN where no theory is exact (see
    trial_theory.theory_of). Batch sizes with fewer than two lrs are left out.
    """
    names = study.group_by
    steps = study.curves.loc[study.curves["step"].isin((0, 1)), ["run_id", "step", "loss"]]
    losses = steps.pivot_table(index="run_id", columns="step", values="loss").reindex(
        columns=[0, 1]
    )
    trials = study.trials.drop_duplicates("run_id").join(losses.dropna(), "run_id", "inner")
    rows: list[dict[str, Any]] = []
    for group, of_group in _parts(trials, names):
        problem = _problem(of_group)
        for size, at in of_group.groupby("batch_size"):
            best = _best(at)
            if best is None:
                continue
            predicted = np.nan if problem is None else best_one_step_lr(problem, int(str(size)))
            rows.append(group | {"batch_size": size, "predicted_lr": predicted} | best)
    return pd.DataFrame(rows, columns=[*names, *COLUMNS])


def one_step_theory(study: Study) -> pd.DataFrame:
    """group.., batch_size (any real number), predicted_lr: lines between the sampled sizes."""
    frames = []
    for group, of_group in _parts(study.trials, study.group_by):
        problem = _problem(of_group)
        if problem is not None:
            ends = of_group["batch_size"].min(), of_group["batch_size"].max()
            sizes = np.geomspace(*ends, _LINE_POINTS)
            lrs = [best_one_step_lr(problem, size) for size in sizes]
            frames.append(pd.DataFrame({"batch_size": sizes, "predicted_lr": lrs}).assign(**group))
    columns = [*study.group_by, "batch_size", "predicted_lr"]
    return pd.concat(frames)[columns] if frames else pd.DataFrame(columns=columns)


def _parts(trials: pd.DataFrame, names: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    if not names:
        return [({}, trials)]
    return [
        (dict(zip(names, key, strict=True)), rows)
        for key, rows in trials.groupby(names, sort=False)
    ]


def _problem(trials: pd.DataFrame) -> FiniteProblem | None:
    theory = theory_of(trials)
    return theory.problem if isinstance(theory, Finite) else None


def _best(trials: pd.DataFrame) -> dict[str, float] | None:
    """Of one batch size; trials with their losses in columns 0 and 1. None: too few lrs."""
    losses = trials.pivot_table(index="seed", columns="lr", values=1).dropna()
    before = trials.pivot_table(index="seed", columns="lr", values=0).reindex(losses.index)
    if losses.shape[1] < 2 or losses.empty:
        return None
    lrs = losses.columns.to_numpy(float)
    basis = np.stack([-lrs, lrs**2], axis=1)
    changes = (losses - before).to_numpy(float).T
    slope, square = np.linalg.lstsq(basis, changes, rcond=None)[0]  # [seeds] each
    lr = slope.mean() / (2 * square.mean())
    n = len(losses)
    error = np.sqrt(np.sum((slope / 2 - lr * square) ** 2) / (n * (n - 1))) if n > 1 else np.nan
    return {
        "lr": float(lr),
        "standard_error": float(error / square.mean()),
        "n_seeds": n,
        "n_lrs": len(lrs),
    }


def best_one_step_lrs(study: Study, frames: Frames) -> Sequence[Finding]:
    """Of every group and batch size; predicted: theory.finite.best_one_step_lr.

    Raises AnalysisError where no batch size has the losses after one step at two lrs.
    """
    frame = one_step_lr_frame(study)
    if frame.empty:
        raise AnalysisError("it needs the losses after one step at two learning rates or more")
    findings = []
    for row in frame.to_dict("records"):
        label = group_label({name: row[name] for name in study.group_by})
        error, predicted = (
            float(row[name]) if row[name] == row[name] else None
            for name in ("standard_error", "predicted_lr")
        )
        what = f"{label + ', ' if label else ''}batch size {row['batch_size']:,}"
        findings.append(Finding(what, float(row["lr"]), error, predicted=predicted))
    return findings


def drawings(part: Part) -> Iterator[Drawing]:
    """Nothing where no batch size has the losses of two learning rates."""
    frame = part.frames.get("one_step_lr", pd.DataFrame())
    if frame.empty:
        return
    theory = one_step_theory(part.study)
    series = [
        (group_label(group) or "measured", select(frame, group), select(theory, group))
        for group in part.groups
    ]
    yield Drawing(
        "one_step_lr",
        "Best learning rate of a single step against batch size",
        "Points are the minima of the parabolas through the mean losses after one step, bars two "
        "standard errors over the seeds. Lines are lr_max / (1 + f B_noise) with f = 1/B with "
        "replacement and (n - B)/(B (n - 1)) without: the noise ends at B = n.",
        partial(plot_one_step_lr, series),
        "one_step_lr",
        frame,
    )


def plot_one_step_lr(series: list[tuple[str, pd.DataFrame, pd.DataFrame]]) -> Figure:
    """(name, one_step_lr_frame, one_step_theory) of each group."""
    with style.house_style():
        figure, ax = style.new_axes()
        colors = style.target_colors(len(series))
        for i, ((name, points, line), color) in enumerate(zip(series, colors, strict=True)):
            text = style.plain_text(name)
            ax.errorbar(
                points["batch_size"], points["lr"], yerr=2 * points["standard_error"], color=color,
                ls="", marker=style.MARKERS[i % len(style.MARKERS)], capsize=3, zorder=4,
                label=f"{text}, measured",
            )  # fmt: skip
            tell(ax, points, "batch_size", "lr", name)
            if len(line):
                ax.plot(
                    line["batch_size"], line["predicted_lr"], color=color,
                    ls=style.LINES[i % len(style.LINES)], label=f"{text}, theory",
                )  # fmt: skip
        style.log_axis(ax, "x", "batch size B (examples)")
        style.log_axis(ax, "y", "best learning rate of one step")
        style.legend_below(figure, ax, 2)
    return figure


TOPIC = Topic(
    "one_step_lr",
    frames=lambda study, _: (
        {"one_step_lr": one_step_lr_frame(study)} if has_one_step(study) else {}
    ),
    drawings=drawings,
    quantities={"best_one_step_lr": best_one_step_lrs},
)
