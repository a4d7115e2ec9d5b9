"""What was observed -> what to try next: the learning rates of a study that finds its frontier.

In a cell (a batch size, and whatever else is swept) lr lives on the lattice base * ratio^index. For
every target the search looks for the index with the fewest steps, first with the first seeds:

    scan      one index in each stride of the range, up to ever larger caps until one reaches the
              target, and beside the one that comes nearest to it; then outwards, then in half
              strides
    refine    in the middle of every gap that may hide a better one (sweeps.search.gaps), until the
              best has worse neighbours one lattice step away (diverged: too large; censored at a
              cap above the best steps: worse)

and then with all seeds, at the lowest minima that were found, and on at both neighbours of the best
seed means until these stay where they are. A trial is asked for up to a cap, which is
cap_factor times the fewest steps known.

Nothing is remembered but the observations, so the same observations give the same trials, in
whatever order they came. Pure functions: no training, no files, no Hydra.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from scaling.schema import CENSORED, DIVERGED, REACHED
from sweeps.search.gaps import global_pass, is_whole, lowest_minima, promising, wide_gaps
from sweeps.search.observations import (
    ALL_DIVERGED,
    BOUNDED,
    INTERIOR,
    LOCAL,
    NOT_REACHED,
    RANGE_END,
    CellObservations,
    Decision,
    Reading,
    SearchOptions,
    TargetState,
)

FIRST_CAP_STEPS = 64  # of a scan's first trials, or FIRST_CAP of the budget where that is more
FIRST_CAP, CAP_GROWTH, LEAST_GROWTH, BEYOND = 1 / 64, 2, 1.2, 1.1
ALIKE = 1.04  # means within so many times the best may have a better neighbour
# Windows, in fewest steps: what is asked of a trial that is compared, and what it must have; at the
# end what it must have, where cap_factor is asked. A shorter one shows no more steps, if any.
ASKED, COMPARED, CLEAR = 1.25, 1.1, 1.5


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
            return self._all_seeds(whole, [of_means], of_means, whole[of_means].steps)
        self._refine(best, known, first)
        if self.trials:
            return TargetState(best, known[best].steps, "", len(known))
        centres = lowest_minima({i: one.steps for i, one in known.items()})
        fewest = known[best].steps if of_means is None else whole[of_means].steps
        return self._all_seeds(whole, centres, of_means, fewest)

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
            and not self._is_short(index, reading, self.options.seeds, math.inf)
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
        budget = self.cell.budget
        first_cap, grid = max(FIRST_CAP_STEPS, budget * FIRST_CAP), global_pass(self.options)
        self._ask([index for index in grid if index not in known], seeds, first_cap)
        if self.trials:
            return ""
        alive = [index for index in grid if known[index].outcome != DIVERGED]
        short = [known[index].last_step for index in alive if not self._ended(index, seeds)]
        cap = self._longer(min(short), [known[index] for index in alive]) if short else budget
        self._ask(alive, seeds, cap)
        scanned = {i: known[i] for i in known if self._is_scanned(i) or i in grid}
        left = max(0, self.options.give_up_after - self._n_scanned(known, seeds))
        self._ask(self._beside_lowest(known, min(short, default=budget)), seeds, cap)
        for wanted in (self._outwards(scanned), wide_gaps(scanned, self.options)):
            if not self.trials:
                self._ask(wanted[:left], seeds, budget if alive else first_cap)
        if self.trials:
            return ""
        return NOT_REACHED if alive else ALL_DIVERGED

    def _longer(self, window: int, alive: Iterable[Reading]) -> float:
        """The next cap of a scan: a little beyond where the first is expected to reach the target,
        by not more than CAP_GROWTH."""
        expected = min(reading.expected_steps for reading in alive)
        return min(max(BEYOND * expected, LEAST_GROWTH * window), CAP_GROWTH * window)

    def _ended(self, index: int, seeds: Iterable[int]) -> bool:
        return all(self.cell.trials[index, seed].ended for seed in seeds)

    def _n_scanned(self, known: Mapping[int, Reading], seeds: tuple[int, ...]) -> int:
        """Learning rates that were tried for this target; other targets' need not end."""
        alive = (index for index in known if known[index].outcome != DIVERGED)
        ended = {index for index in alive if self._ended(index, seeds)}
        return len(ended | {index for index in known if self._is_scanned(index)})

    def _beside_lowest(self, known: Mapping[int, Reading], least_window: int) -> list[int]:
        """The middles of the gaps beside the one that came nearest to the target in its window."""
        shortfalls = {i: one.shortfall for i, one in known.items() if one.last_step >= least_window}
        lowest = min(shortfalls, key=lambda index: (shortfalls[index], index), default=None)
        if lowest is None or math.isinf(shortfalls[lowest]):
            return []
        gaps = [pair for pair in pairwise(sorted(known)) if lowest in pair]
        return [(low + high) // 2 for low, high in gaps if high - low > 1]

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

    def _refine(self, best: int, known: Mapping[int, Reading], seeds: tuple[int, ...]) -> None:
        """Ask for what may be better than the best, or is too short to be compared with it."""
        fewest = known[best].steps
        steps = {
            index: reading.steps if reading.outcome == REACHED else math.inf
            for index, reading in known.items()
            if reading.outcome == REACHED
            or not self._is_short(index, reading, seeds, COMPARED * fewest)
        }
        self._ask(promising(steps, self.options), seeds, ASKED * fewest)

    def _is_short(
        self, index: int, reading: Reading, seeds: tuple[int, ...], window: float
    ) -> bool:
        """It ends before this window does, and can still be made longer."""
        if reading.outcome == DIVERGED or reading.last_step >= window:
            return False
        observed = [self.cell.trials[index, seed] for seed in seeds]
        return not min(observed, key=lambda one: one.last_step).ended

    def _all_seeds(
        self, known: Mapping[int, Reading], centres: Sequence[int], best: int | None, fewest: float
    ) -> TargetState:
        """All seeds at the centres (the first seeds' best first) and beside the best means."""
        seeds, cap_factor = self.options.seeds, self.options.cap_factor
        middle = centres[0] if best is None else best
        near = {i for i, one in known.items() if best is not None and one.steps <= ALIKE * fewest}
        around = {centre + side for centre in {middle, *near} for side in (-1, 1)}
        for index in self._allowed(sorted({*centres, middle, *around})):
            if index not in known:
                self._ask([index], seeds, cap_factor * fewest)
                continue
            matters = known[index].outcome == CENSORED or known[index].steps <= ALIKE * fewest
            if matters and self._is_short(index, known[index], seeds, CLEAR * fewest):
                longest = max(fewest, known[index].last_step / CLEAR)
                self._ask([index], seeds, cap_factor * longest)
        n_tried = len({index for index, _ in self.cell.trials})
        if best is None and not self.trials:  # as long as the first seeds need is not enough
            for index in centres:
                self._ask([index], seeds, cap_factor * known[index].last_step)
        if best is None or self.trials:
            return TargetState(middle, fewest, "", n_tried)
        return TargetState(best, fewest, self._reason(best, known), n_tried)

    def _reason(self, best: int, known: Mapping[int, Reading]) -> str:
        if best in (self.options.lowest, self.options.highest):
            return RANGE_END
        if known[best + 1].outcome == DIVERGED:
            return BOUNDED
        tried = {index for index, _ in self.cell.trials}
        diverged = {index for index in tried if self._diverged(index)}
        return INTERIOR if is_whole(tried, diverged, self.options) else LOCAL


def _best(known: Mapping[int, Reading]) -> int | None:
    reached = [index for index, reading in known.items() if reading.outcome == REACHED]
    return min(reached, key=lambda index: (known[index].steps, index), default=None)
