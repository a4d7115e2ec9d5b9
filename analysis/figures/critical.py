"""The critical batch size against the target loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        for i, (label, own) in enumerate(groups):
            shift = 1 + 0.03 * (i - (len(groups) - 1) / 2)
            _plot_group(ax, own, label, shift, colors[i], style.MARKERS[i % len(style.MARKERS)])
        if len(groups) == 1:
            for column, label, marker, shift in _OTHERS:
                own = critical_batch_size.dropna(subset=column)
                if len(own):
                    ink = style.INK if column.startswith("exact") else style.MUTED
                    ax.plot(
                        own["target_loss"] / shift, own[column], ls="", marker=marker, color=ink,
                        mfc="none", ms=8 if marker in "+x" else 6, label=label,
                    )  # fmt: skip
        style.log_axis(ax, "x", "target held-out loss (harder to the right)", minor=False)
        style.log_axis(ax, "y", "critical batch size (examples)")
        targets = sorted(critical_batch_size["target_loss"].unique())
        ax.xaxis.set_major_locator(FixedLocator(_apart(targets)))
        if targets:
            ax.set_xlim(max(targets) * 1.6, min(targets) / 1.6)
        for own, color in zip(laws, colors, strict=False):
            draw_target_laws(ax, own, targets, color, named=len(groups) == 1)
        style.legend_below(figure, ax, columns=2 if len(groups) == 1 else 3)
    return figure


def _apart(targets: Sequence[float]) -> list[float]:
    """The targets without those whose labels would run into a lower one's."""
    span = max(targets, default=1.0) / min(targets, default=1.0)
    shown: list[float] = []
    for target in targets:
        if not shown or target / shown[-1] > max(1.02, span**0.1):
            shown.append(target)
    return shown


def _plot_group(
    ax: Axes, own: pd.DataFrame, label: str, shift: float, color: Any, marker: str
) -> None:
    column = "min_examples/min_steps"
    known = own.dropna(subset=column)
    if len(known):
        name = (
            style.plain_text(label)
            or r"$E_\mathrm{min}/S_\mathrm{min}$ from the fit, 95 % interval"
        )
        ax.errorbar(
            known["target_loss"] * shift, known[column],
            bars(known[column], known["low"], known["high"]), ls="-", lw=1, label=name,
            elinewidth=1.6, capsize=3, color=color, marker=marker, ms=7, zorder=3,
        )  # fmt: skip
    for bound, arrow, text in (("at_least", "^", "at least"), ("at_most", "v", "at most")):
        rows = own[own[column].isna() & own[bound].notna()]
        if len(rows):
            ax.plot(
                rows["target_loss"] * shift, rows[bound], ls="", marker=arrow, ms=9, color=color,
                mfc="white", label=f"{style.plain_text(label)} {text}" if label else text,
            )  # fmt: skip
