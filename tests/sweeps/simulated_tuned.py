"""Cells in which more than lr is tuned, whose every trial is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.search.coordinates import Point, TunedDecision, TunedObservations, decide_tuned
from sweeps.search.observations import SearchOptions
from tests.sweeps.simulated_cells import SimulatedCell


@dataclass
class SimulatedTuned:
    """at: the cell of every point, with all its trials. opened: those that a search has tried."""

    at: Mapping[Point, SimulatedCell]
    start: Point
    opened: set[Point] = field(default_factory=set)

    @property
    def trained_steps(self) -> int:
        return sum(cell.trained_steps for cell in self.at.values())

    @property
    def observations(self) -> TunedObservations:
        known = self.at[self.start].known
        shape = tuple(1 + max(places) for places in zip(*self.at, strict=True))
        points = {point: self.at[point].known.observations for point in sorted(self.opened)}
        return TunedObservations(known.budget, len(known.targets), shape, self.start, points)

    def train(self, trial: tuple[Point, int, int], cap: int) -> None:
        point, index, seed = trial
        self.opened.add(point)
        self.at[point].train((index, seed), cap)


def search_tuned(
    cells: Sequence[SimulatedTuned], options: SearchOptions
) -> tuple[list[TunedDecision], int]:
    """Rounds until every cell is done: the last decision of each, and the rounds."""
    rounds = 0
    while True:
        decisions = [decide_tuned(cell.observations, options) for cell in cells]
        if not any(decision.trials for decision in decisions):
            return decisions, rounds
        rounds += 1
        for cell, decision in zip(cells, decisions, strict=True):
            for trial, cap in decision.trials.items():
                cell.train(trial, cap)
