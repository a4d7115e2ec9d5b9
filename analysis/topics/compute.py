"""What should a compute budget be spent on? Model size, batch size and steps of the lowest loss."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import bars, ordered_look
from analysis.figures.tooltips import tell
from analysis.fit.compute_frontier import compute_frontier
from analysis.fit.scaling_laws import law_curve
from analysis.study import Study
from analysis.topics.topic import Frames, Part, Topic
from analysis.words import law_interval

_SPENT_ON = (
    ("model_size", "model size"),
    ("batch_size", "batch size"),
    ("steps", "steps"),
)


def drawings(part: Part) -> Iterator[Drawing]:
    frontier = part.frames["compute_frontier"]
    if len(frontier) < 2:
        return
    losses = part.frames["loss_by_compute"]
    laws = part.frames["laws"]
    in_compute = laws[laws["x"] == "compute"]
    counted = f"Compute is FLOPs of an example x batch size x steps, {part.study.flops_counted}."
    yield Drawing(
        "loss_against_compute",
        "Held-out loss against compute",
        "What a budget buys: the lowest mean loss of each model size over batch sizes and learning "
        f"rates, and the lowest of all. {counted} Budgets at which a trial that had stopped might "
        "have been lower are left out.",
        partial(plot_loss_against_compute, losses, frontier),
        "loss_by_compute",
        losses,
    )
    yield Drawing(
        "compute_allocation",
        "What to spend compute on",
        "The best model size, batch size and number of steps at each budget (between the sampled "
        "ones by a parabola). Hollow: the best lies at the edge of what was trained, so it may lie "
        "beyond; left out of the power laws.",
        partial(plot_compute_allocation, frontier, in_compute),
        "compute_frontier",
        frontier,
    )


def plot_loss_against_compute(loss_by_compute: pd.DataFrame, frontier: pd.DataFrame) -> Figure:
    """Least loss at equal compute of every model size, and their lower envelope with its band.

    loss_by_compute, frontier: rows of one family (compute_frontier.ComputeFrontier).
    """
    with style.house_style():
        figure, ax = style.new_axes(5.0)
        sizes = sorted(loss_by_compute["model_size"].unique())
        for i, size in enumerate(sizes):
            rows = loss_by_compute[loss_by_compute["model_size"] == size].sort_values("compute")
            shown = {**ordered_look(i, len(sizes)), "lw": 1.2, "ms": 4.5}
            ax.plot(rows["compute"], rows["loss"], **shown, label=style.number(size), zorder=3)
            tell(ax, rows, "compute", "loss")
        rows = frontier.sort_values("compute")
        ax.fill_between(
            rows["compute"],
            rows["loss_low"],
            rows["loss_high"],
            color=style.MUTED,
            alpha=0.25,
            lw=0,
        )
        ax.plot(rows["compute"], rows["loss"], color=style.INK, lw=3.2, alpha=0.35, zorder=2)
        ax.plot([], [], color=style.INK, lw=3.2, alpha=0.35, label="the lowest")
        style.log_axis(ax, "x", "training compute C (FLOPs)")
        ends = [rows["loss_low"], rows["loss_high"]]
        style.value_axis(ax, "y", "held-out loss (best B, lr)", [loss_by_compute["loss"], *ends])
        style.legend_beside(figure, ax, "model size")
    return figure


def plot_compute_allocation(frontier: pd.DataFrame, laws: pd.DataFrame) -> Figure:
    """Best model size, batch size and steps against compute, a panel each, with power laws.

    Hollow: at the edge of what was trained, so the true best may lie beyond; left out of the laws.
    One model size: two panels.
    """
    with style.house_style():
        spent_on = _SPENT_ON[1:] if frontier["model_size"].nunique() == 1 and (
            frontier["model_size_at_edge"].all() and not (laws["y"] == "model_size").any()
        ) else _SPENT_ON  # fmt: skip
        figure, axes = style.new_panels(len(spent_on), 2.6 * len(spent_on) + 0.6)
        rows = frontier.sort_values("compute")
        for i, (ax, (name, label)) in enumerate(zip(axes, spent_on, strict=True)):
            color = style.target_colors(3)[i]
            edge = np.zeros(len(rows), bool)
            if len(spent_on) == 3:
                edge |= rows["model_size_at_edge"].to_numpy(bool)
            if name != "model_size":
                edge |= rows["batch_size_at_edge"].to_numpy(bool)
            best = rows[f"best_{name}"]
            low, high = rows[f"best_{name}_low"], rows[f"best_{name}_high"]
            ax.errorbar(
                rows["compute"], best, bars(best, low, high), ls="", color=color, lw=1.1,
            )  # fmt: skip
            for where, fill, words in ((~edge, color, "best"), (edge, "white", "at an edge")):
                if where.any():
                    points = {"ls": "", "marker": style.MARKERS[i], "color": color, "mfc": fill}
                    ax.plot(rows["compute"][where], best[where], **points, label=words, zorder=3)
            tell(ax, rows, "compute", best, also={f"best_{name}": f"best {label}"})
            law = laws[(laws["y"] == name) & laws["exponent"].notna()]
            if len(law):
                row = law.iloc[0].to_dict()
                span = rows["compute"][~edge]
                dense = np.geomspace(span.min(), span.max(), 50)
                line = {"color": color, "ls": style.LINES[1], "lw": 1.2}
                ax.plot(dense, law_curve(row, dense), **line, label=f"exponent {law_interval(row)}")
            style.log_axis(ax, "y", label)
            style.legend_right(ax)
        style.log_axis(axes[-1], "x", "training compute C (FLOPs)")
    return figure


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    """Its laws in compute are further rows of the table of laws."""
    best = compute_frontier(study.families, n_bootstrap=study.n_bootstrap, seed=study.seed)
    frames = {"compute_frontier": best.frontier, "loss_by_compute": best.losses}
    laws = earlier["laws"]
    if best.laws:
        in_compute = pd.DataFrame(best.laws, columns=laws.columns)
        in_compute = in_compute.astype(laws.dtypes[study.group_by])
        frames["laws"] = pd.concat([laws, in_compute], ignore_index=True)
    return frames


TOPIC = Topic("compute", scope="family", frames=_frames, drawings=drawings)
