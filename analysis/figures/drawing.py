"""A figure with its words and its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.words import USUAL, Units


@dataclass
class Drawing:
    """A figure with what belongs to it; `folded`: a further one of its kind, shown on demand.

    plot: draws the figure, when it is first asked for. group: label of the group it speaks of; ""
    for what speaks of all. of: that group, or the family of groups, whose label ends the name;
    kind: the name without it. units: of the examples that its axes count.
    """

    name: str
    title: str
    caption: str
    plot: Callable[[], Figure]
    table_name: str
    table: pd.DataFrame
    folded: bool = False
    group: str = ""
    of: Mapping[str, Any] = field(default_factory=dict)
    kind: str = field(init=False)
    units: Units = USUAL

    def __post_init__(self) -> None:
        self.kind = self.name

    @cached_property
    def figure(self) -> Figure:
        return self.new_figure()

    def new_figure(self) -> Figure:
        figure = self.plot()
        for ax in figure.axes if self.units != USUAL else ():
            ax.set(xlabel=self.units.axis(ax.get_xlabel()), ylabel=self.units.axis(ax.get_ylabel()))
        return figure

    def own_figure(self) -> Figure:
        """A figure that is the caller's to change.

        The size of its tick labels is a number: as "medium" it would follow the caller's font.size,
        and with it how many ticks fit.
        """
        figure = self.new_figure()
        for ax in figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                [tick] = axis.get_major_ticks(1)
                axis.set_tick_params(labelsize=tick.label1.get_fontsize())
        return figure
