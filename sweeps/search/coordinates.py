"""What was observed -> what to try next, where further hyperparameters are tuned beside lr.

A *point* has one value of each of them, as its place among the swept values in order; every point
that is opened is searched for its best lr by sweeps.search.decide. For every target, from the start
point,

    descend     with the first seeds: both neighbours of the best point along each key, until
                it has no better one. A neighbour's lrs begin around the best lr of the best point
                beside it, and its trials stop at cap_factor times the fewest steps known
    all seeds   at the lowest points (NEAR, N_POINTS), and at those beside the best mean; then
                on from the best mean

Where nothing has reached the target, the point that comes nearest to it is the best; where all
diverge, points are opened outwards. Pure functions of the observations, as decide is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from scaling.schema import REACHED
from sweeps.search.decide import decide
from sweeps.search.gaps import is_whole
from sweeps.search.observations import (
    ALL_DIVERGED,
    INTERIOR,
    LOCAL,
    NOT_REACHED,
    CellObservations,
    SearchOptions,
    TargetState,
)

Point = tuple[int, ...]

NEAR, N_POINTS = 1.1, 3  # points whose first seeds take so many times the fewest steps, at most
WINDOW = 9  # learning rates, one in each stride, with which the lrs of a neighbour begin


@dataclass(frozen=True)
class TunedObservations:
    """shape: how many values each key has; points: what was observed at those that were opened."""

    budget: int
    n_targets: int
    shape: tuple[int, ...]
    start: Point
    points: Mapping[Point, CellObservations]


@dataclass(frozen=True)
class TunedDecision:
    """trials: cap in steps by (point, index, seed). states: of each target, at its best point."""

    trials: dict[tuple[Point, int, int], int]
    states: tuple[TargetState, ...]
    points: tuple[Point, ...]


def decide_tuned(cell: TunedObservations, options: SearchOptions) -> TunedDecision:
    """The next trials of a cell at all its points, or none and why."""
    if math.prod(cell.shape) == 1:
        only = cell.points.get(cell.start) or _nothing(cell)
        decision = decide(only, options)
        trials = {(cell.start, *trial): cap for trial, cap in decision.trials.items()}
        return TunedDecision(trials, decision.states, (cell.start,) * cell.n_targets)
    trials, best = {}, []
    for target in range(cell.n_targets):
        search = _TargetDescent(cell, options, target)
        best.append(search.run())
        for trial, cap in search.trials.items():
            trials[trial] = max(cap, trials.get(trial, 0))
    points, states = zip(*best, strict=True)
    return TunedDecision(dict(sorted(trials.items())), states, points)


@dataclass(frozen=True, order=True)
class _Rank:
    """Fewer steps are better; where none reach the target, what comes nearer to it."""

    steps: float = math.inf
    shortfall: float = math.inf


@dataclass
class _TargetDescent:
    cell: TunedObservations
    options: SearchOptions
    target: int
    trials: dict[tuple[Point, int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seeds = self.options.seeds
        self.first = replace(self.options, seeds=seeds[: self.options.n_search_seeds])

    def run(self) -> tuple[Point, TargetState]:
        explored = self._explore({self.cell.start, *self.cell.points}, {})
        while not self.trials:
            best = min(explored, key=lambda point: (explored[point], point))
            if opened := self._beside(best, explored):
                explored = self._explore(opened, explored)
                continue
            if explored[best].steps == math.inf:
                return best, self._none(best)
            states = self._all_seeds(explored)
            if self.trials:
                return best, replace(states[best], reason="")
            of_means = min(states, key=lambda point: (_steps(states[point]), point))
            if opened := set(self._neighbours(of_means)) - set(explored):
                explored = self._explore(opened, explored)
                continue
            return of_means, self._described(of_means, states[of_means])
        best = min(explored, key=lambda point: (explored[point], point), default=self.cell.start)
        index, steps = self._least(best, self.first)
        return best, TargetState(index, steps, "", self._n_tried())

    def _explore(
        self, opened: Iterable[Point], explored: Mapping[Point, _Rank]
    ) -> dict[Point, _Rank]:
        """The rank of every point by the first seeds, after asking for what it still requires."""
        for point in sorted(opened):
            self._search(point, self.first)
        ranks = {point: self._rank(point) for point in opened}
        return {**explored, **ranks}

    def _search(self, point: Point, options: SearchOptions) -> TargetState:
        least = min((self._least(one, options)[1] or math.inf for one in self.cell.points),
                    default=math.inf)  # fmt: skip
        budget = self.cell.budget
        if math.isfinite(least):
            budget = min(budget, math.ceil(options.cap_factor * least))
        decision = decide(self._view(point, budget), self._around(point, options))
        for trial, cap in decision.trials.items():
            key = (point, *trial)
            self.trials[key] = max(cap, self.trials.get(key, 0))
        return decision.states[0]

    def _view(self, point: Point, budget: int) -> CellObservations:
        """A point at this target alone, with trials that are as long as `budget` at their end."""
        observed = self._observed(point)
        trials = {
            trial: one if one.ended or one.last_step < budget else replace(one, ended=True)
            for trial, one in observed.trials.items()
        }
        return CellObservations(
            budget, 1, trials, lambda index, seeds: [observed.read(index, seeds)[self.target]]
        )

    def _observed(self, point: Point) -> CellObservations:
        return self.cell.points.get(point) or _nothing(self.cell)

    def _around(self, point: Point, options: SearchOptions) -> SearchOptions:
        """The lrs of a point begin around the best one of the best point beside it."""
        if point == self.cell.start:
            return options
        index = self._nearest_end(point)
        if index is None:
            beside = [self._least(one, self.first) for one in self._neighbours(point)]
            index, _ = min(beside, key=lambda one: one[1] or math.inf)
        if index is None:
            return options
        stride = options.stride
        start = options.start + stride * round((index - options.start) / stride)
        while start > options.highest:
            start -= stride
        while start < options.lowest:
            start += stride
        if not options.lowest <= start <= options.highest:
            return options
        return replace(options, start=start, give_up_after=min(WINDOW, options.give_up_after))

    def _nearest_end(self, point: Point) -> int | None:
        """The end of the lrs tried at a point, where that comes nearest to a target that none of
        them reaches: the best may lie beyond."""
        readings = dict(self._readings(point, self.first))
        if not readings or any(one.outcome == REACHED for one in readings.values()):
            return None
        nearest = min(readings, key=lambda index: (readings[index].shortfall, index))
        tried = [index for index, _ in self._observed(point).trials]
        return nearest if nearest in (min(tried), max(tried)) else None

    def _least(self, point: Point, options: SearchOptions) -> tuple[int | None, float | None]:
        """Best index and its steps of a point, where all these seeds are trained."""
        steps = {
            index: reading.steps
            for index, reading in self._readings(point, options)
            if reading.outcome == REACHED
        }
        best = min(steps, key=lambda index: (steps[index], index), default=None)
        return best, None if best is None else steps[best]

    def _readings(self, point: Point, options: SearchOptions) -> Iterator:
        observed = self._observed(point)
        for index in sorted({index for index, _ in observed.trials}):
            known = [observed.trials.get((index, seed)) for seed in options.seeds]
            if all(one is not None and not one.diverged for one in known):
                yield index, observed.read(index, options.seeds)[self.target]

    def _rank(self, point: Point) -> _Rank:
        readings = [reading for _, reading in self._readings(point, self.first)]
        steps = (one.steps for one in readings if one.outcome == REACHED)
        shortfalls = (one.shortfall for one in readings if one.outcome != REACHED)
        least = min(steps, default=math.inf)
        return _Rank(least, 0.0 if least < math.inf else min(shortfalls, default=math.inf))

    def _neighbours(self, point: Point) -> list[Point]:
        """One place down and up along each key."""
        moved = (
            (*point[:key], point[key] + side, *point[key + 1 :])
            for key in range(len(point))
            for side in (-1, 1)
        )
        shape = self.cell.shape
        return [one for one in moved if all(0 <= i < n for i, n in zip(one, shape, strict=True))]

    def _beside(self, best: Point, explored: Mapping[Point, _Rank]) -> set[Point]:
        """Neighbours to open: of the best point, or of all where every one diverges."""
        centres = explored if explored[best] == _Rank() else [best]
        return {one for centre in centres for one in self._neighbours(centre)} - set(explored)

    def _all_seeds(self, explored: Mapping[Point, _Rank]) -> dict[Point, TargetState]:
        """The states of the lowest points, by all seeds."""
        fewest = min(explored.values()).steps
        near = {point: rank for point, rank in explored.items() if rank.steps <= NEAR * fewest}
        lowest = sorted(near, key=lambda point: (near[point], point))[:N_POINTS]
        states = {point: self._search(point, self.options) for point in lowest}
        best = min(states, key=lambda point: (_steps(states[point]), point))
        beside = [point for point in self._neighbours(best) if point in near]
        return states | {point: self._search(point, self.options) for point in beside}

    def _described(self, point: Point, state: TargetState) -> TargetState:
        reason = state.reason or NOT_REACHED
        if reason == LOCAL and self._is_whole(point):
            reason = INTERIOR
        return replace(state, reason=reason, n_tried=self._n_tried())

    def _is_whole(self, point: Point) -> bool:
        """The lrs of all points together leave out no part of the range."""
        trials = self._observed(point).trials
        diverged = {index for (index, _), one in trials.items() if one.diverged}
        everywhere = (of.trials for of in self.cell.points.values())
        tried = {index for trials in everywhere for index, _ in trials}
        return is_whole(tried, diverged, self.options)

    def _none(self, best: Point) -> TargetState:
        everything = (one for of in self.cell.points.values() for one in of.trials.values())
        reason = ALL_DIVERGED if all(one.diverged for one in everything) else NOT_REACHED
        return TargetState(None, None, reason, self._n_tried())

    def _n_tried(self) -> int:
        """Settings: learning rates of all points."""
        return sum(len({index for index, _ in of.trials}) for of in self.cell.points.values())


def _nothing(cell: TunedObservations) -> CellObservations:
    return CellObservations(cell.budget, cell.n_targets, {}, lambda index, seeds: ())


def _steps(state: TargetState) -> float:
    return math.inf if state.steps is None or not state.reason else state.steps
