"""A figure with its words and its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import house_style


@dataclass
class Drawing:
    """A figure with what belongs to it; `folded`: a further one of its kind, shown on demand.

    plot: draws the figure, when it is first asked for. group: label of the group it speaks of; ""
    for what speaks of all. of: that group, or the family of groups, whose label ends the name;
    kind: the name without it.
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

    def __post_init__(self) -> None:
        self.kind = self.name

    @cached_property
    def figure(self) -> Figure:
        return self.plot()

    def own_figure(self) -> Figure:
        """A figure that is the caller's to change.

        Its ticks and grid are made here: matplotlib makes them when it first draws, and would take
        the caller's settings for them. It is laid out later, once: twice would move it a little.
        """
        figure = self.plot()
        engine = figure.get_layout_engine()
        with house_style():
            figure.set_layout_engine(None)
            figure.draw_without_rendering()
        figure.set_layout_engine(engine)
        return figure
