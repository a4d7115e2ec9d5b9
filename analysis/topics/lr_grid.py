"""What did every learning rate and batch size give? Steps, divergence, and the stability limit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.tooltips import HOLLOW, tell
from analysis.groups import listed, their_name
from analysis.measure.frontier import at_best_values
from analysis.topics.topic import Part, Topic
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED, target_label

NEAR_BEST = 1.2
_NO_STEPS = {  # colour, hatch and words of the cells without a crossing
    DIVERGED: ("#c9c9c9", "xxxx", "diverged"),
    CENSORED: ("#f2f2f2", "////", "not reached in its budget"),
    LEFT_CENSORED: ("#ffffff", "....", "met at the first evaluation"),
}
_STABILITY = (
    " Red: the largest stable learning rate by the exact theory; above it the expected loss grows "
    "without bound (single runs may still be lucky for a while)."
)


def drawings(part: Part) -> Iterator[Drawing]:
    cells = at_best_values_of_sizes(
        part.frames["steps_by_lr"].dropna(subset="lr"),
        part.frames["steps_by_batch_size"],
        part.study.tuned[1:],
    )
    known = len(part.frames["stability"]) > 0
    others = listed([their_name(name) for name in part.study.tuned[1:]])
    best_values = f" At each batch size with the best {others}." if others else ""
    for i, target in enumerate(part.targets if cells["lr"].notna().any() else []):
        yield Drawing(
            "steps_by_lr_and_batch_size" + (f"_{target_label(target)}" if i else ""),
            f"Steps to target {target:.3g} by learning rate and batch size",
            "Bright is fast. Hatched cells never got there: their training diverged, or its budget "
            "ran out first; blank ones were not tried."
            + best_values
            + (_STABILITY if known else ""),
            partial(
                plot_lr_heat_map,
                cells[cells["target_loss"] == target],
                part.frames["steps_by_batch_size"].query("target_loss == @target"),
                part.frames["stability"],
            ),
            "steps_by_lr",
            cells[cells["target_loss"] == target].reset_index(drop=True),
            folded=i > 0,
        )


def at_best_values_of_sizes(
    cells: pd.DataFrame, frontier: pd.DataFrame, others: Sequence[str]
) -> pd.DataFrame:
    """The cells of each target and batch size with its best values of what is tuned beside lr, all
    of them where no setting reached the target."""
    if not others:
        return cells
    keys = ["target_loss", "batch_size"]
    best = frontier[frontier["outcome"] == REACHED].set_index(keys)
    found = dict(best.iterrows())
    parts = [
        at_best_values(rows, found[key], others) if key in found else rows
        for key, rows in cells.groupby(keys)
    ]
    return pd.concat(parts, ignore_index=True)


def plot_lr_heat_map(
    cells: pd.DataFrame, frontier: pd.DataFrame, stability: pd.DataFrame | None = None
) -> Figure:
    """Steps to one target of every (batch size, lr) tried; cells, frontier: of that target.

    A star marks the best lr of each batch size, dots what is within 20 % of it; cells that diverged
    or ran out of budget are hatched; blank cells were not tried. stability: batch_size and
    largest_stable_lr where theory knows it, drawn as a line: above it the expected loss grows.
    """
    with style.house_style():
        sizes, lrs = sorted(cells["batch_size"].unique()), sorted(cells["lr"].unique())
        figure, ax = style.new_axes(min(9.0, max(4.2, 1.8 + 0.22 * len(lrs))))
        mesh = _draw_cells(ax, cells, sizes, lrs)
        _mark_best(ax, cells, frontier, sizes, lrs)
        handles = _heat_map_legend(set(cells["outcome"]), bool(frontier["lr_at_edge"].any()))
        if stability is not None and len(stability):
            handles.append(_mark_stability(ax, stability, sizes, lrs))
        _label_rows_and_columns(ax, sizes, lrs)
        if cells["steps"].notna().any():
            bar = figure.colorbar(mesh, ax=ax, label="steps to target", pad=0.02)
            bar.ax.yaxis.set_major_locator(style.PlainTicks())
            bar.ax.yaxis.set_major_formatter(lambda value, _: style.number(value))
            bar.ax.yaxis.set_minor_formatter(lambda value, _: "")
            bar.outline.set_visible(False)  # type: ignore[operator]
        style.figure_legend(figure, handles, [str(h.get_label()) for h in handles], 4)
    return figure


def _draw_cells(ax: Axes, cells: pd.DataFrame, sizes: list[Any], lrs: list[Any]) -> QuadMesh:
    """A column a batch size, a row an lr: coloured by steps, hatched where there are none."""
    grid = cells.pivot_table(
        index="lr", columns="batch_size", values="steps", dropna=False, aggfunc="min"
    )
    steps = grid.reindex(index=lrs, columns=sizes).to_numpy(dtype=float)
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(steps), cmap="viridis_r", norm=LogNorm(), edgecolors="white",
        linewidth=0.6,
    )  # fmt: skip
    columns = [sizes.index(size) + 0.5 for size in cells["batch_size"]]
    tell(ax, cells, columns, [lrs.index(lr) + 0.5 for lr in cells["lr"]], is_cell=True)
    for outcome, (color, hatch, _) in _NO_STEPS.items():
        for size, lr in cells.loc[cells["outcome"] == outcome, ["batch_size", "lr"]].to_numpy():
            corner = (sizes.index(size), lrs.index(lr))
            ax.add_patch(Rectangle(corner, 1, 1, fc=color, ec="#7d7d7d", hatch=hatch, lw=0))
    return mesh


def _label_rows_and_columns(ax: Axes, sizes: list[Any], lrs: list[Any]) -> None:
    across = style.thinned(range(len(sizes)), style.fitting(16))
    names = [style.number(sizes[int(i)]) for i in across]
    ax.set_xticks(np.array(across) + 0.5, names, size=8)
    shown = style.thinned(range(len(lrs)), style.fitting(20))
    ax.set_yticks(np.array(shown) + 0.5, [f"{lrs[int(i)]:.3g}" for i in shown])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="batch size B (examples)", ylabel="learning rate")


def _mark_best(
    ax: Axes, cells: pd.DataFrame, frontier: pd.DataFrame, sizes: list[Any], lrs: list[Any]
) -> None:
    reached = frontier[frontier["outcome"] == REACHED]
    for size, lr, best, edge in reached[["batch_size", "lr", "steps", "lr_at_edge"]].itertuples(
        index=False
    ):
        star = _HOLLOW_STAR if edge else _STAR
        ax.plot(sizes.index(size) + 0.5, lrs.index(lr) + 0.5, **star)
        near = cells[(cells["batch_size"] == size) & (cells["steps"] <= NEAR_BEST * best)]
        for other in set(near["lr"]) - {lr}:
            ax.plot(sizes.index(size) + 0.5, lrs.index(other) + 0.5, **_DOT)


def _mark_stability(ax: Axes, stability: pd.DataFrame, sizes: list[Any], lrs: list[Any]) -> Line2D:
    """A step over each batch size at its largest stable lr, as high as it lies between the lrs.

    Rows stand at equal distances, so heights are interpolated in log lr between the rows' middles;
    a limit more than half a row outside the grid is not drawn.
    """
    line: dict[str, Any] = {"color": "#d62728", "lw": 2.0, "solid_capstyle": "butt"}
    middles = np.arange(len(lrs)) + 0.5
    spacing = np.log(lrs[-1] / lrs[0]) / max(1, len(lrs) - 1) or np.log(2)
    logs = np.concatenate([[np.log(lrs[0]) - spacing], np.log(lrs), [np.log(lrs[-1]) + spacing]])
    heights = np.concatenate([[-0.5], middles, [len(lrs) + 0.5]])
    for size, lr in stability[["batch_size", "largest_stable_lr"]].to_numpy():
        height = np.interp(np.log(lr), logs, heights)
        if size in sizes and 0 <= height <= len(lrs):
            left = sizes.index(size)
            ax.plot([left, left + 1], [height, height], zorder=5, **line)
    return Line2D([], [], label="largest stable lr (exact)", **line)


_STAR: dict[str, Any] = {"marker": "*", "ms": 11, "mfc": "white", "mec": "black", "mew": 0.9}
_HOLLOW_STAR: dict[str, Any] = {**_STAR, "mfc": "none", "path_effects": [
    withStroke(linewidth=2.6, foreground="white")  # else it would be lost on dark cells
]}  # fmt: skip
_DOT: dict[str, Any] = {"marker": "o", "ms": 3.2, "mfc": "white", "mec": "black", "mew": 0.6}


def _heat_map_legend(outcomes: Collection[str], some_at_edge: bool) -> list[Any]:
    without_steps = [
        Patch(fc=color, ec="#7d7d7d", hatch=hatch, lw=0, label=label)
        for outcome, (color, hatch, label) in _NO_STEPS.items()
        if outcome in outcomes or outcome != LEFT_CENSORED
    ]
    return [
        Line2D([], [], ls="", label="best lr", **_STAR),
        *([Line2D([], [], ls="", label=f"hollow: {HOLLOW}", **_HOLLOW_STAR)] * some_at_edge),
        Line2D([], [], ls="", label="within 20 % of it", **_DOT),
        *without_steps,
    ]


TOPIC = Topic(
    "lr_grid",
    scope="group",
    frames=lambda study, _: {
        "steps_by_lr": study.cells,
        "theory": study.theory,
        "stability": study.stability,
    },
    drawings=drawings,
)
