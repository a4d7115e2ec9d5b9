"""Series of points: the look of each, its intervals and labels, and several in one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from analysis.figures import style
from analysis.figures.tooltips import HOLLOW, tell
from scaling.schema import REACHED

Look = dict[str, Any]
_LINE = 26  # letters of a line of a legend that stands beside the axes


def look(i: int, color: Any) -> Look:
    """The i-th series: readable without colours, too, by its marker and line."""
    marker, line = style.MARKERS[i % len(style.MARKERS)], style.LINES[i % len(style.LINES)]
    return {"color": color, "marker": marker, "ls": line}


def ordered_look(i: int, n: int) -> Look:
    """The i-th of n values of an ordered quantity (model sizes): dark to light."""
    return look(i, style.ordered_colors(n)[i])


def bars(values: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    """Lengths below and above for errorbar; none where an end is not known."""
    return [(values - low).clip(lower=0).fillna(0), (high - values).clip(lower=0).fillna(0)]


def bars_of(rows: pd.DataFrame, y: str) -> list[pd.Series]:
    """Bars of column y, whose ends are y_low and y_high."""
    return bars(rows[y], rows[f"{y}_low"], rows[f"{y}_high"])


def plot_points(
    ax: Axes, rows: pd.DataFrame, y: str, shown: Look, x: str = "batch_size", label: str = ""
) -> None:
    """Points of the frontier with their intervals, as plot_markers draws them."""
    ax.errorbar(rows[x], rows[y], bars_of(rows, y), ls="", color=shown["color"], lw=1)
    plot_markers(ax, rows, y, shown, x, label)


def plot_markers(
    ax: Axes, rows: pd.DataFrame, y: str, shown: Look, x: str = "batch_size", label: str = ""
) -> None:
    """Points of the frontier, or of what follows from it, that tell what is known of each; hollow:
    the best lr is at a grid's edge. label: of the series, in front of what they tell."""
    edge = rows["lr_at_edge"].astype(bool)
    for where, face in ((~edge, shown["color"]), (edge, "white")):
        points = rows[where]
        ax.plot(points[x], points[y], **{"zorder": 3, **shown, "ls": "", "mfc": face})
    tell(ax, rows, x, y, label)


def explain_hollow(ax: Axes, *frames: pd.DataFrame) -> None:
    """One entry of the legend for all hollow points of a figure; none where there are none."""
    if any(rows["lr_at_edge"].astype(bool).any() for rows in frames):
        shown: Look = {"ls": "", "marker": "o", "color": style.MUTED, "mfc": "white"}
        ax.plot([], [], **shown, label=fill(f"hollow: {HOLLOW}", _LINE))


class Fitted(Protocol):
    """What is drawn of a fit."""

    log_parameters: tuple[float, float] | None
    identified: bool
    critical_batch_size: float | None

    def predict(self, batch_size: Any) -> np.ndarray: ...

    def predict_interval(self, batch_size: Any) -> tuple[np.ndarray, np.ndarray]: ...


def plot_overlaid_steps(
    series: Sequence[tuple[str, pd.DataFrame, Fitted]], ordered_by: str = ""
) -> Figure:
    """Steps to target against batch size, a colour a series, with its fit and 95 % band.

    A fit that is not identified has no band.

    series: (label, frontier rows of one target, their fit). Hollow: best lr at the grid's edge.
    ordered_by: the quantity that the labels are values of, in order; colours follow it.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows, fit) in enumerate(series):
            shown = _look(i, len(series), ordered_by)
            color, line = shown["color"], {"color": shown["color"], "ls": shown["ls"]}
            rows = rows.dropna(subset="steps").sort_values("batch_size")
            plot_points(ax, rows, "steps", shown, label=label)
            name = style.plain_text(label)
            if fit.log_parameters is None or rows.empty:
                ax.plot([], [], **{**shown, "ls": ""}, label=f"{name} (no fit)")
                continue
            ends = rows["batch_size"].min(), rows["batch_size"].max()
            dense = np.geomspace(*ends, 200)
            low, high = fit.predict_interval(dense)
            if fit.identified and np.isfinite(low).all():  # else it would hide the others
                ax.fill_between(dense, low, high, color=color, alpha=0.15, lw=0)
            ax.plot(dense, fit.predict(dense), **line)
            ax.plot([], [], **shown, label=name)
            if fit.critical_batch_size is not None:
                at = fit.critical_batch_size
                ax.plot(at, float(fit.predict(at)), ls="", marker="|", ms=16, mew=1.6, color=color)
        _finish(
            figure, ax, [rows for _, rows, _ in series], "steps", "steps to target S", ordered_by
        )
    return figure


def plot_overlaid_lr(series: Sequence[tuple[str, pd.DataFrame]], ordered_by: str = "") -> Figure:
    """Best learning rate against batch size, a colour a series; hollow: at the grid's edge.

    series: (label, frontier rows of one target); ordered_by: as in plot_overlaid_steps.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows) in enumerate(series):
            shown = _look(i, len(series), ordered_by)
            rows = rows[rows["outcome"] == REACHED].dropna(subset="lr").sort_values("batch_size")
            # a little apart, so that equal values of several series stay visible
            shift = 1.05 ** (i - (len(series) - 1) / 2)
            rows = rows.assign(x=rows["batch_size"] * shift)
            ax.plot(rows["x"], rows["lr"], color=shown["color"], ls=shown["ls"], lw=1)
            plot_points(ax, rows, "lr", shown, "x", label)
            ax.plot([], [], **shown, label=style.plain_text(label))
        _finish(figure, ax, [rows for _, rows in series], "lr", "best learning rate", ordered_by)
    return figure


