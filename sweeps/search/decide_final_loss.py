"""What was observed -> what to try next: the lr of the least final loss of a cell.

Every trial of such a search is trained to the end of its budget, for its schedule decays only
there: a shorter run is another one, and nothing can be cut. The lr lives on the lattice
base * ratio^index, and the search

    pass      tries one index in each stride of the range with the first seeds, and goes on beyond
              an end at which the loss still falls
    bracket   the middles of the gaps on both sides of the two lowest minima, until they have
              neighbours one lattice step away
    settle    all seeds at these minima, and at both neighbours of the best mean, until both are
              worse

A diverged trial is infinitely bad. Nothing is remembered but the observations, so the same
observations give the same trials. Pure functions: no training, no files, no Hydra.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sweeps.search.gaps import global_pass, is_whole
from sweeps.search.observations import (
    ALL_DIVERGED,
    BOUNDED,
    INTERIOR,
    LOCAL,
    RANGE_END,
    SearchOptions,
)

N_MINIMA, NEAR = 2, 1.5  # minima that are refined: the lowest, and one within so many times of it

FinalLosses = Mapping[tuple[int, int], float]  # excess by (index, seed); infinite: it diverged


@dataclass(frozen=True)
class FinalLossState:
    """Where the search stands. index, loss: the best so far, of the mean over all seeds where they
    are trained; None where everything diverged. reason: why it is done; "" while open."""

    index: int | None
    loss: float | None
    reason: str = ""
    n_tried: int = 0


@dataclass(frozen=True)
class FinalLossDecision:
    """trials: (index, seed) to train, none when the cell is done."""

    trials: tuple[tuple[int, int], ...]
    state: FinalLossState


def decide_final_loss(losses: FinalLosses, options: SearchOptions) -> FinalLossDecision:
    """The next trials of a cell, or none and why."""
    return _Search(losses, options).decide()


@dataclass(frozen=True)
class _Search:
    losses: FinalLosses
    options: SearchOptions

    def decide(self) -> FinalLossDecision:
        first = self.options.seeds[: self.options.n_search_seeds]
        known = self._means(first)
        missing = self._missing(global_pass(self.options), first)
        if missing:
            return self._go_on(missing, known)
        if math.isinf(min(known.values())):
            below = self._below(known)
            missing = self._missing(below, first)
            return self._go_on(missing, known) if missing else self._end(None, known, ALL_DIVERGED)
        minima = lowest_minima(known)
        missing = self._missing(self._around(minima, known), first)
        if missing:
            return self._go_on(missing, known)
        return self._settle(minima, known)

    def _settle(self, minima: list[int], known: Mapping[int, float]) -> FinalLossDecision:
        """All seeds at the minima, then at both neighbours of the best mean."""
        missing = self._missing(minima, self.options.seeds)
        if missing:
            return self._go_on(missing, known)
        whole = self._means(self.options.seeds)
        best = _least(whole)
        missing = self._missing([best - 1, best + 1], self.options.seeds)
        if missing:
            return self._go_on(missing, whole)
        return self._end(best, whole, self._reason(best))

    def _means(self, seeds: tuple[int, ...]) -> dict[int, float]:
        """Of every index at which all these seeds were trained, or any seed diverged."""
        diverged = self._diverged
        means = dict.fromkeys(diverged, math.inf)
        for index in self._tried - diverged:
            if all((index, seed) in self.losses for seed in seeds):
                means[index] = float(np.mean([self.losses[index, seed] for seed in seeds]))
        return means

    @property
    def _tried(self) -> set[int]:
        return {index for index, _ in self.losses}

    @property
    def _diverged(self) -> set[int]:
        return {index for (index, _), loss in self.losses.items() if math.isinf(loss)}

    def _missing(self, indices: Iterable[int], seeds: Iterable[int]) -> list[tuple[int, int]]:
        """Trials to train; none where a seed has diverged."""
        allowed = range(self.options.lowest, self.options.highest + 1)
        alive = [i for i in indices if i in allowed and i not in self._diverged]
        return [(i, seed) for i in alive for seed in seeds if (i, seed) not in self.losses]

    def _below(self, known: Mapping[int, float]) -> list[int]:
        """A stride below all that diverged."""
        return [max(min(known) - self.options.stride, self.options.lowest)]

    def _around(self, minima: list[int], known: Mapping[int, float]) -> list[int]:
        """The middles of the gaps beside the minima; beyond an end at which the best one is."""
        tried = sorted(known)
        wanted = []
        for place, index in ((tried.index(index), index) for index in minima):
            for side, end in ((-1, self.options.lowest), (1, self.options.highest)):
                if 0 <= place + side < len(tried):
                    wanted.append(_middle(index, tried[place + side]))
                elif index == minima[0]:
                    width = min(self.options.stride, abs(end - index))
                    wanted.append(index + side * width)
        return [index for index in wanted if index not in known]

    def _reason(self, best: int) -> str:
        if best in (self.options.lowest, self.options.highest):
            return RANGE_END
        if best + 1 in self._diverged:
            return BOUNDED
        return INTERIOR if is_whole(self._tried, self._diverged, self.options) else LOCAL

    def _go_on(
        self, trials: list[tuple[int, int]], means: Mapping[int, float]
    ) -> FinalLossDecision:
        alive = {index: mean for index, mean in means.items() if not math.isinf(mean)}
        best = _least(alive) if alive else None
        loss = None if best is None else alive[best]
        state = FinalLossState(best, loss, n_tried=len(self._tried))
        return FinalLossDecision(tuple(sorted(set(trials))), state)

    def _end(self, best: int | None, means: Mapping[int, float], reason: str) -> FinalLossDecision:
        loss = None if best is None else means[best]
        return FinalLossDecision((), FinalLossState(best, loss, reason, len(self._tried)))


def _least(means: Mapping[int, float]) -> int:
    return min(means, key=lambda index: (means[index], index))


def lowest_minima(means: Mapping[int, float]) -> list[int]:
    """Indices of the local minima, the lowest first: N_MINIMA within NEAR times the least.

    >>> lowest_minima({0: 3.0, 8: 1.0, 16: 2.0, 24: 1.2, 32: 4.0})
    [8, 24]
    """
    tried, least = sorted(means), min(means.values())
    values = [math.inf, *(means[index] for index in tried), math.inf]
    minima = [
        index
        for index, below, own, above in zip(tried, values, values[1:], values[2:], strict=False)
        if own < below and own <= above and own <= NEAR * least
    ]
    return sorted(minima, key=lambda index: (means[index], index))[:N_MINIMA]


def _middle(one: int, other: int) -> int:
    """Of two indices; the first where they are one step apart."""
    return one if abs(one - other) == 1 else (one + other) // 2
