"""Tooltips: what a table says of each point or cell of a figure, where one points at it.

A figure's drawing calls `tell` with the rows behind its points; `written_into` puts a transparent
mark with a title over each of them into the figure's SVG. PNG and PDF do not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.words import between, bracketed, rounded, size_words
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED

_REACH = 6.0  # radius in points within which a point is pointed at
_CELL = 0.5  # from the middle of a cell of a heat map to its sides
_SAID = {  # columns of the tables -> their words, in the order of a tooltip
    "model_size": "model size", "batch_size": "batch size", "target_loss": "target loss",
    "lr": "learning rate", "step": "step", "steps": "steps", "examples": "examples",
    "seconds": "seconds to target", "step_seconds": "seconds per step", "compute": "FLOPs",
    "loss": "held-out loss", "relative_batch_size": "B / B_crit",
    "relative_examples": "E / E_min", "log_residual": "residual of log S",
    "noise_scale": "noise scale", "min_examples/min_steps": "critical batch size",
    "round": "round", "n_seeds": "seeds",
}  # fmt: skip
_PLAIN = {'"': "&quot;", "#": "&#35;"}  # no attribute, reference or colour for who searches the SVG
_OUTCOMES = {
    CENSORED: "not reached in its budget",
    DIVERGED: "diverged",
    LEFT_CENSORED: "met at or before the first evaluation",
}


class Tooltips(Artist):
    """Words at places of the axes, in data coordinates; draws nothing itself.

    words [n] belong to the places x, y [n], the middles of cells if is_cell.
    """

    def __init__(self, x: Any, y: Any, words: Sequence[str], is_cell: bool) -> None:
        super().__init__()
        self.places = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
        self.words, self.is_cell = words, is_cell
        self.set_in_layout(False)

    def shapes(self, to_svg: float, height: float) -> Iterator[tuple[str, str]]:
        """SVG shape and words of each place that the axes show; to_svg: points a pixel."""
        assert isinstance(self.axes, Axes)
        inside = self.axes.get_window_extent().padded(1.0)
        for place, words in zip(self.places, self.words, strict=True):
            x, y = self._pixels(place)
            if np.isfinite([x, y]).all() and inside.contains(x, y):
                ends = np.add(place, [[0, 0], [-_CELL, _CELL], [_CELL, -_CELL]])
                yield self._shape(self._pixels(ends) * [to_svg, -to_svg] + [0, height]), words

    def _pixels(self, places: NDArray) -> NDArray:
        assert isinstance(self.axes, Axes)
        return np.asarray(self.axes.transData.transform(places))

    def _shape(self, ends: NDArray) -> str:
        """ends [3, 2]: the middle, the upper left and the lower right corner, in SVG's points."""
        (x, y), (left, top), (right, bottom) = ends
        if not self.is_cell:
            return f'circle cx="{x:.1f}" cy="{y:.1f}" r="{_REACH:g}"'
        size = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
        return f'rect x="{left:.1f}" y="{top:.1f}" {size}'


def tell(
    ax: Axes, rows: pd.DataFrame, x: Any, y: Any, label: str = "", *, is_cell: bool = False,
    also: Mapping[str, str] | None = None, interval_of: str = "",
) -> None:  # fmt: skip
    """Every row at (x, y) says what is known of it: batch size, lr, steps, interval, seeds, ..

    x, y: names of columns, or values [n] where points stand elsewhere. label: of their series.
    also: further columns to tell, and their words. Ends of intervals are in <column>_low, _high;
    those of interval_of in low, high.
    """
    across, up = (rows[at] if isinstance(at, str) else at for at in (x, y))
    said = {**_SAID, **(also or {})}
    if interval_of:
        rows = rows.rename(columns={end: f"{interval_of}_{end}" for end in ("low", "high")})
    words = [_row_words(row, label, said) for row in rows.to_dict("records")]
    ax.add_artist(Tooltips(across, up, words, is_cell))


def _row_words(row: Mapping[Any, Any], label: str, said: Mapping[str, str]) -> str:
    lines = [label] if label else []
    for column, name in said.items():
        value = _value_words(row, column)
        if value and not (column == "target_loss" and row[column] == 0):  # a table may not say it
            lines.append(f"{name}: {value}")
    if _is_at_edge(row) and pd.notna(row.get("lr")):
        lines.append(HOLLOW)
    return "\n".join([*lines, *filter(None, [_OUTCOMES.get(row.get("outcome", ""))])])


HOLLOW = "best lr at the edge of those tried"


def _is_at_edge(row: Mapping[Any, Any]) -> bool:
    edge = row.get("lr_at_edge", False)
    return bool(pd.notna(edge) and edge)


def _value_words(row: Mapping[Any, Any], column: str) -> str:
    """ "113 (95 to 130)", or what is known on one side: "at least 400"."""
    value, low, high = (row.get(f"{column}{end}") for end in ("", "_low", "_high"))
    if value is None or pd.isna(value):
        lower = row.get(f"{column}_lower") if row.get("outcome") == CENSORED else None
        upper = row.get(f"{column}_upper") if row.get("outcome") == LEFT_CENSORED else None
        return between(lower, upper)
    exact = column in ("batch_size", "model_size", "steps", "step", "examples")
    return (size_words if exact else rounded)(value) + bracketed(between(low, high))


def written_into(svg: bytes, figure: Figure) -> bytes:
    """The figure's SVG with its tooltips on top; as it is where it has none."""
    to_svg = 72 / figure.dpi
    marks = [
        f"<{shape}><title>{escape(words, _PLAIN)}</title></{shape.split()[0]}>"
        for tooltips in figure.findobj(Tooltips)
        if isinstance(tooltips, Tooltips)
        for shape, words in tooltips.shapes(to_svg, figure.bbox.height * to_svg)
    ]
    if not marks:
        return svg
    group = f'<g class="tooltips" fill="none" pointer-events="all">{"".join(marks)}</g>\n'
    before, end, after = svg.rpartition(b"</svg>")
    return before + group.encode() + end + after
