"""What does twice the compute buy: more steps, a larger batch or a larger model?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import bars_of, explain_hollow, look, plot_markers
from analysis.fit.twice_the_compute import (
    BASE,
    BATCH,
    MODEL,
    STEPS,
    twice_the_compute,
    way_curves,
)
from analysis.groups import group_label, listed, select
from analysis.study import Study
from analysis.topics.topic import Cell, Finding, Frames, Part, Section, Table, Topic
from analysis.words import between, rounded, short_number, size_words

_APART = {STEPS: 0.985, BATCH: 1.015, MODEL: 1.0}  # equal compute, shown a little apart


def loss_over_larger_model(study: Study, frames: Frames) -> Sequence[Finding]:
    """Of each group: loss after twice the steps, and with twice the batch, minus that of a model
    about twice as large; see analysis.fit.twice_the_compute. AnalysisError where nothing is
    known."""
    frame = frames["twice_the_compute"]
    if frame.empty:
        raise AnalysisError(
            "it needs a model of 1.5 to 2.7 times the FLOPs, and a critical batch size that is "
            "identified and near to a batch size whose double was trained too"
        )
    rows = frame[frame["way"].isin([STEPS, BATCH])].to_dict("records")
    return [_finding(row, {name: row[name] for name in study.group_by}) for row in rows]


def _finding(row: dict[Any, Any], group: dict[str, Any]) -> Finding:
    error, low, high = (
        None if pd.isna(row[f"over_larger_model_{part}"]) else row[f"over_larger_model_{part}"]
        for part in ("error", "low", "high")
    )
    label = group_label(group)
    what = f"{label + ', ' if label else ''}{row['way']}"
    return Finding(what, row["over_larger_model"], error, low, high)


def drawings(part: Part) -> Iterator[Drawing]:
    assert part.family
    for member in part.family.members:
        rows = select(part.frames["twice_the_compute"], member.group)
        if len(rows):
            size = short_number(member.model_size or 0)
            yield Drawing(
                f"twice_the_compute_from_{size}",
                f"Twice the compute, from model size {size}",
                "From the black point, at a batch size near the critical one, three ways to spend "
                "twice the compute, each at its best learning rate (hollow: at the edge of those "
                "tried), with 95 % intervals; lines are the mean curves at these learning rates. "
                f"Compute is FLOPs of an example x batch size x steps, {part.study.flops_counted}.",
                partial(plot_twice_the_compute, rows, way_curves([part.family], rows)),
                "twice_the_compute",
                rows,
            )


def plot_twice_the_compute(rows: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Held-out loss against compute: the point that is started from and the three at twice of it,
    with 95 % intervals, on their seed-mean curves. Hollow: the best lr is at the grid's edge.

    rows: of one group, twice_the_compute.TWICE_COLUMNS; curves: twice_the_compute.way_curves.
    """
    with style.house_style():
        figure, ax = style.new_axes(4.8)
        colors = style.target_colors(3)
        for i, (way, apart) in enumerate(_APART.items()):
            shown = look(i, colors[i])
            line, point = curves[curves["way"] == way], rows[rows["way"] == way]
            ax.plot(
                line["compute"], line["loss"], color=colors[i], ls=shown["ls"], lw=1.1, alpha=0.7
            )
            x = point["compute"] * apart
            ax.errorbar(x, point["loss"], bars_of(point, "loss"), ls="", color=colors[i], lw=1.4)
            marked = {**shown, "ms": 8, "zorder": 4}
            plot_markers(ax, point.assign(x=x), "loss", marked, "x", way)
            size, batch = point["model_size"].iloc[0], point["batch_size"].iloc[0]
            name = f"{way}: model {style.number(size)}, B = {batch:,}"
            ax.plot([], [], **shown, label=name)
        base = rows[rows["way"] == BASE]
        ax.errorbar(base["compute"], base["loss"], bars_of(base, "loss"), ls="", color=style.INK)
        start = {"marker": "o", "ms": 8, "color": style.INK, "zorder": 5}
        plot_markers(ax, base, "loss", start, "compute", BASE)
        ax.plot([], [], ls="", **start, label="start: half the compute")
        explain_hollow(ax, rows)
        style.log_axis(ax, "x", "training compute C (FLOPs)")
        shown = [curves["loss"], *(rows[name] for name in ("loss", "loss_low", "loss_high"))]
        style.value_axis(ax, "y", "held-out loss", shown)
        ax.set_xlim(base["compute"].iloc[0] / 8, base["compute"].iloc[0] * 2.6)
        style.legend_below(figure, ax, 2)
    return figure


def twice_lines(study: Study, frames: Frames) -> list[str]:
    """A sentence a group: what twice the compute buys by each way of spending it."""
    lines = []
    for group in study.groups:
        rows = select(frames["twice_the_compute"], group).to_dict("records")
        if rows:
            base, *ways = rows
            outcomes = listed([f"{row['loss']:.3g} with {row['way']}" for row in ways])
            lines.append(
                f"{group_label(group)}: from the loss {base['loss']:.3g} at batch size "
                f"{size_words(base['batch_size'])}, twice the compute leads to {outcomes}"
            )
    return lines


def section(study: Study, frames: Frames) -> Section | None:
    if study.is_about_losses:
        return None
    rows = []
    for group in study.groups:
        ways = select(frames["twice_the_compute"], group)
        for i, way in enumerate(ways.to_dict("records")):
            critical, target = size_words(way["critical_batch_size"]), rounded(way["target_loss"])
            of = f"critical batch size {critical} for loss {target}"
            name = Cell(group_label(group), of, is_text=True, rows=len(ways))
            rows.append([*([] if i else [name]), *_cells(way, ways["loss"].min())])
    if not rows:
        return None
    head = ["from", "way", "model size", "batch size", "steps", "FLOPs", "learning rate"]
    return Section(
        "twice",
        "Twice the compute",
        [
            "More steps, a larger batch or a larger model? From a batch size near the critical "
            "one, each with its best learning rate. Compute is FLOPs of an example times batch "
            f"size times steps, {study.flops_counted}; the larger model is the one whose FLOPs are "
            "nearest to twice those of the first."
        ],
        Table([*head, "held-out loss", ""], rows),
    )


def _cells(way: Mapping[Any, Any], least: float) -> list[Cell]:
    lowest = way["loss"] == least
    return [
        Cell(way["way"], is_text=True),
        Cell(size_words(way["model_size"])),
        Cell(size_words(way["batch_size"])),
        Cell(rounded(way["steps"])),
        Cell(f"{way['compute']:.3g}"),
        Cell(rounded(way["lr"]) + (" (edge)" if way["lr_at_edge"] else "")),
        Cell(f"{way['loss']:.4g}", between(way["loss_low"], way["loss_high"]), is_strong=lowest),
        Cell("lowest" if lowest else "", is_text=True),
    ]


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    frame = twice_the_compute(study.families, study.fits, study.n_bootstrap, study.seed)
    return {"twice_the_compute": frame}


TOPIC = Topic(
    "twice_the_compute",
    scope="family",
    frames=_frames,
    drawings=drawings,
    section=section,
    quantities={"loss_over_larger_model": loss_over_larger_model},
)
