"""How many steps does each batch size need? S(B) with its regimes, steps against examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import (
    Look,
    explain_hollow,
    look,
    place_labels,
    plot_markers,
    plot_points,
)
from analysis.figures.tooltips import tell
from analysis.fit.fit_result import FitResult, headline
from analysis.groups import select
from analysis.study import Study
from analysis.topics.topic import Part, Topic
from scaling.schema import LEFT_CENSORED

# The knee: from 20 % more examples than the minimum (B_crit/5) to 20 % more steps (5 B_crit).
KNEE = 5.0


def steps_by_batch_size(study: Study) -> pd.DataFrame:
    """The frontier, with what the fit and the exact theory say at the same batch sizes."""
    frames = []
    for fit in study.fits:
        rows = select(study.frontier, fit.group)
        rows = rows[rows["target_loss"] == fit.target_loss].copy()
        rows["fitted_steps"] = fit.predict(rows["batch_size"].to_numpy())
        rows["fitted_steps_low"], rows["fitted_steps_high"] = fit.predict_interval(
            rows["batch_size"].to_numpy()
        )
        theory = select(study.theory, fit.group)
        theory = theory[theory["target_loss"] == fit.target_loss]
        for choice in ("same_grid", "continuous_lr"):
            exact = theory[theory["lr_choice"] == choice].set_index("batch_size")
            rows[f"exact_steps_{choice}"] = rows["batch_size"].map(exact["steps"]).astype(float)
            rows[f"exact_lr_{choice}"] = rows["batch_size"].map(exact["lr"]).astype(float)
        frames.append(rows)
    return pd.concat(frames, ignore_index=True) if frames else study.frontier


def drawings(part: Part) -> Iterator[Drawing]:
    fits = part.fits
    steps = part.frames["steps_by_batch_size"]
    if steps["steps"].notna().any():
        yield Drawing(
            "steps_against_batch_size",
            "Steps to target against batch size",
            "Each point is the fewest steps over all learning rates; hollow ones are upper bounds. "
            "In A (noise dominated) a batch twice as large halves the steps; in B (curvature "
            "dominated) it hardly saves any; C is the knee, around the critical batch size. "
            "Regimes and the dotted line of perfect scaling belong to the target that the answer "
            "speaks of.",
            partial(plot_steps_against_batch_size, steps, fits),
            "steps_by_batch_size",
            steps,
        )
        yield Drawing(
            "pareto_front",
            "Steps against examples",
            "What a target costs in time (steps) and in compute (examples); numbers are batch "
            "sizes, the crosses mark the fewest of both, which no batch size reaches together.",
            partial(plot_pareto_front, steps, fits),
            "steps_by_batch_size",
            steps,
        )


def plot_steps_against_batch_size(
    steps_by_batch_size: pd.DataFrame, fits: Sequence[FitResult]
) -> Figure:
    """S(B) of every target: points, fit with 95 % band, exact values, perfect scaling, regimes.

    steps_by_batch_size and fits are of one group; the regimes are those of the headline's target.
    Hollow points are upper bounds: downward arrows where the target was met at the first
    evaluation, the others where the best lr lies at the edge of the grid.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.6)
        fits = sorted(fits, key=lambda fit: fit.target_loss)
        sizes = np.array(sorted(steps_by_batch_size["batch_size"].unique()), dtype=float)
        dense = np.geomspace(sizes.min(), sizes.max(), 200) if len(sizes) else sizes
        for i, (fit, color) in enumerate(zip(fits, style.target_colors(len(fits)), strict=True)):
            rows = steps_by_batch_size[steps_by_batch_size["target_loss"] == fit.target_loss]
            _plot_target(ax, rows, fit, dense, look(i, color))
        exact = steps_by_batch_size.dropna(subset="exact_steps_same_grid")
        if len(exact):
            ax.plot(
                exact["batch_size"], exact["exact_steps_same_grid"], ls="", marker="+", ms=10,
                mew=1.2, color=style.INK, zorder=4, label="exact theory, same lr grid",
            )  # fmt: skip
        explain_hollow(ax, steps_by_batch_size.dropna(subset="steps"))
        style.batch_size_axis(ax, sizes)
        style.log_axis(ax, "y", "steps to target S")
        _headroom(ax, steps_by_batch_size)
        if fits:
            _mark_regimes(ax, headline(fits) or fits[0], sizes, dense)
        style.legend_below(figure, ax, columns=2)
    return figure


def _plot_target(
    ax: Axes, rows: pd.DataFrame, fit: FitResult, dense: np.ndarray, shown: Look
) -> None:
    """Points with intervals, fit and band; a hollow point stands at the edge of the lr grid."""
    early = rows[rows["outcome"] == LEFT_CENSORED] if "outcome" in rows else rows.iloc[:0]
    rows = rows.dropna(subset="steps")
    color, points = shown["color"], {**shown, "ls": "", "zorder": 3}
    if len(early):
        label = f"target {fit.target_loss:.3g}, at most (met at the first evaluation)"
        arrow = {**points, "marker": "v", "mfc": "white"}
        ax.plot(early["batch_size"], early["steps_upper"], **arrow, label=label)
        tell(ax, early, "batch_size", "steps_upper")
    plot_points(ax, rows, "steps", shown)
    target = f"target {fit.target_loss:.3g}"
    if fit.log_parameters is None:
        ax.plot([], [], **points, label=f"{target} (no fit)")
    else:
        low, high = fit.predict_interval(dense)
        if np.isfinite(low).all():
            ax.fill_between(dense, low, high, color=color, alpha=0.2, lw=0, zorder=1)
        ax.plot(dense, fit.predict(dense), color=color, ls=shown["ls"], zorder=2)
        ax.plot([], [], **shown, label=f"{target}, fit and 95 % band")


