"""Steps to target over the lr x batch size grid, and the best lr against batch size."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from analysis.figures import style
from analysis.figures.series import bars_of
from analysis.fit.lr_rules import predict_lr
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED

NEAR_BEST = 1.2
_NO_STEPS = {  # colour, hatch and words of the cells without a crossing
    DIVERGED: ("#c9c9c9", "xxxx", "diverged"),
    CENSORED: ("#f2f2f2", "////", "not reached in its budget"),
    LEFT_CENSORED: ("#ffffff", "....", "met at the first evaluation"),
}
_RULE_NAMES = {
    "constant": ("constant", (0, (3, 1.5, 1, 1.5, 1, 1.5))),
    "power": ("free power, lr ∝ $B^k$", (0, (8, 1.5))),
    "linear": ("linear, lr ∝ B", (0, (1, 1.4))),
    "square_root": ("square root, lr ∝ √B", (0, (5, 2))),
    "saturating": (r"saturating, $\mathrm{lr_{max}}/(1 + B_*/B)^a$", "-"),
    "surge": ("surge, rises then falls", (0, (6, 2, 1, 2))),
}


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
        grid = cells.pivot_table(
            index="lr", columns="batch_size", values="steps", dropna=False, aggfunc="min"
        )
        grid = grid.reindex(index=lrs, columns=sizes)
        mesh = ax.pcolormesh(
            np.ma.masked_invalid(grid.to_numpy(dtype=float)),
            cmap="viridis_r",
            norm=LogNorm(),
            edgecolors="white",
            linewidth=0.6,
        )
        for outcome, (color, hatch, _) in _NO_STEPS.items():
            for size, lr in cells.loc[cells["outcome"] == outcome, ["batch_size", "lr"]].to_numpy():
                corner = (sizes.index(size), lrs.index(lr))
                ax.add_patch(Rectangle(corner, 1, 1, fc=color, ec="#7d7d7d", hatch=hatch, lw=0))
        _mark_best(ax, cells, frontier, sizes, lrs)
        handles = _heat_map_legend(set(cells["outcome"]))
        if stability is not None and len(stability):
            handles.append(_mark_stability(ax, stability, sizes, lrs))
        across = style.thinned(range(len(sizes)), style.fitting(16))
        names = [style.number(sizes[int(i)]) for i in across]
        ax.set_xticks(np.array(across) + 0.5, names, size=8)
        shown = style.thinned(range(len(lrs)), style.fitting(20))
        ax.set_yticks(np.array(shown) + 0.5, [f"{lrs[int(i)]:.3g}" for i in shown])
        ax.tick_params(length=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="batch size B (examples)", ylabel="learning rate")
        if grid.notna().any(axis=None):
            bar = figure.colorbar(mesh, ax=ax, label="steps to target", pad=0.02)
            bar.ax.yaxis.set_major_locator(style.PlainTicks())
            bar.ax.yaxis.set_major_formatter(lambda value, _: style.number(value))
            bar.ax.yaxis.set_minor_formatter(lambda value, _: "")
            bar.outline.set_visible(False)  # type: ignore[operator]
        style.figure_legend(figure, handles, [str(h.get_label()) for h in handles], 4)
    return figure


def _mark_best(
    ax: Axes, cells: pd.DataFrame, frontier: pd.DataFrame, sizes: list[Any], lrs: list[Any]
) -> None:
    reached = frontier[frontier["outcome"] == REACHED]
    for size, lr, best in reached[["batch_size", "lr", "steps"]].itertuples(index=False):
        ax.plot(sizes.index(size) + 0.5, lrs.index(lr) + 0.5, **_STAR)
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
_DOT: dict[str, Any] = {"marker": "o", "ms": 3.2, "mfc": "white", "mec": "black", "mew": 0.6}


def _heat_map_legend(outcomes: Collection[str]) -> list[Any]:
    without_steps = [
        Patch(fc=color, ec="#7d7d7d", hatch=hatch, lw=0, label=label)
        for outcome, (color, hatch, label) in _NO_STEPS.items()
        if outcome in outcomes or outcome != LEFT_CENSORED
    ]
    return [
        Line2D([], [], ls="", label="best lr", **_STAR),
        Line2D([], [], ls="", label="within 20 % of it", **_DOT),
        *without_steps,
    ]


def plot_best_lr(
    best_lr: pd.DataFrame, lr_rules: pd.DataFrame, theory: pd.DataFrame, target: float
) -> Figure:
    """Best lr against batch size for one target, with the rules fitted to it.

    Hollow points lie at the edge of the tried grid and are left out of the rules.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        own = best_lr[(best_lr["target_loss"] == target) & best_lr["lr"].notna()]
        own = own[own["outcome"] == REACHED]
        edge = own["lr_at_edge"].astype(bool)
        color = style.target_colors(1)[0]
        ax.errorbar(own["batch_size"], own["lr"], bars_of(own, "lr"), ls="", color=color, lw=1.2)
        for where, fill, label in ((~edge, color, "best lr"), (edge, "white", "at grid edge")):
            if where.any():
                points = own.loc[where]
                ax.plot(
                    points["batch_size"], points["lr"], ls="", marker="o", color=color, mfc=fill,
                    label=label, zorder=4,
                )  # fmt: skip
        exact = theory[(theory["target_loss"] == target) & (theory["lr_choice"] == "continuous_lr")]
        if len(exact):
            ax.plot(
                exact["batch_size"], exact["lr"], ls="", marker="+", ms=10, color=style.INK,
                label="exact theory, continuous lr", zorder=3,
            )  # fmt: skip
        _plot_rules(ax, own, lr_rules[lr_rules["target_loss"] == target])
        style.batch_size_axis(ax, own["batch_size"])
        style.log_axis(ax, "y", "best learning rate")
        if len(own):
            ax.set_ylim(own["lr"].min() / 2.5, own["lr"].max() * 2.5)
        style.legend_below(figure, ax)
    return figure


def _plot_rules(ax: Axes, own: pd.DataFrame, rules: pd.DataFrame) -> None:
    if own.empty:
        return
    dense = np.geomspace(own["batch_size"].min(), own["batch_size"].max(), 200)
    colors = style.target_colors(len(_RULE_NAMES) + 1)[1:]
    for i, rule in enumerate(rules[rules["shown"].astype(bool)].to_dict("records")):
        name, line = _RULE_NAMES.get(rule["rule"], (rule["rule"], "-"))
        label, width = (f"{name} (preferred)", 2.2) if rule["preferred"] else (name, 1.1)
        shown = {"color": colors[i % len(colors)], "ls": line, "lw": width, "label": label}
        ax.plot(dense, predict_lr(rule, dense), **shown, zorder=2)
