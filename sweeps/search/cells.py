"""The cells of a frontier sweep, and how they are described."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling import schema
from scaling.curves import isotonic_crossing, seed_mean
from scaling.schedules import next_evaluation
from scaling.schema import CENSORED, REACHED
from scaling.trial import Trial
from sweeps.search.decide import decide
from sweeps.search.observations import (
    ALL_DIVERGED,
    LOCAL,
    NOT_REACHED,
    RANGE_END,
    CellObservations,
    Observed,
    Reading,
    SearchOptions,
    TargetState,
)
from sweeps.search.settings import Lattice

ADVICE = {
    NOT_REACHED: "a longer budget or an easier target may help",
    ALL_DIVERGED: "lower hydra.sweeper.lr_range",
    LOCAL: "only a part of hydra.sweeper.lr_range was tried; narrow it, or raise "
    "hydra.sweeper.give_up_after",
    RANGE_END: "widen hydra.sweeper.lr_range",
}


MOST_EXPECTED = 10.0  # log of how many times as far a trend is followed


@dataclass
class Cell:
    """Everything swept but lr and seed, at one value each. name: what tells it from the others.

    trial: one of its trials.
    """

    name: str
    overrides: list[str]
    trial: Trial
    curves: CellCurves
    states: tuple[TargetState, ...] = ()

    heads = ("steps", "best lr", "lrs", "")  # of as_row, but for the first

    @property
    def goal(self) -> str:
        """What it is searched for; of several targets the hardest."""
        return f"target {schema.target_label(self.curves.targets[-1])}"

    @property
    def done(self) -> bool:
        return bool(self.states) and all(state.reason for state in self.states)

    @property
    def is_tuned(self) -> bool:
        return all(state.index is not None for state in self.states)

    def decide(self, options: SearchOptions) -> dict[tuple[int, int], int]:
        """What to train next, (index, seed) up to a cap in steps; none where the cell is done."""
        decision = decide(self.curves.observations, options)
        self.states = decision.states
        return decision.trials

    def up_to_evaluation(self, cap: int) -> int:
        """The first evaluation at or after `cap`: curves then end at common steps."""
        step = 0
        while step < cap:
            step = next_evaluation(self.trial.config.evaluation, step)
        return min(step, self.curves.budget)

    def asked(self, lattice: Lattice, index: int, seed: int, cap: int) -> Asked:
        values = [f"lr={lattice.lr(index)}", f"seed={seed}"]
        return Asked(self, index, seed, cap, self.name, [*self.overrides, *values])

    def describe(self, lattice: Lattice) -> list[str]:
        """A line for each target: best lr, steps, why the search ended."""
        lines = []
        for k, (target, state) in enumerate(zip(self.curves.targets, self.states, strict=True)):
            tried = f"{state.reason} after {state.n_tried} {self.heads[2]}"
            advice = f": {ADVICE[state.reason]}" if state.reason in ADVICE else ""
            label = schema.target_label(target)
            best = f"{self._best_so_far(k, lattice)} ({tried}{advice}{self._ends(k)})"
            lines.append(f"{self.name}, target {label}: {best}")
        return lines

    def so_far(self, lattice: Lattice) -> str:
        """What is known at its hardest target."""
        best = self._best_so_far(-1, lattice)
        return f"{self.name} {best}{'' if self.states[-1].reason else ' (open)'}"

    def _best_so_far(self, k: int, lattice: Lattice) -> str:
        state = self.states[k]
        if state.index is None:
            return "no lr"
        steps = "" if state.steps is None else f"{state.steps:.1f} steps at "
        return f"{steps}lr {self._best(k, lattice)}"

    def _best(self, k: int, lattice: Lattice) -> str:
        """The best lr of target k, as it is shown."""
        index = self.states[k].index
        return "" if index is None else f"{lattice.lr(index):.4g}"

    def _ends(self, k: int) -> str:
        """What else the best of target k is at the end of."""
        return ""

    def as_row(self, lattice: Lattice) -> list[str]:
        """The cell at its hardest target, for a table."""
        if not self.states:
            return [self.name, "", "", "", "open"]
        state = self.states[-1]
        steps = "" if state.steps is None else f"{state.steps:.1f}"
        best = self._best(-1, lattice)
        return [self.name, steps, best, str(state.n_tried), state.reason or "open"]

    def as_json(self, lattice: Lattice) -> dict[str, Any]:
        trials = self.curves.trials
        return {
            "cell": self.name,
            "overrides": self.overrides,
            "n_lrs": len({index for index, _ in trials}),
            "n_trials": len(trials),
            "trained_steps": sum(observed.last_step for observed in trials.values()),
            **self._found(lattice),
        }

    def _found(self, lattice: Lattice) -> dict[str, Any]:
        targets = [
            {
                "target_loss": target,
                "lr": None if state.index is None else lattice.lr(state.index),
                "steps": state.steps,
                "reason": state.reason,
            }
            for target, state in zip(self.curves.targets, self.states, strict=True)
        ]
        return {"targets": targets}


@dataclass(frozen=True)
class Asked:
    """A trial that a round asks for. cap: steps at which it stops; setting: what tells it from
    trials of other lrs and seeds, as overrides."""

    cell: Cell
    index: int
    seed: int
    cap: int
    setting: str
    overrides: list[str]


Curve = tuple[Sequence[int], Sequence[float]]  # steps and held-out losses


@dataclass
class CellCurves:
    """All trials of one cell. targets: losses, easiest first. budget: steps a trial may take."""

    targets: tuple[float, ...]
    irreducible_loss: float
    budget: int
    trials: dict[tuple[int, int], Observed] = field(default_factory=dict)
    curves: dict[tuple[int, int], Curve] = field(default_factory=dict)
    _read: dict[tuple[int, tuple[int, ...]], list[Reading]] = field(default_factory=dict)

    def take(self, index: int, seed: int, observed: Observed, curve: Curve) -> None:
        """A trial, or more of it than before."""
        self.trials[index, seed] = observed
        self.curves[index, seed] = curve
        for key in [key for key in self._read if key[0] == index]:
            del self._read[key]

    def read(self, index: int, seeds: tuple[int, ...]) -> list[Reading]:
        """A Reading of each target, of the mean of these seeds."""
        if (index, seeds) not in self._read:
            self._read[index, seeds] = self._readings([self.curves[index, s] for s in seeds])
        return self._read[index, seeds]

    def _readings(self, curves: Sequence[Curve]) -> list[Reading]:
        floor = self.irreducible_loss
        excess = [(np.array(steps, float), np.array(loss) - floor) for steps, loss in curves]
        steps, mean = seed_mean(excess)
        last_step = int(steps[-1])
        levels = [target - floor for target in self.targets]
        crossings = isotonic_crossing(steps, mean[None, :], levels)[0]
        return [
            _censored(steps, mean, level)
            if np.isnan(crossing)
            else Reading(REACHED, float(crossing), last_step)
            for crossing, level in zip(crossings, levels, strict=True)
        ]

    @property
    def observations(self) -> CellObservations:
        return CellObservations(self.budget, len(self.targets), self.trials, self.read)


def _censored(steps: np.ndarray, excess: np.ndarray, level: float) -> Reading:
    """Of a curve [T] that does not reach this level: expected by a power law through the least
    excess of its first half and of all of it."""
    last_step, least = steps[-1], excess.min()
    half = int(np.searchsorted(steps, last_step / 2))
    before = excess[: half + 1].min()
    expected = math.inf
    if 0 < level < least < before:
        slope = np.log(before / least) / np.log(last_step / steps[half])
        log_factor = np.log(least / level) / slope
        expected = last_step * np.exp(min(log_factor, MOST_EXPECTED))
    return Reading(CENSORED, math.inf, int(last_step), float(least) - level, float(expected))
