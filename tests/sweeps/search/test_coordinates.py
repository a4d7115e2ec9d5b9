"""The search over points beside lr: it finds the best of them, opens few, and ends."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping

import pytest

from sweeps.search.coordinates import (
    Point,
    TunedDecision,
    TunedObservations,
    decide_tuned,
)
from sweeps.search.decide import decide
from sweeps.search.observations import ALL_DIVERGED, INTERIOR, NOT_REACHED, SearchOptions
from tests.sweeps.search.test_frontier_search import (
    FOUR_SEEDS,
    HIGHEST,
    LOWEST,
    ONE_SEED,
    Landscape,
    valley,
)

MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98)
N_LRS = HIGHEST - LOWEST + 1
Steps = Callable[[int], float | None]


class Landscapes:
    """at: a landscape of every point."""

    def __init__(self, at: Mapping[Point, Landscape], start: Point) -> None:
        self.at, self.start = at, start
        self.shape = tuple(1 + max(places) for places in zip(*at, strict=True))

    @property
    def opened(self) -> set[Point]:
        return {point for point, one in self.at.items() if one.trials}

    @property
    def n_trials(self) -> int:
        return sum(len(one.trials) for one in self.at.values())

    def observations(self) -> TunedObservations:
        first = next(iter(self.at.values()))
        points = {point: self.at[point].observations() for point in sorted(self.opened)}
        return TunedObservations(first.budget, len(first.steps), self.shape, self.start, points)

    def search(self, options: SearchOptions, order: random.Random | None = None) -> TunedDecision:
        for _ in range(600):
            decision = decide_tuned(self.observations(), options)
            if not decision.trials:
                assert all(state.reason for state in decision.states)
                return decision
            trials = list(decision.trials.items())
            assert trials == sorted(trials)
            if order is not None:
                order.shuffle(trials)
            for (point, index, seed), cap in trials:
                self.at[point].train((index, seed), cap)
        raise AssertionError("the search does not end")


class Short(Landscape):
    """Trials come the nearer to the target the longer they are."""

    def shortfall(self, steps: float | None, last_step: int) -> float:
        return math.inf if steps is None else math.log(steps / last_step)


def along(steps: Callable[[int], Steps], n: int, start: int, **landscape) -> Landscapes:
    """Points of one key."""
    at = {(place,): Landscape(steps(place), **landscape) for place in range(n)}
    return Landscapes(at, (start,))


def ridge(least: Callable[[float], float]) -> Callable[[int], Steps]:
    """The best lr is that of sgd times 1 - momentum, on a lattice of ratio 1.09; a cliff is near
    it."""

    def steps(place: int) -> Steps:
        best = 20 + round(math.log(1 - MOMENTA[place]) / math.log(1.09))
        return valley(best, 0.08, 0.2, least(MOMENTA[place]), best + 6)

    return steps


@pytest.mark.parametrize("start", range(len(MOMENTA)))
@pytest.mark.parametrize("best", range(len(MOMENTA)))
def test_a_ridge_along_lr_over_one_minus_momentum(best: int, start: int) -> None:
    """From 0 to 0.98 the best lr falls to a fiftieth."""
    away = {momentum: abs(place - best) for place, momentum in enumerate(MOMENTA)}
    found = along(ridge(lambda momentum: 100.0 * 1.15 ** away[momentum]), len(MOMENTA), start)
    decision = found.search(FOUR_SEEDS)
    (state,) = decision.states
    assert decision.points == ((best,),)
    assert state.index == 20 + round(math.log(1 - MOMENTA[best]) / math.log(1.09))
    assert state.steps == pytest.approx(100.0)
    assert state.reason == INTERIOR
    assert found.n_trials < 0.15 * len(MOMENTA) * N_LRS * 4
    beyond = {(place,) for place in range(len(MOMENTA)) if abs(place - best) <= 1}
    assert beyond <= found.opened  # both neighbours of the best


def test_a_plateau_is_not_walked_to_its_end() -> None:
    """All momenta take equal steps: those around the start are as good as any."""
    found = along(ridge(lambda momentum: 100.0), len(MOMENTA), 2)
    decision = found.search(FOUR_SEEDS)
    assert decision.states[0].steps == pytest.approx(100.0)
    assert len(found.opened) <= 4


def test_the_mean_of_all_seeds_decides_between_points() -> None:
    """The first seed prefers place 3 by 5 %, the mean of all prefers 2 by far."""

    def noise(index: int, seed: int) -> float:
        return -0.05 if seed == 0 else 0.2

    at = {(place,): Landscape(valley(0, 0.1, 0.1, 100.0, 99)) for place in range(5)}
    at[(3,)] = Landscape(valley(0, 0.1, 0.1, 100.0, 99), noise=noise)
    assert Landscapes(at, (2,)).search(FOUR_SEEDS).points != ((3,),)


def test_points_where_everything_diverges_are_passed() -> None:
    steps = ridge(lambda momentum: 100.0 / (1 - momentum))
    found = along(lambda place: steps(place) if place < 2 else lambda index: None, 6, 4)
    decision = found.search(ONE_SEED)
    assert decision.points == ((0,),)
    assert decision.states[0].steps == pytest.approx(100.0)
    found = along(lambda place: lambda index: None, 3, 1)
    (state,) = found.search(ONE_SEED).states
    assert (state.index, state.reason) == (None, ALL_DIVERGED)
    assert len(found.opened) == 3


def test_points_that_do_not_reach_the_target_are_left_by_how_near_they_come() -> None:
    def steps(place: int) -> Steps:
        return valley(0, 0.1, 0.1, 100.0 * 3.0 ** abs(place - 1), 99)

    at = {(place,): Short(steps(place), budget=1000) for place in range(6)}
    assert Landscapes(at, (5,)).search(ONE_SEED).points == ((1,),)
    hopeless = {(place,): Short(steps(place), budget=20) for place in range(6)}
    found = Landscapes(hopeless, (4,))
    (state,) = found.search(ONE_SEED).states
    assert (state.steps, state.reason) == (None, NOT_REACHED)


def test_two_keys() -> None:
    """Momentum and weight decay; the best of each moves with the other's."""

    def steps(point: Point) -> Steps:
        away = (point[0] - 4) ** 2 + (point[1] - 1) ** 2 + (point[0] - 4) * (point[1] - 1)
        return valley(-3 * point[0], 0.08, 0.2, 100.0 * 1.05**away, 99)

    places = itertools.product(range(6), range(4))
    at = {point: Landscape(steps(point)) for point in places}
    found = Landscapes(at, (1, 2))
    decision = found.search(FOUR_SEEDS)
    assert decision.points == ((4, 1),)
    assert len(found.opened) < 18
    assert found.n_trials < 0.1 * 24 * N_LRS * 4


