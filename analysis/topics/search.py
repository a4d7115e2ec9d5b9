"""How did the search decide? What it tried, round by round."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.tooltips import tell
from analysis.study import Study
from analysis.topics.topic import Part, Topic
from scaling.schema import DIVERGED, ROUND

_ONE_SEED, _SEVERAL = 26, 78  # areas of markers
_LINES = ("-", "--", ":", "-.")
SEARCH_COLUMNS = ["batch_size", "lr", ROUND, "n_seeds", "n_diverged", "last_step"]


def search_frame(study: Study) -> pd.DataFrame:
    """A row a group, batch size and setting: the round that asked for it first, and what it got.

    Columns: group.., SEARCH_COLUMNS (last_step: of its longest trial), after lr what else is tuned.
    No rows where no trial has a round: the grid was given.
    """
    others, trials = study.tuned[1:], study.trials
    keys = [*study.group_by, "batch_size", "lr", *others]
    columns = [*study.group_by, *SEARCH_COLUMNS[:2], *others, *SEARCH_COLUMNS[2:]]
    if ROUND not in trials or trials[ROUND].isna().all():
        return pd.DataFrame(columns=pd.Index(columns))
    frame = trials.groupby(keys, dropna=False, as_index=False).agg(
        round=(ROUND, "min"), n_seeds=("seed", "nunique"), last_step=("last_step", "max"),
        n_diverged=("outcome", lambda of: int((of == DIVERGED).sum())),
    )  # fmt: skip
    return frame.astype({ROUND: "Int64"})[columns]


def drawings(part: Part) -> Iterator[Drawing]:
    search = part.frames["search"]
    if len(search) and part.frames["steps_by_lr"]["lr"].notna().any():
        yield Drawing(
            "search",
            "How the sweep decided",
            "Every learning rate that the search tried, and in which round: first wide apart with "
            "few seeds, then ever closer around the best, there with all seeds. Only those with "
            "all seeds are compared.",
            partial(plot_search, search, part.frames["steps_by_batch_size"]),
            "search",
            search,
        )


def plot_search(search: pd.DataFrame, frontier: pd.DataFrame) -> Figure:
    """Trials over batch size and lr, dark to light by round; lines follow the best lrs.

    search: search.search_frame of one group; frontier: of the same. Small marks were tried with few
    seeds, large ones with the most; crosses diverged.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.4)
        rounds = search[ROUND].to_numpy(int)
        n = int(rounds.max())
        colors = ListedColormap(style.ordered_colors(n))
        shade: dict[str, Any] = {
            "cmap": colors,
            "norm": BoundaryNorm(np.arange(0.5, n + 1), n) if n > 1 else None,
        }
        most = search.groupby("batch_size")["n_seeds"].transform("max")
        whole = (search["n_seeds"] == most).to_numpy()
        diverged = (search["n_diverged"] > 0).to_numpy()
        for where, marker, size in (
            (~diverged & ~whole, "o", _ONE_SEED),
            (~diverged & whole, "o", _SEVERAL),
            (diverged, "x", _ONE_SEED),
        ):
            rows = search[where]
            edges = {} if marker == "x" else {"edgecolors": "white", "linewidths": 0.5}
            drawn = ax.scatter(
                rows["batch_size"], rows["lr"], s=size, c=rounds[where], marker=marker, zorder=3,
                **edges, **shade,
            )  # fmt: skip
        tell(ax, search, "batch_size", "lr", also={"n_diverged": "diverged", "last_step": "steps"})
        _plot_best(ax, frontier)
        style.batch_size_axis(ax, search["batch_size"])
        style.log_axis(ax, "y", "learning rate")
        if n > 1:
            shown = style.thinned(range(1, n + 1), 12)
            bar = figure.colorbar(drawn, ax=ax, label="round", pad=0.02, ticks=shown)
            bar.ax.minorticks_off()
            bar.outline.set_visible(False)  # type: ignore[operator]
        handles, _ = ax.get_legend_handles_labels()
        handles = [*_legend(bool(diverged.any()), bool((~whole).any())), *handles]
        style.figure_legend(figure, handles, [str(h.get_label()) for h in handles], 3)
    return figure


def _plot_best(ax: Any, frontier: pd.DataFrame) -> None:
    """A line through the best lrs of each target, the easiest first."""
    known = frontier[frontier["lr"].notna()]
    for i, target in enumerate(sorted(known["target_loss"].unique(), reverse=True)):
        rows = known[known["target_loss"] == target].sort_values("batch_size")
        label = f"best lr, target {target:.3g}"
        ax.plot(
            rows["batch_size"], rows["lr"], color=style.INK, lw=0.9, ls=_LINES[i % 4], label=label,
            zorder=2,
        )  # fmt: skip


def _legend(diverged: bool, few: bool) -> list[Line2D]:
    def mark(label: str, marker: str, area: float) -> Line2D:
        grey = "#6b6b6b"
        return Line2D([], [], ls="", marker=marker, ms=area**0.5, color=grey, label=label)

    handles = [mark("with all seeds", "o", _SEVERAL)]
    handles += [mark("with the searching seeds", "o", _ONE_SEED)] if few else []
    return handles + ([mark("diverged", "x", _ONE_SEED)] if diverged else [])


TOPIC = Topic(
    "search",
    scope="group",
    frames=lambda study, _: {"search": search_frame(study)},
    drawings=drawings,
)
