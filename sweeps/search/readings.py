"""The curves of a cell as the search reads them: the statistic is that of the report.

Seeds are averaged at common steps and the mean curve's isotonic regression crosses the target: what
the search calls best is what the report will call best, without the bias of single first touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scaling.curves import isotonic_crossing, seed_mean
from scaling.schema import CENSORED, REACHED
from sweeps.search.decide import CellObservations, Observed, Reading

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
            Reading(CENSORED, last_step=last_step)
            if np.isnan(crossing)
            else Reading(REACHED, float(crossing), last_step)
            for crossing in crossings
        ]

    @property
    def observations(self) -> CellObservations:
        return CellObservations(self.budget, len(self.targets), self.trials, self.read)
