"""Held-out loss: against steps and examples, and against batch size at fixed examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style


def plot_loss_curves(loss_curves: pd.DataFrame, targets: list[float], x: str) -> Figure:
    """Seed-mean held-out loss against x ("step" or "examples"), a curve a batch size.

    loss_curves: as `tables.loss_curves` makes it, of one group; the band spans the seeds. Where the
    theory is exact, thin dashed lines are the expected losses, wedges the losses they settle at.
    Against examples a vertical line is the first pass through a fixed data set.
    """
    label = "steps (optimizer updates)" if x == "step" else "training examples seen"
    with style.house_style():
        figure, ax = style.new_axes()
        sizes = sorted(loss_curves["batch_size"].unique())
        colors = style.ordered_colors(len(sizes))
        for i, size in enumerate(sizes):
            own = loss_curves[(loss_curves["batch_size"] == size) & (loss_curves[x] > 0)]
            ax.fill_between(
                own[x], own["loss_low"], own["loss_high"], color=colors[i], alpha=0.13, lw=0
            )
            ax.plot(
                own[x],
                own["loss"],
                color=colors[i],
                linestyle=style.LINES[i % len(style.LINES)],
                marker=style.MARKERS[i % len(style.MARKERS)],
                markersize=4,
                markevery=(i % 5, max(1, len(own) // 6)),
                lw=1.3,
                label=style.number(size),
            )
            _plot_expected(ax, own, x, colors[i])
        style.log_axis(ax, "x", label)
        shown = loss_curves[loss_curves[x] > 0]
        values = (targets, *(shown[name] for name in ("loss", "loss_low", "loss_high")))
        style.value_axis(ax, "y", "held-out loss", values)
        if x == "examples":
            _mark_first_epoch(ax, loss_curves)
        for target in targets:
            ax.axhline(target, color=style.INK, lw=0.8, ls=(0, (2, 3)))
            ax.annotate(
                f"target {target:.3g}",
                (0, target),
                xycoords=("axes fraction", "data"),
                xytext=(3, 2),
                textcoords="offset points",
                fontsize=8,
            )
        style.legend_beside(figure, ax, "batch size")
    return figure


def _mark_first_epoch(ax: Axes, loss_curves: pd.DataFrame) -> None:
    """From there on no example is new; nothing where the data are not passed once."""
    if "epochs" not in loss_curves or not (loss_curves["epochs"] > 1).any():
        return
    later = loss_curves[loss_curves["epochs"] > 0].iloc[-1]
    one = later["examples"] / later["epochs"]
    ax.axvline(one, color=style.MUTED, lw=0.9, ls=(0, (5, 2, 1, 2)))
    ax.annotate(
        "all examples once", (one, 1.0), xycoords=("data", "axes fraction"), xytext=(3, -3),
        textcoords="offset points", fontsize=8, va="top", color=style.MUTED,
    )  # fmt: skip


def _plot_expected(ax: Axes, own: pd.DataFrame, x: str, color: Any) -> None:
    """The exact expected loss of one batch size, and its noise floor at the right edge."""
    if "exact_loss" not in own or own["exact_loss"].isna().all():
        return
    known = own.dropna(subset="exact_loss")
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
            own = fixed_budget[fixed_budget["examples"] == budget].sort_values("batch_size")
            low, high = own["loss_low"], own["loss_high"]
            ax.fill_between(own["batch_size"], low, high, color=colors[i], alpha=0.18, lw=0)
            ax.plot(
                own["batch_size"],
                own["loss"],
                color=colors[i],
                linestyle=style.LINES[i % len(style.LINES)],
                marker=style.MARKERS[i % len(style.MARKERS)],
                label=style.number(budget),
            )
        style.batch_size_axis(ax, fixed_budget["batch_size"])
        values = (fixed_budget[name] for name in ("loss", "loss_low", "loss_high"))
        style.value_axis(ax, "y", "held-out loss, best lr", values)
        style.legend_beside(figure, ax, "examples seen")
    return figure
