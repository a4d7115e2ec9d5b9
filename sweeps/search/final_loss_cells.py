"""The cells of a search for the least final losses: every trial is trained to its budget's end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sweeps.search.cells import ADVICE, Cell, CellCurves, Curve
from sweeps.search.decide_final_loss import FinalLossState, decide_final_loss
from sweeps.search.observations import Observed, SearchOptions
from sweeps.search.settings import Lattice


@dataclass
class FinalLosses(CellCurves):
    """All trials of one cell. excess: by (index, seed), the last loss above the irreducible one,
    infinite where the trial diverged."""

    excess: dict[tuple[int, int], float] = field(default_factory=dict)

    def take(self, index: int, seed: int, observed: Observed, curve: Curve) -> None:
        self.trials[index, seed] = observed
        lost = observed.diverged or not curve[1]
        self.excess[index, seed] = math.inf if lost else curve[1][-1] - self.irreducible_loss


@dataclass
class FinalLossCell(Cell):
    """A cell whose best lr is that of the least final loss."""

    curves: FinalLosses  # pyright: ignore[reportIncompatibleVariableOverride]
    final: FinalLossState | None = None

    heads = ("final loss", "best lr", "lrs", "")

    @property
    def goal(self) -> str:
        return "final loss"

    @property
    def done(self) -> bool:
        return self.final is not None and bool(self.final.reason)

    @property
    def is_tuned(self) -> bool:
        return self.final is not None and self.final.index is not None

    def decide(self, options: SearchOptions) -> dict[tuple[int, int], int]:
        decision = decide_final_loss(self.curves.excess, options)
        self.final = decision.state
        return dict.fromkeys(decision.trials, self.curves.budget)

    def describe(self, lattice: Lattice) -> list[str]:
        assert self.final is not None
        reason = self.final.reason
        advice = f": {ADVICE[reason]}" if reason in ADVICE else ""
        tried = f"{reason} after {self.final.n_tried} lrs{advice}"
        return [f"{self.name}: {self._shown_best(lattice)} ({tried})"]

    def so_far(self, lattice: Lattice) -> str:
        return f"{self.name} {self._shown_best(lattice)}{'' if self.done else ' (open)'}"

    def as_row(self, lattice: Lattice) -> list[str]:
        state = self.final
        if state is None or state.index is None:
            return [self.name, "", "", "" if state is None else str(state.n_tried), "open"]
        lr = f"{lattice.lr(state.index):.4g}"
        return [self.name, self._loss, lr, str(state.n_tried), state.reason or "open"]

    def _found(self, lattice: Lattice) -> dict[str, Any]:
        assert self.final is not None
        index = self.final.index
        best = {"lr": None if index is None else lattice.lr(index), "reason": self.final.reason}
        loss = None if self.final.loss is None else self.final.loss + self.curves.irreducible_loss
        return {"final_loss": best | {"loss": loss}}

    def _shown_best(self, lattice: Lattice) -> str:
        if self.final is None or self.final.index is None:
            return "no lr"
        return f"final loss {self._loss} at lr {lattice.lr(self.final.index):.4g}"

    @property
    def _loss(self) -> str:
        assert self.final is not None
        assert self.final.loss is not None
        return f"{self.final.loss + self.curves.irreducible_loss:.4g}"