def _headroom(ax: Axes, table: pd.DataFrame) -> None:
    """The data's range with room above for the names of the regimes."""
    known = table["steps"].dropna()
    if len(known):
        ax.set_ylim(known.min() / 2, known.max() * (known.max() / known.min()) ** 0.16 * 1.6)
        sizes = table["batch_size"]
        ax.set_xlim(sizes.min() / 1.35, sizes.max() * 1.35)


def _mark_regimes(ax: Axes, fit: FitResult, sizes: np.ndarray, dense: np.ndarray) -> None:
    """Shade and name the regimes: A noise dominated, C the knee, B curvature dominated."""
    if fit.log_parameters is None:
        return
    if fit.min_examples is not None:
        ax.plot(
            dense,
            fit.min_examples / dense,
            color=style.MUTED,
            lw=1,
            ls=(0, (1, 2)),
            label=f"perfect scaling, target {fit.target_loss:.3g}",
        )
    if fit.critical_batch_size is None:
        return
    left, right = (float(x) for x in ax.get_xlim())
    edges = np.clip([left, fit.critical_batch_size / KNEE, fit.critical_batch_size * KNEE, right],
                    left, right)  # fmt: skip
    names = (("A", "noise\ndominated"), ("C", "knee"), ("B", "curvature\ndominated"))
    shades = ("#ffffff", "#efefef", "#ffffff")
    for (letter, name), low, high, shade in zip(names, edges, edges[1:], shades, strict=False):
        if high / low < 1.5:
            continue
        ax.axvspan(low, high, color=shade, zorder=0, lw=0)
        where = float(np.sqrt(low * high))
        ax.annotate(
            f"{letter}: {name}", (where, 0.985), xycoords=("data", "axes fraction"),
            ha="center", va="top", fontsize=8.5, color=style.MUTED, linespacing=1.1,
        )  # fmt: skip
        where = fit.critical_batch_size if letter == "C" else where
        if sizes.min() <= where <= sizes.max():
            ax.annotate(
                letter, (where, float(fit.predict(where))), xytext=(13, 13),
                textcoords="offset points", ha="center", va="center", fontsize=9, weight="bold",
                bbox={"boxstyle": "circle,pad=0.22", "fc": "white", "ec": style.INK, "lw": 1},
                arrowprops={"arrowstyle": "-", "lw": 0.8, "color": style.INK}, zorder=5,
            )  # fmt: skip


def plot_pareto_front(steps_by_batch_size: pd.DataFrame, fits: Sequence[FitResult]) -> Figure:
    """Steps against examples at every target, labelled by batch size, with the fitted hyperbola.

    (S/S_min - 1)(E/E_min - 1) = 1 (McCandlish et al. 2018, arXiv:1812.06162, equation 2.11).
    """
    with style.house_style():
        figure, ax = style.new_axes(5.8)
        fits = sorted(fits, key=lambda fit: fit.target_loss)
        labels: list[Any] = []
        lines: list[np.ndarray] = []
        for i, (fit, color) in enumerate(zip(fits, style.target_colors(len(fits)), strict=True)):
            rows = steps_by_batch_size[steps_by_batch_size["target_loss"] == fit.target_loss]
            rows = rows.dropna(subset="steps")
            shown = look(i, color)
            if len(rows) and fit.log_parameters is not None:
                dense = np.geomspace(rows["batch_size"].min(), rows["batch_size"].max(), 400)
                lines.append(np.column_stack([fit.predict(dense) * dense, fit.predict(dense)]))
                ax.plot(*lines[-1].T, color=color, ls=shown["ls"], lw=1.3, zorder=2)
            plot_markers(ax, rows, "steps", shown, "examples")
            ax.plot([], [], **shown, label=f"target {fit.target_loss:.3g} and its hyperbola")
            labels += _label_points(ax, rows, fit, color)
        explain_hollow(ax, steps_by_batch_size.dropna(subset="steps"))
        style.log_axis(ax, "x", "examples to target E = B S")
        style.log_axis(ax, "y", "steps to target S")
        ax.margins(0.09)
        style.legend_below(figure, ax)
        place_labels(figure, ax, labels, lines)
    return figure


def _label_points(ax: Axes, rows: pd.DataFrame, fit: FitResult, color: Any) -> list[Any]:
    """Labels of the batch sizes, and the unreachable corner (E_min, S_min) with its B_crit."""
    places = [
        (style.number(size), (examples, steps))
        for size, examples, steps in rows[["batch_size", "examples", "steps"]].to_numpy()
    ]
    if fit.critical_batch_size is not None and fit.min_examples and fit.min_steps:
        corner = (fit.min_examples, fit.min_steps)
        ax.plot(*corner, marker="x", color=color, ms=6, mew=1.4, zorder=2)
        name = rf"$B_\mathrm{{crit}}$ {style.number(fit.critical_batch_size)}"
        places.append((name, corner))
    return [
        ax.annotate(text, xy, xytext=(6, 0), textcoords="offset points", fontsize=7.5, color=color)
        for text, xy in places
    ]


TOPIC = Topic(
    "steps",
    scope="group",
    frames=lambda study, _: {"steps_by_batch_size": steps_by_batch_size(study)},
    drawings=drawings,
)
