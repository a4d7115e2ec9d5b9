"""How far an L2 penalty and decoupled weight decay come apart along the run."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.study import StudyResult
from analysis.topics.weight_decay import EQUAL, PAIR, WITH_MOMENTUM, weight_decay_gaps


def draw_weight_decay(result: StudyResult) -> Iterator[Drawing]:
    """Nothing where no two trials differ in how their weights decay."""
    gaps = weight_decay_gaps(result)
    if not (gaps["gap"] > 0).any():
        return
    largest = int(gaps["batch_size"].max())
    yield Drawing(
        "weight_decay_gap",
        f"L2 penalty against decoupled weight decay, batch size {largest:,}",
        "Distance between the weights of two trials that see the same batches, one with the "
        "penalty λ~|w|², one with w ← (1 - λ)w, over the greatest length of the former. A line a "
        "pair. Rounding alone is left of sgd; of momentum with 1/(1 - μ) the path differs and the "
        "end does not. Gaps of 0 are left out.",
        plot_weight_decay_gap(gaps[gaps["batch_size"] == largest]),
        "weight_decay_gaps",
        gaps,
    )


def plot_weight_decay_gap(gaps: pd.DataFrame) -> Figure:
    """gaps: weight_decay_gaps of one batch size."""
    moved = gaps[(gaps["decay"] == WITH_MOMENTUM) & (gaps["optimizer"] == "momentum")]
    shown = pd.concat([gaps[gaps["decay"] == EQUAL], moved])
    shown = shown[(shown["gap"] > 0) & (shown["step"] > 0)]
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        kinds = list(shown.groupby(["optimizer", "decay"], sort=False))
        colors = style.target_colors(len(kinds))
        for i, (((optimizer, decay), rows), color) in enumerate(zip(kinds, colors, strict=True)):
            label = f"{optimizer}, λ = {decay}"
            for _, pair in rows.groupby(PAIR):
                ax.plot(
                    pair["step"], pair["gap"], color=color, lw=1.2, label=label,
                    ls=style.LINES[i % len(style.LINES)],
                )  # fmt: skip
                label = None
        style.log_axis(ax, "x", "steps (optimizer updates)")
        ax.set_yscale("log")
        ax.set_ylabel("distance of the weights / greatest length")
        style.legend_below(figure, ax, 2)
    return figure
