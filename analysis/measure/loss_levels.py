"""Target losses chosen from tables of final losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.measure.final_losses import SizeLosses

_N_LEVELS = 3
_MOST = 0.8  # of the batch sizes that any level is read at, as many as a chosen one is
_CANDIDATES = 200
_DIGITS = 4


def choose_levels(groups: Sequence[Sequence[SizeLosses]]) -> list[list[float]]:
    """Up to three targets for each group, largest first; the same for all where there are such.

    A level is read at a batch size if its shortest runs end above it and its longest below. Chosen
    are three levels, evenly spaced, among those that (of each group, else of its own) are read at
    80 % or more of the batch sizes that any level is read at. A group whose levels are read at no
    batch size has none.
    """
    least = min((float(s.loss.min()) for sizes in groups for s in sizes), default=0.0)
    most = max((float(s.loss.max()) for sizes in groups for s in sizes), default=1.0)
    if not least < most:
        return [[] for _ in groups]
    levels = np.linspace(least, most, _CANDIDATES + 2)[1:-1]
    counts = [np.array([_read_at(sizes, level) for level in levels]) for sizes in groups]
    shared = np.logical_and.reduce([_good(count) for count in counts])
    if shared.any():
        return [_spaced(levels, shared)] * len(groups)
    return [_spaced(levels, _good(count)) for count in counts]


def levels_sentence(targets: Sequence[Sequence[float]]) -> str:
    """How they were chosen, in words."""
    own = len({tuple(levels) for levels in targets}) > 1
    first = ", ".join(f"{target:g}" for target in targets[0])
    named = "each group has its own targets" if own else f"{first} were chosen"
    return (
        f"No target was named, so {named}: losses that most batch sizes reach between their "
        "shortest and longest runs. Choose others with targets=[...]."
    )


def _read_at(sizes: Sequence[SizeLosses], level: float) -> int:
    return sum(read_at(losses, level) for losses in sizes)


def read_at(losses: SizeLosses, level: float) -> bool:
    """Whether the shortest runs end above the level and the longest at or below it."""
    return bool(losses.loss[0] > level >= losses.loss[-1])


def _good(count: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (count >= _MOST * count.max()) & (count > 0)


def _spaced(levels: NDArray[np.float64], good: NDArray[np.bool_]) -> list[float]:
    """Of the longest stretch of good levels the quarters, rounded; one where they agree."""
    if not good.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(int), [0]])))
    begin, end = max(edges.reshape(-1, 2), key=lambda pair: pair[1] - pair[0])
    low, high = levels[begin], levels[end - 1]
    shares = np.arange(1, _N_LEVELS + 1) / (_N_LEVELS + 1)
    chosen = {_rounded(high + share * (low - high)) for share in shares}
    return sorted(chosen, reverse=True)


def _rounded(level: float) -> float:
    digits = _DIGITS - 1 - math.floor(math.log10(abs(level))) if level else 0
    return float(round(level, digits))
