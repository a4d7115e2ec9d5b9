"""The critical batch size against the target loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analysis.figures import style
from analysis.figures.laws import draw_target_laws
from analysis.figures.series import bars

_OTHERS = (  # column, label, marker, shift along the log axis
    ("overhead", "20 % overhead over the smallest", "s", 1.05),
    ("half_elasticity", "half elasticity, from the data", "D", 1.10),
    ("exact_same_grid", "exact, same lr grid", "+", 0.955),
    ("exact_continuous_lr", "exact, continuous lr", "x", 0.91),
)


def plot_critical_batch_size(
    critical_batch_size: pd.DataFrame,
    groups: Sequence[tuple[str, pd.DataFrame]],
    laws: Sequence[pd.DataFrame] = (),
) -> Figure:
    """B_crit against target with 95 % intervals; the target is harder to the right.

    groups: (label, rows of `critical_batch_size`) of each group; laws: their rows of the laws in
    x = target_loss, where several targets are known. Arrows: "at least" and "at most".
    The other definitions and exact values are drawn where there is only one group.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        colors = style.target_colors(len(groups))
        targets = sorted(critical_batch_size["target_loss"].unique())
        x_label = "target held-out loss (harder to the right)"
        on_log = style.value_axis(ax, "x", x_label, [targets], minor=False)
        for i, (label, own) in enumerate(groups):
            shift = 1 + 0.03 * (i - (len(groups) - 1) / 2)
            own = own.assign(x=_beside(own["target_loss"], shift, targets, on_log))
            _plot_group(ax, own, label, colors[i], style.MARKERS[i % len(style.MARKERS)])
        if len(groups) == 1:
            for column, label, marker, shift in _OTHERS:
                own = critical_batch_size.dropna(subset=column)
                if len(own):
                    ink = style.INK if column.startswith("exact") else style.MUTED
                    x = _beside(own["target_loss"], 1 / shift, targets, on_log)
                    ax.plot(
                        x, own[column], ls="", marker=marker, color=ink,
                        mfc="none", ms=8 if marker in "+x" else 6, label=label,
                    )  # fmt: skip
        style.log_axis(ax, "y", "critical batch size (examples)")
        ax.xaxis.set_major_locator(FixedLocator(_apart(targets, on_log)))
        if targets:
            ax.set_xlim(
                *(
                    _beside(end, 1.6**side, targets, on_log)
                    for end, side in ((max(targets), 1), (min(targets), -1))
                )
            )
        for own, color in zip(laws, colors, strict=False):
            draw_target_laws(ax, own, targets, color, named=len(groups) == 1)
        style.legend_below(figure, ax, columns=2 if len(groups) == 1 else 3)
    return figure


def _beside(target: Any, shift: float, targets: Sequence[float], on_log: bool) -> Any:
    """The place of a target moved by a factor; on a linear axis by as much of its width."""
    if on_log:
        return target * shift
    return target + np.log(shift) * (max(targets) - min(targets) or 1.0) / 3


def _apart(targets: Sequence[float], on_log: bool) -> list[float]:
    """The targets without those whose labels would run into a lower one's."""
    places = np.log(targets) if on_log else np.asarray(targets, float)
    least = max(0.02 if on_log else 0.0, 0.1 * np.ptp(places)) if len(places) else 0.0
    shown: list[int] = []
    for i, place in enumerate(places):
        if not shown or place - places[shown[-1]] > least:
            shown.append(i)
    return [targets[i] for i in shown]


def _plot_group(ax: Axes, own: pd.DataFrame, label: str, color: Any, marker: str) -> None:
    column = "min_examples/min_steps"
    known = own.dropna(subset=column)
    if len(known):
        name = (
            style.plain_text(label)
            or r"$E_\mathrm{min}/S_\mathrm{min}$ from the fit, 95 % interval"
        )
        ax.errorbar(
            known["x"], known[column],
            bars(known[column], known["low"], known["high"]), ls="-", lw=1, label=name,
            elinewidth=1.6, capsize=3, color=color, marker=marker, ms=7, zorder=3,
        )  # fmt: skip
    for bound, arrow, text in (("at_least", "^", "at least"), ("at_most", "v", "at most")):
        rows = own[own[column].isna() & own[bound].notna()]
        if len(rows):
            ax.plot(
                rows["x"], rows[bound], ls="", marker=arrow, ms=9, color=color,
                mfc="white", label=f"{style.plain_text(label)} {text}" if label else text,
            )  # fmt: skip
