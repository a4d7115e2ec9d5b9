"""Where a constant learning rate settles on a stream by theory, up to the stability limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.study import Study
from analysis.theory.trials import Streaming, theory_of
from analysis.topics.topic import Part, Topic

_MOST_SIZES = 8  # lines of a figure
_POINTS, _SPAN = 60, 1e3  # lrs of a batch size: from 1/_SPAN of the limit to as near below it


def noise_floor_frame(study: Study) -> pd.DataFrame:
    """group.., batch_size, lr, noise_floor (excess loss) of every stream with an exact theory.

    No rows for streams without label noise: they have no floor.
    """
    shares = 1 / (1 + np.geomspace(_SPAN, 1 / _SPAN, _POINTS))
    rows = []
    keys = [*study.group_by, "batch_size"]
    for group, trials in _groups(study):
        theory = theory_of(trials)
        if not isinstance(theory, Streaming) or not theory.problem.label_noise:
            continue
        for size in sorted(trials["batch_size"].unique()):
            limit = theory.stable_lr(int(size))
            rows += [
                group | {"batch_size": size, "lr": lr, "noise_floor": theory.floor(int(size), lr)}
                for lr in (limit * shares).tolist()
            ]
    return pd.DataFrame(rows, columns=[*keys, "lr", "noise_floor"])


def _groups(study: Study):
    known = study.trials if len(study.stability) else study.trials.iloc[:0]
    if not study.group_by:
        return [({}, known)] if len(known) else []
    return [
        (dict(zip(study.group_by, key, strict=True)), rows)
        for key, rows in known.groupby(study.group_by, sort=False)
    ]


def drawings(part: Part) -> Iterator[Drawing]:
    floors = part.frames["noise_floor"]
    if len(floors):
        yield Drawing(
            "noise_floor",
            "Noise floor against learning rate",
            "The expected loss at which a constant learning rate settles, by the exact theory; it "
            "grows without bound towards the largest stable learning rate (upright strokes). A "
            "target (dotted) below the floor stays out of reach, however long the training.",
            partial(plot_noise_floor, floors, part.frames["stability"], part.targets),
            "noise_floor",
            floors,
        )


def plot_noise_floor(
    floors: pd.DataFrame, stability: pd.DataFrame, targets: Sequence[float]
) -> Figure:
    """floors: batch_size, lr, noise_floor; stability: batch_size, largest_stable_lr; one group."""
    with style.house_style():
        figure, ax = style.new_axes()
        sizes = style.thinned(sorted(floors["batch_size"].unique()), _MOST_SIZES)
        limits = stability.set_index("batch_size")["largest_stable_lr"].to_dict()
        for size, color in zip(sizes, style.ordered_colors(len(sizes)), strict=True):
            rows = floors[floors["batch_size"] == size]
            ax.plot(rows["lr"], rows["noise_floor"], color=color, label=f"B = {style.number(size)}")
            ax.axvline(limits[size], color=color, lw=0.9, ls=(0, (4, 3)))
        for target in targets:
            ax.axhline(target, color=style.MUTED, lw=0.9, ls=(0, (1, 1.4)))
        style.log_axis(ax, "x", "learning rate")
        ax.set_yscale("log")
        ax.set_ylabel("excess loss where it settles")
        style.legend_below(figure, ax, 4)
    return figure


TOPIC = Topic(
    "noise_floor",
    scope="group",
    frames=lambda study, _: {"noise_floor": noise_floor_frame(study)},
    drawings=drawings,
)
