"""Looks of the figures: for the screen and for print, chosen by figures.style=..."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from analysis.errors import AnalysisError

SCREEN_WIDTH = 7.2  # inches


@dataclass(frozen=True)
class Look:
    """Width of a figure in inches and, for print, the rc settings of its small text."""

    width: float
    rc: dict[Any, Any] = field(default_factory=dict)
    aspect: float | None = None  # height of the axes' part over the width; None: as the figure says


_PRINT: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "legend.fontsize": 7, "legend.title_fontsize": 7,
    "axes.linewidth": 0.6, "lines.linewidth": 1.1, "lines.markersize": 4,
    "legend.handlelength": 1.8, "legend.columnspacing": 1.2, "legend.labelspacing": 0.3,
}  # fmt: skip
LOOKS = {
    "screen": Look(SCREEN_WIDTH),
    "paper": Look(3.25, _PRINT, 0.85),  # one column of a two-column page
    "paper_wide": Look(6.75, _PRINT, 0.55),  # both columns
}
_look: ContextVar[Look] = ContextVar("look", default=LOOKS["screen"])


@contextmanager
def look(name: str) -> Iterator[None]:
    """Figures drawn and rendered inside have this look, a name of LOOKS."""
    if name not in LOOKS:
        raise AnalysisError(f"figures.style={name}: must be one of {', '.join(LOOKS)}")
    token = _look.set(LOOKS[name])
    try:
        yield
    finally:
        _look.reset(token)


def current() -> Look:
    return _look.get()
