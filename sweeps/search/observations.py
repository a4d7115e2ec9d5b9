"""What the search knows of a cell, and what it decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

INTERIOR = "interior"


LOCAL = "interior, of a part of the lr range"


BOUNDED = "bounded by divergence"


RANGE_END = "at the end of the lr range"


NOT_REACHED = "not reached"


ALL_DIVERGED = "everything diverges"


@dataclass(frozen=True)
class SearchOptions:
    """lowest, highest: indices allowed; start: index at which the scan begins.

    seeds: all of them; the first n_search_seeds search. give_up_after: learning rates of
    the first pass, and how many a cell tries without reaching a target, but for those beside the
    one that comes nearest.
    """

    lowest: int
    highest: int
    start: int
    seeds: tuple[int, ...]
    n_search_seeds: int = 1
    cap_factor: float = 2.0
    stride: int = 8
    give_up_after: int = 16


@dataclass(frozen=True)
class Observed:
    """A trial as far as it was trained. ended: more steps would not be trained (it went on for its
    tail, used up its budget, or diverged); else its cap stopped it at last_step."""

    last_step: int
    ended: bool
    diverged: bool = False


@dataclass(frozen=True)
class Reading:
    """The mean of some seeds at one target: outcome, where it crosses, where their window ends.

    shortfall: how far its least loss stays above the target, in any unit. expected_steps: where a
    censored one may cross, by its trend.
    """

    outcome: str
    steps: float = math.inf
    last_step: int = 0
    shortfall: float = math.inf
    expected_steps: float = math.inf


@dataclass(frozen=True)
class CellObservations:
    """trials: by (index, seed). read(index, seeds): a Reading of each target, easiest first, of
    seeds that are all in `trials` and have not diverged. budget: steps that a trial may take."""

    budget: int
    n_targets: int
    trials: Mapping[tuple[int, int], Observed]
    read: Callable[[int, tuple[int, ...]], Sequence[Reading]]


@dataclass(frozen=True)
class TargetState:
    """Where the search stands at one target. index, steps: the best so far, of the seed means where
    all seeds are trained; None where nothing reached it. reason: why it is done; "" while open."""

    index: int | None
    steps: float | None
    reason: str = ""
    n_tried: int = 0


@dataclass(frozen=True)
class Decision:
    """trials: cap in steps by (index, seed), none when the cell is done. states: of each target."""

    trials: dict[tuple[int, int], int]
    states: tuple[TargetState, ...]
