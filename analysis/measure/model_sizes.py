"""Which groups of a study differ in model size alone, and what an example costs in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.bootstrap import FrontierDraws
from analysis.measure.cells import Cell
from analysis.measure.final_losses import SizeLosses
from analysis.measure.step_time import StepTime
from analysis.words import short_number
from scaling.schema import MODEL_SIZE

# What an example costs forward, in multiply-adds, by the first of these that all trials have.
_COSTS = {
    "flops_per_example": (1.0, "as given (flops_per_example)"),
    "connections": (6.0, "6 x the network's connections"),
    "parameters": (6.0, "6 x parameters, as in a network without weight sharing"),
    MODEL_SIZE: (6.0, "6 x model size, a multiply-add for each of it"),
}


@dataclass(frozen=True)
class MeasuredGroup:
    """What was measured of one group, as the topics need it beside the fits.

    floor: irreducible loss; cells: those (batch size, lr) that may be the best of their batch size;
    draws: of its frontier, by batch size, K in the order of targets. model_size and
    flops_per_example are None where not known, or not the same for all trials of the group; time is
    None where no step was timed. final_losses: of each batch size, where runs have one loss each.
    """

    group: dict[str, Any]
    floor: float
    targets: list[float]
    cells: list[Cell]
    draws: dict[int, FrontierDraws]
    model_size: float | None
    flops_per_example: float | None
    frontier: pd.DataFrame = field(default_factory=pd.DataFrame)
    optimizer: str = "sgd"
    time: StepTime | None = None
    final_losses: list[SizeLosses] = field(default_factory=list)

    @property
    def n_seeds(self) -> int:
        """Fewest over the cells; with one seed there is no interval."""
        return min((len(cell.seeds) for cell in self.cells), default=0)


@dataclass(frozen=True)
class Family:
    """Groups that differ in model size alone, by increasing size; `others`: what they share."""

    others: dict[str, Any]
    members: list[MeasuredGroup]

    @property
    def sizes(self) -> NDArray[np.float64]:
        return np.array([member.model_size for member in self.members], float)

    @property
    def labels(self) -> list[str]:
        """Model sizes as they are read; "" where there is only one."""
        several = len(self.members) > 1
        return [short_number(member.model_size or 0) if several else "" for member in self.members]

    @property
    def n_seeds(self) -> int:
        return min((member.n_seeds for member in self.members), default=0)


def families(groups: Sequence[MeasuredGroup]) -> list[Family]:
    """One family for each value of the params that do not measure size.

    A param measures size if it is a number and changing it alone changes model_size. Where a
    group's model size is not known every group is a family of its own.
    """
    names = list(groups[0].group) if groups else []
    sized = all(group.model_size is not None for group in groups)
    others = [name for name in names if not (sized and _measures_size(name, groups))]
    members_of: dict[tuple[Any, ...], list[MeasuredGroup]] = {}
    for group in groups:
        members_of.setdefault(tuple(group.group[name] for name in others), []).append(group)
    return [
        Family(
            dict(zip(others, key, strict=True)),
            sorted(members, key=lambda member: member.model_size or 0.0),
        )
        for key, members in members_of.items()
    ]


def flops_per_example(trials: pd.DataFrame) -> tuple[pd.Series, str]:
    """Training FLOPs of one example, a value a trial (NaN: not known), and how they were counted.

    6 x forward multiply-adds: 2 operations forward, 4 backward. Multiply-adds are taken from the
    first of connections, parameters and model_size that all trials have.
    """
    for name, (times, words) in _COSTS.items():
        if name in trials:
            counts = pd.to_numeric(trials[name], errors="coerce")
            if (counts > 0).all() and np.isfinite(counts).all():
                return times * counts.astype(float), words
    return pd.Series(np.nan, index=trials.index), "not known"


def the_one(values: pd.Series) -> float | None:
    """The value that all have; None if there are several, none, or it is not a positive number."""
    distinct = pd.to_numeric(values, errors="coerce").unique()
    single = len(distinct) == 1 and np.isfinite(distinct[0]) and distinct[0] > 0
    return float(distinct[0]) if single else None


def _measures_size(name: str, groups: Sequence[MeasuredGroup]) -> bool:
    sizes: dict[tuple[Any, ...], set[float | None]] = {}
    for group in groups:
        if not _is_number(group.group[name]):
            return False
        rest = tuple(value for key, value in group.group.items() if key != name)
        sizes.setdefault(rest, set()).add(group.model_size)
    return any(len(model_sizes) > 1 for model_sizes in sizes.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