def test_each_target_has_its_own_best_point() -> None:
    easy = ridge(lambda momentum: 50.0 * (1 + momentum))
    hard = ridge(lambda momentum: 900.0 * (2 - momentum))
    at = {
        (place,): Landscape(easy(place), lambda i, place=place: _both(easy(place), hard(place), i))
        for place in range(6)
    }
    decision = Landscapes(at, (2,)).search(FOUR_SEEDS)
    assert decision.points == ((0,), (5,))


def _both(easy: Steps, hard: Steps, index: int) -> float | None:
    steps = easy(index), hard(index)
    return None if None in steps else max(one for one in steps if one is not None)


def test_the_order_of_trials_changes_nothing() -> None:
    def noise(index: int, seed: int) -> float:
        return random.Random(f"{index} {seed}").gauss(0.0, 0.02)

    steps = ridge(lambda momentum: 100.0 * (1 + (momentum - 0.7) ** 2))
    found = [along(steps, 6, 2, noise=noise) for _ in range(3)]
    decisions = [
        one.search(FOUR_SEEDS, random.Random(number) if number else None)
        for number, one in enumerate(found)
    ]
    assert decisions[0] == decisions[1] == decisions[2]
    assert found[0].n_trials == found[1].n_trials == found[2].n_trials


def test_one_point_is_the_search_for_lr() -> None:
    steps = valley(7, 0.05, 0.2, 100.0, 12)
    alone, found = Landscape(steps), along(lambda place: steps, 1, 0)
    expected = decide(alone.observations(), FOUR_SEEDS)
    for _ in range(100):
        decision = decide_tuned(found.observations(), FOUR_SEEDS)
        assert {key[1:]: cap for key, cap in decision.trials.items()} == expected.trials
        assert decision.states == expected.states
        for trial, cap in expected.trials.items():
            alone.train(trial, cap)
            found.at[(0,)].train(trial, cap)
        expected = decide(alone.observations(), FOUR_SEEDS)
    assert not expected.trials


@pytest.mark.parametrize("best", [-38, 38])
def test_a_neighbour_keeps_the_whole_lr_range(best: int) -> None:
    """The best lr of the neighbour is further away than the lrs with which it begins."""
    start = Short(valley(-best, 0.1, 0.1, 100.0, 99))
    beside = Short(valley(best, 0.1, 0.1, 50.0, 99))
    decision = Landscapes({(0,): start, (1,): beside}, (0,)).search(ONE_SEED)
    assert decision.points == ((1,),)
    assert (decision.states[0].index, decision.states[0].steps) == (best, 50.0)