def plot_overlaid_curves(
    series: Sequence[tuple[str, pd.DataFrame]], y: str, targets: Sequence[float] = ()
) -> Figure:
    """Held-out loss or accuracy (y) against steps, a colour a series and a line each of its batch
    sizes; the band spans the seeds."""
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows) in enumerate(series):
            shown = _look(i, len(series))
            rows = rows[rows["step"] > 0].dropna(subset=y)
            for j, (_, curve) in enumerate(rows.groupby("batch_size")):
                if f"{y}_low" in curve:
                    band = curve[f"{y}_low"], curve[f"{y}_high"]
                    ax.fill_between(curve["step"], *band, color=shown["color"], alpha=0.13, lw=0)
                plot_curve(ax, curve, "step", y, {**shown, "ms": 4}, i, label, named=not j)
        style.log_axis(ax, "x", "steps (optimizer updates)")
        if y == "loss":
            names = [name for name in ("loss", "loss_low", "loss_high") if name in series[0][1]]
            shown = [rows.loc[rows["step"] > 0, names] for _, rows in series]
            style.value_axis(ax, "y", "held-out loss", [targets, *shown])
        else:
            ax.set_ylabel(f"held-out {y}")
        for target in targets:
            ax.axhline(target, color=style.INK, lw=0.8, ls=(0, (2, 3)))
        style.legend_below(figure, ax)
    return figure


def plot_curve(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, shown: Look, i: int, label: str, *,
    named: bool = True,
) -> None:  # fmt: skip
    """The i-th curve of a figure with six markers or so, which tell; named: in the legend."""
    first, step = i % 5, max(1, len(rows) // 6)
    name = style.plain_text(label) if named else None
    ax.plot(rows[x], rows[y], **shown, markevery=(first, step), label=name)
    tell(ax, rows.iloc[first::step], x, y, label)


def _look(i: int, n: int, ordered_by: str = "") -> Look:
    return ordered_look(i, n) if ordered_by else look(i, style.target_colors(n)[i])


def _finish(
    figure: Figure, ax: Axes, frames: Sequence[pd.DataFrame], y: str, label: str, ordered_by: str
) -> None:
    explain_hollow(ax, *(rows.dropna(subset=y) for rows in frames))
    style.batch_size_axis(ax, pd.concat([rows["batch_size"] for rows in frames]))
    style.log_axis(ax, "y", label)
    if ordered_by:
        style.legend_beside(figure, ax, ordered_by)
    else:
        style.legend_below(figure, ax)


def place_labels(figure: Figure, ax: Axes, labels: Sequence[Any], lines: Sequence[Any]) -> None:
    """Move each label (an annotation of a point) to a free place around its point, or hide it.

    Free: inside the axes, off the other labels, off all labelled points and off the lines
    (arrays [n, 2] in data coordinates). Earlier labels choose first.
    """
    figure.draw_without_rendering()  # settles limits and layout
    inside = ax.get_window_extent()
    anchors = [ax.transData.transform(label.xy) for label in labels]
    half = 4.0 * figure.dpi / 72
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in anchors]
    curves = np.concatenate([ax.transData.transform(line) for line in lines] or [np.empty((0, 2))])
    for label, (x, y) in zip(labels, anchors, strict=True):
        box = label.get_window_extent()
        for dx, dy in _around():
            left = x + dx * figure.dpi / 72 - box.width * (1 - np.sign(dx)) / 2
            bottom = y + dy * figure.dpi / 72 - box.height * (1 - np.sign(dy)) / 2
            place = Bbox.from_bounds(left, bottom, box.width, box.height)
            free = inside.contains(*place.min) and inside.contains(*place.max)
            if free and not place.count_contains(curves) and not place.count_overlaps(taken):
                label.set(position=(dx, dy), ha=_ALIGN[np.sign(dx)], va=_VALIGN[np.sign(dy)])
                taken.append(place)
                break
        else:
            label.set_visible(False)


_ALIGN = {-1.0: "right", 0.0: "center", 1.0: "left"}
_VALIGN = {-1.0: "top", 0.0: "center", 1.0: "bottom"}


def _around() -> Iterator[tuple[float, float]]:
    """Offsets in points: right, left, above, below, then the corners; near first, then farther."""
    for r in (6.0, 10.0, 15.0):
        yield from ((r, 0.0), (-r, 0.0), (0.0, r), (0.0, -r))
        d = 0.7 * r
        yield from ((d, d), (-d, -d), (-d, d), (d, -d))
