"""A figure with its words and its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure


@dataclass
class Drawing:
    """A figure with what belongs to it; `folded`: a further one of its kind, shown on demand.

    plot: draws the figure, when it is first asked for. group: label of the group it speaks of; ""
    for what speaks of all.
    """

    name: str
    title: str
    caption: str
    plot: Callable[[], Figure]
    table_name: str
    table: pd.DataFrame
    folded: bool = False
    group: str = ""

    @cached_property
    def figure(self) -> Figure:
        return self.plot()
