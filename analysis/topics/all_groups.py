"""How do the groups compare? Steps and best learning rates of all of them together, and whether
they lie on one curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import (
    Look,
    explain_hollow,
    look,
    plot_overlaid_lr,
    plot_overlaid_steps,
    plot_points,
)
from analysis.groups import group_label, select
from analysis.study import Study
from analysis.topics.topic import Frames, Part, Topic


def one_curve(study: Study) -> pd.DataFrame:
    """Every group's points in units of its own fit, at the headline's target: where the hyperbola
    holds, all lie on E/E_min = 1 + B/B_crit (McCandlish et al. 2018, arXiv:1812.06162).

    Columns: group.., target_loss, batch_size, relative_batch_size (B/B_crit), relative_examples
    (E/E_min) with the 95 % interval of the steps as relative_examples_low and .._high, hyperbola
    (1 + B/B_crit), identified (else the fit's numbers are not to be relied on); lr, lr_at_edge,
    steps and n_seeds of the point.
    """
    frames = []
    for group in study.groups:
        fit = study.headline(group)
        if fit is None or fit.log_parameters is None:
            continue
        min_steps, min_examples = np.exp(fit.log_parameters)
        rows = study.frontier_of(fit).dropna(subset="steps")
        size = rows["batch_size"]
        relative = rows[[*group, "target_loss", "batch_size", *_TOLD]].assign(
            relative_batch_size=size * min_steps / min_examples,
            relative_examples=rows["steps"] * size / min_examples,
            relative_examples_low=rows["steps_low"] * size / min_examples,
            relative_examples_high=rows["steps_high"] * size / min_examples,
            hyperbola=1 + size * min_steps / min_examples,
            identified=fit.identified,
        )
        frames.append(relative)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def frames(study: Study, _: Frames) -> dict[str, pd.DataFrame]:
    return {"one_curve": one_curve(study)} if _are_compared(study) else {}


def _are_compared(study: Study) -> bool:
    """Groups that differ in model size alone have figures of their own."""
    return len(study.groups) > 1 and len(study.families) > 1


def drawings(part: Part) -> Iterator[Drawing]:
    """S(B) and the best lr of all groups, at the headline's target of each, and their one curve.

    Nothing where groups differ in model size alone, which has figures of its own.
    """
    if len(part.groups) < 2 or not _are_compared(part.study):
        return
    steps = part.frames["steps_by_batch_size"]
    series = []
    for group in part.groups:
        fit = part.study.headline(group)
        if fit is not None:
            rows = select(steps, group | {"target_loss": fit.target_loss})
            series.append((group_label(group), rows, fit))
    if not any(rows["steps"].notna().any() for _, rows, _ in series):
        return
    targets = {fit.target_loss for _, _, fit in series}
    to = f"target {targets.pop():.3g}" if len(targets) == 1 else "each group's own target"
    hollow = "hollow points lie at the edge of the tried learning rates"
    yield Drawing(
        "steps_against_batch_size_of_all",
        f"Steps to {to} against batch size, all groups",
        f"Points with 95 % intervals, fits with their bands; {hollow}. "
        "Upright strokes mark the critical batch sizes.",
        partial(plot_overlaid_steps, series),
        "steps_by_batch_size",
        steps,
    )
    if any(rows["lr"].notna().any() for _, rows, _ in series):
        yield Drawing(
            "best_lr_against_batch_size_of_all",
            f"Best learning rate for {to}, all groups",
            f"Bars are 95 % intervals; {hollow}.",
            partial(plot_overlaid_lr, [(label, rows) for label, rows, _ in series]),
            "best_lr",
            part.frames["best_lr"],
        )
    yield from _draw_one_curve(part)


def _draw_one_curve(part: Part) -> Iterator[Drawing]:
    table = part.frames["one_curve"]
    own = [(group_label(group), select(table, group)) for group in part.groups]
    own = [(label, rows) for label, rows in own if len(rows)]
    if len(own) > 1 and any(rows["identified"].any() for _, rows in own):
        yield Drawing(
            "one_curve_of_all",
            "Do all groups lie on one curve?",
            "Examples over the fewest possible, E/E_min, against batch size over the critical one, "
            "B/B_crit: the curve is 1 + B/B_crit. Each group's two numbers are fitted to its own "
            "points, so that only the shape is tested. Bars are 95 % intervals of the steps. "
            "Pale points are of groups whose critical batch size is not identified; hollow ones "
            "lie at the edge of the tried learning rates.",
            partial(plot_one_curve, own),
            "one_curve",
            table,
        )


def plot_one_curve(series: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """E/E_min against B/B_crit of each group on the curve 1 + B/B_crit.

    series: (label, rows of `one_curve`). Pale: not identified; hollow: best lr at the grid's edge.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.6)
        sizes = pd.concat([rows["relative_batch_size"] for _, rows in series])
        dense = np.geomspace(sizes.min() / 1.3, sizes.max() * 1.3, 200)
        ax.plot(dense, 1 + dense, color=style.INK, lw=1.2, zorder=1, label=_CURVE)
        ax.axvline(1.0, color=style.MUTED, lw=0.8, ls=style.LINES[2], zorder=1)
        for i, (label, rows) in enumerate(series):
            known = bool(rows["identified"].all())
            shown: Look = look(i, style.target_colors(len(series))[i]) | {"ls": ""}
            # outlined, as a pale colour would be lost in grey; what is not identified is pale
            shown |= {"mec": style.INK, "mew": 0.5} if known else {"alpha": 0.4}
            plot_points(ax, rows, "relative_examples", shown, "relative_batch_size", label)
            name = style.plain_text(label if known else f"{label} (not identified)")
            ax.plot([], [], **shown, label=name)
        explain_hollow(ax, *(rows for _, rows in series))
        style.log_axis(ax, "x", r"batch size over the critical one, $B / B_\mathrm{crit}$")
        style.log_axis(ax, "y", r"examples over the fewest, $E / E_\mathrm{min}$")
        style.legend_below(figure, ax)
    return figure


_TOLD = ["lr", "lr_at_edge", "steps", "steps_low", "steps_high", "n_seeds"]
_CURVE = r"$1 + B / B_\mathrm{crit}$"
TOPIC = Topic("all_groups", scope="all_groups", frames=frames, drawings=drawings)
