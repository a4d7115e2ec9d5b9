"""Cells whose every trial is known beforehand: what a search would train is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scaling.schema import REACHED
from sweeps.search.cells import CellCurves
from sweeps.search.decide import decide
from sweeps.search.observations import Decision, Observed, SearchOptions, TargetState

Floats = NDArray[np.float64]


@dataclass
class SimulatedCell:
    """curves[index, seed] [T]: losses at `steps`, NaN from divergence on; the last is the budget.

    A trial ends as scaling.outcome has it. asked: every (trial, cap); trained_steps: what they
    cost; a trial goes on from where its cap stopped it.
    """

    steps: NDArray[np.int64]
    curves: Mapping[tuple[int, int], Floats]
    targets: tuple[float, ...]
    tail_factor: float = 2.0
    asked: list[tuple[tuple[int, int], int]] = field(default_factory=list)
    trained_steps: int = 0

    def __post_init__(self) -> None:
        self.known = CellCurves(self.targets, 0.0, int(self.steps[-1]))

    def train(self, trial: tuple[int, int], cap: int) -> None:
        self.asked.append((trial, cap))
        before = self.known.trials.get(trial)
        observed, length, cost = self.outcome(trial, cap)
        self.trained_steps += cost - (0 if before is None else before.last_step)
        curve = (self.steps[:length].tolist(), self.curves[trial][:length].tolist())
        self.known.take(*trial, observed, curve)

    def outcome(self, trial: tuple[int, int], cap: float) -> tuple[Observed, int, int]:
        """What comes of a trial, its evaluations, and the steps that it takes."""
        loss = self.curves[trial]
        finite = int(np.isnan(loss).argmax()) if np.isnan(loss).any() else len(loss)
        touched = np.flatnonzero(loss[:finite] <= self.targets[-1])
        tail = self.tail_factor * self.steps[touched[0]] if len(touched) else np.inf
        end = int(np.searchsorted(self.steps, min(tail, cap, self.steps[-1]))) + 1
        if end > finite:
            observed = Observed(int(self.steps[finite - 1]), True, not len(touched))
            return observed, finite, int(self.steps[finite])
        last = int(self.steps[end - 1])
        return Observed(last, bool(last >= min(tail, self.steps[-1]))), end, last


def search(
    cells: Sequence[SimulatedCell], options: SearchOptions
) -> tuple[list[tuple[TargetState, ...]], int]:
    """Rounds until every cell is done: the targets' states of each cell, and the rounds."""
    rounds = 0
    while True:
        decisions: list[Decision] = [decide(cell.known.observations, options) for cell in cells]
        if not any(decision.trials for decision in decisions):
            return [decision.states for decision in decisions], rounds
        rounds += 1
        for cell, decision in zip(cells, decisions, strict=True):
            for trial, cap in decision.trials.items():
                cell.train(trial, cap)


def fewest_of(cell: SimulatedCell, options: SearchOptions) -> tuple[list[float], int]:
    """Fewest steps of the full lattice at each target (inf: not reached), and the steps it trains.

    Its trials stop at cap_factor times its own fewest steps at the hardest target.
    """
    full = SimulatedCell(cell.steps, cell.curves, cell.targets, cell.tail_factor)
    for trial in full.curves:
        full.train(trial, int(cell.steps[-1]))
    cap = options.cap_factor * _fewest(full, options)[-1]
    capped = SimulatedCell(cell.steps, cell.curves, cell.targets, cell.tail_factor)
    for trial in capped.curves:
        capped.train(trial, int(min(cap, cell.steps[-1])))
    return _fewest(capped, options), capped.trained_steps


def _fewest(cell: SimulatedCell, options: SearchOptions) -> list[float]:
    trials = cell.known.trials
    alive = [
        cell.known.read(index, options.seeds)
        for index in range(options.lowest, options.highest + 1)
        if not any(trials[index, seed].diverged for seed in options.seeds)
    ]
    return [
        min(
            (one[target].steps for one in alive if one[target].outcome == REACHED),
            default=float("inf"),
        )
        for target in range(len(cell.targets))
    ]
