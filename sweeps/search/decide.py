"""What was observed -> what to try next: the learning rates of a study that finds its frontier.

In a cell (a batch size, and whatever else is swept) lr lives on the lattice base * ratio^index. For
every target the search looks for the index with the fewest steps, first with the first seeds:

    scan      five indices a stride apart around the start; while none reaches the target they are
              continued with ever larger caps, then the scan goes on outwards, then in half strides
    bracket   outwards from the best by strides until it has a worse neighbour on either side
              (diverged: too large; censored at a cap above the best steps: worse)
    refine    in the middle of its gaps to both, until they are of one lattice step

and then with all seeds, at that index and its two neighbours, and on at the neighbours of the best
of the seed means until that stays where it is. A trial is asked for up to a cap, which is
cap_factor times the fewest steps known.

Nothing is remembered but the observations, so the same observations give the same trials, in
whatever order they came. Pure functions: no training, no files, no Hydra.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from scaling.schema import CENSORED, DIVERGED, REACHED
from sweeps.search.observations import (
    ALL_DIVERGED,
    BOUNDED,
    INTERIOR,
    NOT_REACHED,
    RANGE_END,
    CellObservations,
    Decision,
    Reading,
    SearchOptions,
    TargetState,
)

SCAN_STRIDES = 2  # of the first scan, to either side of the start
FIRST_CAP_STEPS = 64  # of a scan's first trials, or FIRST_CAP of the budget where that is more
FIRST_CAP, CAP_GROWTH = 1 / 64, 8
CLEAR = 1.5  # a curve this many times as long as the fewest steps is long enough to be compared


def decide(cell: CellObservations, options: SearchOptions) -> Decision:
    """The next trials of a cell, for all targets together, or none and why."""
    trials: dict[tuple[int, int], int] = {}
    states = []
    for target in range(cell.n_targets):
        search = _TargetSearch(cell, options, target)
        states.append(search.run())
        for trial, cap in search.trials.items():
            trials[trial] = max(cap, trials.get(trial, 0))
    return Decision(dict(sorted(trials.items())), tuple(states))


@dataclass
class _TargetSearch:
    cell: CellObservations
    options: SearchOptions
    target: int
    trials: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self) -> TargetState:
        options = self.options
        first = options.seeds[: options.n_search_seeds]
        whole = self._readings(options.seeds)
        known = self._readings(first)
        in_vain = self._in_vain(known, whole)
        known |= in_vain
        best, of_means = _best(known), _best(whole)
        if of_means is None and len(in_vain) >= options.give_up_after:
            return TargetState(None, None, NOT_REACHED, len(known))
        if best is None and of_means is None:
            return TargetState(None, None, self._scan(known, first), len(known))
        if best is None:
            assert of_means is not None
            return self._all_seeds(whole, {of_means}, of_means, whole[of_means].steps)
        self._bracket(best, known, first)
        if self.trials:
            return TargetState(best, known[best].steps, "", len(known))
        if of_means is None:
            return self._all_seeds(whole, {best}, None, known[best].steps)
        return self._all_seeds(whole, {best, of_means}, of_means, whole[of_means].steps)

    def _readings(self, seeds: tuple[int, ...]) -> dict[int, Reading]:
        """Of every index at which all these seeds were trained, or any seed diverged."""
        readings = {}
        for index in {index for index, _ in self.cell.trials}:
            if self._diverged(index):
                readings[index] = Reading(DIVERGED)
            elif all((index, seed) in self.cell.trials for seed in seeds):
                readings[index] = self.cell.read(index, seeds)[self.target]
        return readings

    def _in_vain(
        self, known: Mapping[int, Reading], whole: Mapping[int, Reading]
    ) -> dict[int, Reading]:
        """Where the first seeds reach the target, but the mean of all does not and can be made no
        longer: a lucky seed's."""
        return {
            index: reading
            for index, reading in whole.items()
            if reading.outcome == CENSORED
            and known[index].outcome == REACHED
            and not self._too_short(index, reading, self.options.seeds, math.inf)
        }

    def _diverged(self, index: int) -> bool:
        observed = (self.cell.trials.get((index, seed)) for seed in self.options.seeds)
        return any(one is not None and one.diverged for one in observed)

    def _ask(self, indices: Iterable[int], seeds: Iterable[int], cap: float) -> None:
        """Trials up to `cap` steps, but for those that ended or are that long."""
        whole = min(self.cell.budget, math.ceil(cap))
        for index in indices:
            for seed in seeds:
                known = self.cell.trials.get((index, seed))
                if known is None or (not known.ended and known.last_step < whole):
                    self.trials[index, seed] = whole

    def _allowed(self, indices: Iterable[int]) -> list[int]:
        return [i for i in indices if self.options.lowest <= i <= self.options.highest]

    def _scan(self, known: Mapping[int, Reading], seeds: tuple[int, ...]) -> str:
        """Nothing has reached the target; the reason if nothing will."""
        options, budget = self.options, self.cell.budget
        first_cap = max(FIRST_CAP_STEPS, budget * FIRST_CAP)
        scanned = {index: known[index] for index in known if self._is_scanned(index)}
        if not scanned:
            offsets = range(-SCAN_STRIDES, SCAN_STRIDES + 1)
            indices = (options.start + options.stride * offset for offset in offsets)
            self._ask(self._allowed(indices), seeds, first_cap)
            return ""
        alive = [index for index, reading in scanned.items() if reading.outcome != DIVERGED]
        longest = max((scanned[index].last_step for index in alive), default=0)
        self._ask(alive, seeds, CAP_GROWTH * longest)
        if self.trials:
            return ""
        left = max(0, options.give_up_after - len(scanned))
        for wanted in (self._outwards(scanned), self._between(scanned)):
            self._ask(wanted[:left], seeds, budget if alive else first_cap)
            if self.trials:
                return ""
        return NOT_REACHED if alive else ALL_DIVERGED

    def _is_scanned(self, index: int) -> bool:
        """In half strides from the start, or at an end: others are of another target's search."""
        half = max(1, self.options.stride // 2)
        ends = (self.options.lowest, self.options.highest)
        return (index - self.options.start) % half == 0 or index in ends

    def _outwards(self, known: Mapping[int, Reading]) -> list[int]:
        """One stride down, and one up or, where a larger one diverged, halfway to it.

        What is censored may be too small as well as too large (the target below its noise floor).
        """
        options = self.options
        alive = [index for index, reading in known.items() if reading.outcome != DIVERGED]
        wanted = [max(min(known) - options.stride, options.lowest)]
        over = [index for index in known if not alive or index > max(alive)]
        if not over:
            wanted.append(min(max(known) + options.stride, options.highest))
        elif alive and min(over) - max(alive) > options.stride // 2:
            wanted.append((min(over) + max(alive)) // 2)
        return [index for index in wanted if index not in known]

    def _between(self, known: Mapping[int, Reading]) -> list[int]:
        """The middles of gaps wider than half a stride, largest lr first, but for those between
        two divergences."""
        ordered = sorted(known)
        return [
            (low + high) // 2
            for low, high in reversed(list(pairwise(ordered)))
            if high - low > self.options.stride // 2 and known[low].outcome != DIVERGED
        ]

    def _bracket(self, best: int, known: Mapping[int, Reading], seeds: tuple[int, ...]) -> None:
        """Ask for what is missing of: a worse neighbour one lattice step away on either side."""
        options, cap = self.options, self.options.cap_factor * known[best].steps
        for side in (-1, 1):
            beyond = [index for index in known if (index - best) * side > 0]
            if not beyond:
                end = options.highest if side > 0 else options.lowest
                step = min(options.stride, abs(end - best))
                if step:
                    self._ask([best + side * step], seeds, cap)
                continue
            nearest = min(beyond, key=lambda index: abs(index - best))
            short = self._too_short(nearest, known[nearest], seeds, known[best].steps)
            if known[nearest].outcome == CENSORED and short:
                self._ask([nearest], seeds, cap)
            elif abs(nearest - best) > 1:
                self._ask([best + side * (abs(nearest - best) // 2)], seeds, cap)

    def _too_short(
        self, index: int, reading: Reading, seeds: tuple[int, ...], fewest: float
    ) -> bool:
        """Its window ends before CLEAR times the fewest steps, and can still be made longer."""
        if reading.outcome == DIVERGED or reading.last_step >= CLEAR * fewest:
            return False
        observed = [self.cell.trials[index, seed] for seed in seeds]
        return not min(observed, key=lambda one: one.last_step).ended

    def _all_seeds(
        self, known: Mapping[int, Reading], centres: set[int], best: int | None, fewest: float
    ) -> TargetState:
        """All seeds at the centres and their neighbours. best: of the means known, if any is."""
        seeds, cap_factor = self.options.seeds, self.options.cap_factor
        around = centres if best is None else {best}
        for index in self._allowed(
            sorted(centres | {c + side for c in around for side in (-1, 1)})
        ):
            if index not in known:
                self._ask([index], seeds, cap_factor * fewest)
                continue
            matters = index == best or known[index].outcome == CENSORED
            if matters and self._too_short(index, known[index], seeds, fewest):
                longest = max(fewest, known[index].last_step / CLEAR)
                self._ask([index], seeds, cap_factor * longest)
        n_tried = len({index for index, _ in self.cell.trials})
        if best is None and not self.trials:  # as long as the first seeds need is not enough
            for index in centres:
                self._ask([index], seeds, cap_factor * known[index].last_step)
        if best is None or self.trials:
            return TargetState(min(centres) if best is None else best, fewest, "", n_tried)
        return TargetState(best, fewest, self._reason(best, known), n_tried)

    def _reason(self, best: int, known: Mapping[int, Reading]) -> str:
        if best in (self.options.lowest, self.options.highest):
            return RANGE_END
        return BOUNDED if known[best + 1].outcome == DIVERGED else INTERIOR


def _best(known: Mapping[int, Reading]) -> int | None:
    reached = [index for index, reading in known.items() if reading.outcome == REACHED]
    return min(reached, key=lambda index: (known[index].steps, index), default=None)
