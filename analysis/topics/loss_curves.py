"""How does the held-out loss fall? Against steps, against examples, and at equal examples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import look, ordered_look, plot_curve
from analysis.figures.tooltips import tell
from analysis.measure.frontier import hardest_reached
from analysis.measure.losses_at_examples import example_budgets, fixed_budget_frame
from analysis.study import Study, join
from analysis.theory.epochs import examples_in_data
from analysis.topics.topic import Frames, Part, Topic
from scaling.curves import interpolate_loss
from scaling.schema import DIVERGED

_EXPECTED = (
    " Thin dashed lines are the exact expected losses; wedges at the right edge mark where they "
    "settle, the noise floor of that learning rate."
)


def loss_curves(study: Study, earlier: Frames) -> pd.DataFrame:
    """Seed-mean held-out loss of each batch size at its best lr for the hardest target it reached.

    Of a study of losses: at the lr that ends lowest. loss_low and loss_high: least and
    greatest of the seeds; steps common to all seeds. With accuracy where that was logged, epochs
    (passes through the data) where those are a known number of examples, and exact_loss (expected)
    and noise_floor (where it settles) where theory is exact.
    """
    names = [*study.group_by, "batch_size", *study.tuned]
    columns = [*names, "step", "examples", "loss", "loss_low", "loss_high", "n_seeds"]
    if study.curves.empty or not set(names) <= set(study.trials):  # a table of steps
        return pd.DataFrame(columns=columns)
    best = earlier.get("final_loss")  # there where the study is about losses
    if best is None:
        best = hardest_reached(study.frontier, [*study.group_by, "batch_size"])
    by_run = study.curves.groupby("run_id")
    # of trials of equal batch size, lr and seed the longest has curves here
    read = study.trials["run_id"].isin(by_run.groups)
    usable = study.trials[read & (study.trials["outcome"] != DIVERGED)]
    cells = dict(list(usable.groupby(names)))
    frames = []
    for point in best.sort_values([*study.group_by, "batch_size"]).to_dict("records"):
        key = tuple(point[name] for name in names)
        if key in cells:
            curves = [by_run.get_group(run).set_index("step") for run in cells[key]["run_id"]]
            frame = _seed_mean(curves, {name: point[name] for name in names})
            n_examples = examples_in_data(cells[key]).iloc[0]
            frames.append(frame.assign(epochs=frame["examples"] / n_examples))
    if not frames:
        return pd.DataFrame(columns=columns)
    exact = study.exact_curves
    measured = pd.concat(frames, ignore_index=True)
    if measured["epochs"].isna().all():
        measured = measured.drop(columns="epochs")
    if not len(exact):
        return measured
    return measured.merge(exact, on=[*study.group_by, "batch_size", "lr", "step"], how="left")


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
    first, last = max(loss.index[0] for loss in losses), min(loss.index[-1] for loss in losses)
    union = np.unique(np.concatenate([loss.index.to_numpy(float) for loss in losses]))
    union = union[(union >= first) & (union <= last)]
    interpolated = [
        interpolate_loss(loss.index.to_numpy(float), loss.to_numpy(), union) for loss in losses
    ]
    return pd.DataFrame(dict(enumerate(interpolated)), index=pd.Index(union, name="step"))


def loss_at_fixed_examples(study: Study) -> pd.DataFrame:
    """losses_at_examples.BUDGET_COLUMNS: loss (held-out, seed mean) of each batch size after equal
    examples, and how far it lies above the best one's."""
    frames = [
        fixed_budget_frame(
            group.cells, group.floor, example_budgets(group.frontier), group.group,
            study.n_bootstrap, [study.seed],
        )
        for group in study.measured
    ]  # fmt: skip
    return join(frames) if frames else pd.DataFrame()


def drawings(part: Part) -> Iterator[Drawing]:
    curves, targets = part.frames["loss_curves"], part.targets
    exact = "exact_loss" in curves and curves["exact_loss"].notna().any()
    for x, name in (("step", "steps"), ("examples", "examples")):
        if len(curves):
            yield Drawing(
                f"loss_against_{name}",
                f"Held-out loss against {name}",
                "Mean over the seeds at each batch size's best learning rate; the band spans the "
                "seeds, dotted lines are the targets." + (_EXPECTED if exact else ""),
                partial(plot_loss_curves, curves, targets, x),
                "loss_curves",
                curves,
            )
    budget = part.frames["loss_at_fixed_examples"]
    tuned_for = (
        " The search tuned learning rates for the targets: between them losses are a little high."
        if len(part.frames["search"])
        else ""
    )
    if len(budget):
        yield Drawing(
            "loss_at_fixed_examples",
            "Held-out loss at a fixed number of examples",
            "The lowest mean loss over the learning rates after that many examples: flat "
            f"where a larger batch costs nothing, rising where it wastes examples.{tuned_for}",
            partial(plot_fixed_budget, budget),
            "loss_at_fixed_examples",
            budget,
        )


