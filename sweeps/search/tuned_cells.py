"""Cells in which more than lr is tuned: their trials, and how they are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeps.search.cells import Asked, Cell, CellCurves
from sweeps.search.coordinates import Point, TunedObservations, decide_tuned
from sweeps.search.observations import CellObservations, Observed, SearchOptions
from sweeps.search.settings import Lattice
from sweeps.search.tuned_keys import TunedKey, overrides_at


@dataclass(frozen=True)
class TunedSettings:
    """Numbers the settings of a cell, a point and the index of an lr, in place of the lrs alone.

    lowest, highest: indices allowed.
    """

    keys: tuple[TunedKey, ...]
    lowest: int
    highest: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(key.values) for key in self.keys)

    def number(self, point: Point, index: int) -> int:
        number = 0
        for place, count in zip(point, self.shape, strict=True):
            number = number * count + place
        return number * self._n_lrs + index - self.lowest

    def setting(self, number: int) -> tuple[Point, int]:
        number, index = divmod(number, self._n_lrs)
        places = []
        for count in reversed(self.shape):
            number, place = divmod(number, count)
            places.append(place)
        return tuple(reversed(places)), index + self.lowest

    @property
    def _n_lrs(self) -> int:
        return self.highest - self.lowest + 1

    def values(self, point: Point) -> dict[str, float]:
        return {key.key: key.values[place] for key, place in zip(self.keys, point, strict=True)}

    def ends(self, point: Point) -> dict[str, str]:
        """Keys whose value is the least or the largest of those that were given."""
        ends = {}
        for key, place in zip(self.keys, point, strict=True):
            if len(key.values) > 1 and place in (0, len(key.values) - 1):
                ends[key.key] = "largest" if place else "least"
        return ends


@dataclass(kw_only=True)
class TunedCurves(CellCurves):
    """All trials of one cell, by the number of their setting and seed. start: the first point."""

    settings: TunedSettings
    start: Point

    def at_points(self) -> TunedObservations:
        """What was observed at each point that was opened."""
        by_point: dict[Point, dict[tuple[int, int], Observed]] = {}
        for (number, seed), observed in self.trials.items():
            point, index = self.settings.setting(number)
            by_point.setdefault(point, {})[index, seed] = observed
        points = {point: self._of(point, by_point[point]) for point in sorted(by_point)}
        n_targets = len(self.targets)
        return TunedObservations(self.budget, n_targets, self.settings.shape, self.start, points)

    def _of(self, point: Point, trials: dict[tuple[int, int], Observed]) -> CellObservations:
        return CellObservations(
            self.budget,
            len(self.targets),
            trials,
            lambda index, seeds: self.read(self.settings.number(point, index), seeds),
        )


@dataclass
class TunedCell(Cell):
    """points: where each target's state has its best values of the tuned keys."""

    curves: TunedCurves  # pyright: ignore[reportIncompatibleVariableOverride]
    points: tuple[Point, ...] = ()

    heads = ("steps", "best lr", "settings", "")

    def decide(self, options: SearchOptions) -> dict[tuple[int, int], int]:
        """As of a cell, by (number of a setting, seed)."""
        decision = decide_tuned(self.curves.at_points(), options)
        self.states, self.points = decision.states, decision.points
        number = self.curves.settings.number
        return {
            (number(point, index), seed): cap
            for (point, index, seed), cap in decision.trials.items()
        }

    def asked(self, lattice: Lattice, index: int, seed: int, cap: int) -> Asked:
        """index: the number of a setting."""
        settings = self.curves.settings
        point, of_lr = settings.setting(index)
        tuned = overrides_at(settings.keys, point)
        values = [*tuned, f"lr={lattice.lr(of_lr)}", f"seed={seed}"]
        setting = " ".join([self.name, *tuned])
        return Asked(self, index, seed, cap, setting, [*self.overrides, *values])

    def _best(self, k: int, lattice: Lattice) -> str:
        best = super()._best(k, lattice)
        values = self.curves.settings.values(self.points[k])
        return ", ".join(
            [best, *(f"{name} {value:g}" for name, value in values.items())] * bool(best)
        )

    def _ends(self, k: int) -> str:
        if self.states[k].index is None:
            return ""
        ends = self.curves.settings.ends(self.points[k])
        return "".join(f"; {name} is the {end} of its values" for name, end in ends.items())

    def as_json(self, lattice: Lattice) -> dict[str, Any]:
        settings = [self.curves.settings.setting(number) for number, _ in self.curves.trials]
        counts = {"n_lrs": len({index for _, index in settings}), "n_settings": len(set(settings))}
        return super().as_json(lattice) | counts

    def _found(self, lattice: Lattice) -> dict[str, Any]:
        found = super()._found(lattice)
        for target, state, point in zip(found["targets"], self.states, self.points, strict=True):
            known = state.index is not None
            values, ends = (
                of(point) for of in (self.curves.settings.values, self.curves.settings.ends)
            )
            target |= {
                "tuned": values if known else dict.fromkeys(values),
                "tuned_ends": ends if known else {},
            }
        return found
