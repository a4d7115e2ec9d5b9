"""A figure with its words and its table."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass
class Drawing:
    """A figure with what belongs to it; `folded`: a further one of its kind, shown on demand.

    group: label of the group it speaks of; "" for what speaks of all.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    table_name: str
    table: pd.DataFrame
    folded: bool = False
    group: str = ""