def plot_loss_curves(loss_curves: pd.DataFrame, targets: list[float], x: str) -> Figure:
    """Seed-mean held-out loss against x ("step" or "examples"), a curve a batch size.

    loss_curves: the frame of that name, of one group; the band spans the seeds. Where the theory is
    exact, thin dashed lines are the expected losses, wedges the losses they settle at.
    Against examples a vertical line is the first pass through a fixed data set.
    """
    label = "steps (optimizer updates)" if x == "step" else "training examples seen"
    with style.house_style():
        figure, ax = style.new_axes()
        sizes = sorted(loss_curves["batch_size"].unique())
        colors = style.ordered_colors(len(sizes))
        for i, (size, color) in enumerate(zip(sizes, colors, strict=True)):
            rows = loss_curves[(loss_curves["batch_size"] == size) & (loss_curves[x] > 0)]
            band = rows["loss_low"], rows["loss_high"]
            ax.fill_between(rows[x], *band, color=color, alpha=0.13, lw=0)
            shown = {**look(i, color), "ms": 4, "lw": 1.3}
            plot_curve(ax, rows, x, "loss", shown, i, style.number(size))
            _plot_expected(ax, rows, x, color)
        style.log_axis(ax, "x", label)
        shown = loss_curves[loss_curves[x] > 0]
        values = (targets, *(shown[name] for name in ("loss", "loss_low", "loss_high")))
        style.value_axis(ax, "y", "held-out loss", values)
        if x == "examples":
            _mark_first_epoch(ax, loss_curves)
        _mark_targets(ax, targets)
        style.legend_beside(figure, ax, "batch size")
    return figure


def _mark_targets(ax: Axes, targets: list[float]) -> None:
    for target in targets:
        ax.axhline(target, color=style.INK, lw=0.8, ls=(0, (2, 3)))
        ax.annotate(
            f"target {target:.3g}", (0, target), xycoords=("axes fraction", "data"), xytext=(3, 2),
            textcoords="offset points", fontsize=8,
        )  # fmt: skip


def _mark_first_epoch(ax: Axes, loss_curves: pd.DataFrame) -> None:
    """From there on no example is new; nothing where the data are not passed once."""
    if "epochs" not in loss_curves or not (loss_curves["epochs"] > 1).any():
        return
    later = loss_curves[loss_curves["epochs"] > 0].iloc[-1]
    n_examples = later["examples"] / later["epochs"]
    ax.axvline(n_examples, color=style.MUTED, lw=0.9, ls=(0, (5, 2, 1, 2)))
    ax.annotate(
        "all examples once", (n_examples, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3),
        textcoords="offset points", fontsize=8, va="top", color=style.MUTED,
    )  # fmt: skip


def _plot_expected(ax: Axes, rows: pd.DataFrame, x: str, color: Any) -> None:
    """The exact expected loss of one batch size, and its noise floor at the right edge."""
    if "exact_loss" not in rows or rows["exact_loss"].isna().all():
        return
    known = rows.dropna(subset="exact_loss")
    ax.plot(known[x], known["exact_loss"], color=style.INK, lw=0.8, ls=(0, (3, 2)), zorder=4)
    floor = float(known["noise_floor"].iloc[0])
    lowest = min(known["exact_loss"].min(), known["loss"].min())
    if np.isfinite(floor) and floor > 0.5 * lowest > 0:  # far below, it would squeeze the curves
        ax.plot(
            [1.0], [floor], ls="", marker="<", ms=5, mfc=color, mec=style.INK, mew=0.5, zorder=5,
            transform=ax.get_yaxis_transform(), clip_on=False,
        )  # fmt: skip


def plot_fixed_budget(fixed_budget: pd.DataFrame) -> Figure:
    """Best seed-mean held-out loss after a fixed number of examples, against batch size, with its
    95 % band over the seeds."""
    with style.house_style():
        figure, ax = style.new_axes()
        budgets = sorted(fixed_budget["examples"].unique())
        colors = style.ordered_colors(len(budgets))
        for i, budget in enumerate(budgets):
            rows = fixed_budget[fixed_budget["examples"] == budget].sort_values("batch_size")
            low, high = rows["loss_low"], rows["loss_high"]
            ax.fill_between(rows["batch_size"], low, high, color=colors[i], alpha=0.18, lw=0)
            shown = ordered_look(i, len(budgets))
            ax.plot(rows["batch_size"], rows["loss"], **shown, label=style.number(budget))
            tell(ax, rows, "batch_size", "loss")
        style.batch_size_axis(ax, fixed_budget["batch_size"])
        values = (fixed_budget[name] for name in ("loss", "loss_low", "loss_high"))
        style.value_axis(ax, "y", "held-out loss, best lr", values)
        style.legend_beside(figure, ax, "examples seen")
    return figure


TOPIC = Topic(
    "loss_curves",
    scope="group",
    frames=lambda study, earlier: {
        "loss_curves": loss_curves(study, earlier),
        "loss_at_fixed_examples": loss_at_fixed_examples(study),
    },
    drawings=drawings,
)
