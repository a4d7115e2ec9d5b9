"""The cells of a frontier sweep, and how they are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scaling import schema
from scaling.schedules import next_evaluation
from scaling.trial import Trial
from sweeps.search.decide import ALL_DIVERGED, NOT_REACHED, RANGE_END, TargetState
from sweeps.search.readings import CellCurves
from sweeps.search.settings import Lattice

ADVICE = {
    NOT_REACHED: "a longer budget or an easier target may help",
    ALL_DIVERGED: "lower hydra.sweeper.lr_range",
    RANGE_END: "widen hydra.sweeper.lr_range",
}


ROW = ("steps", "best lr", "lrs", "")  # the heads of Cell.as_row, but for the first


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

    @property
    def done(self) -> bool:
        return bool(self.states) and all(state.reason for state in self.states)

    def up_to_evaluation(self, cap: int) -> int:
        """The first evaluation at or after `cap`: curves then end at common steps."""
        step = 0
        while step < cap:
            step = next_evaluation(self.trial.config.evaluation, step)
        return min(step, self.curves.budget)

    def describe(self, lattice: Lattice) -> list[str]:
        """A line for each target: best lr, steps, why the search ended."""
        lines = []
        for target, state in zip(self.curves.targets, self.states, strict=True):
            tried = f"{state.reason} after {state.n_tried} lrs"
            advice = f": {ADVICE[state.reason]}" if state.reason in ADVICE else ""
            label = schema.target_label(target)
            best = found(state, lattice)
            lines.append(f"{self.name}, target {label}: {best} ({tried}{advice})")
        return lines

    def as_row(self, lattice: Lattice) -> list[str]:
        """The cell at its hardest target, for a table."""
        if not self.states:
            return [self.name, "", "", "", "open"]
        state = self.states[-1]
        steps = "" if state.steps is None else f"{state.steps:.1f}"
        lr = "" if state.index is None else f"{lattice.lr(state.index):.4g}"
        return [self.name, steps, lr, str(state.n_tried), state.reason or "open"]

    def as_json(self, lattice: Lattice) -> dict[str, Any]:
        targets = [
            {
                "target_loss": target,
                "lr": None if state.index is None else lattice.lr(state.index),
                "steps": state.steps,
                "reason": state.reason,
            }
            for target, state in zip(self.curves.targets, self.states, strict=True)
        ]
        trials = self.curves.trials
        return {
            "cell": self.name,
            "overrides": self.overrides,
            "n_lrs": len({index for index, _ in trials}),
            "n_trials": len(trials),
            "trained_steps": sum(observed.last_step for observed in trials.values()),
            "targets": targets,
        }


@dataclass(frozen=True)
class Asked:
    """A trial that a round asks for. cap: steps at which it stops."""

    cell: Cell
    index: int
    seed: int
    cap: int
    overrides: list[str]


def found(state: TargetState, lattice: Lattice) -> str:
    if state.index is None:
        return "no lr"
    steps = "" if state.steps is None else f"{state.steps:.1f} steps at "
    return f"{steps}lr {lattice.lr(state.index):.4g}"
