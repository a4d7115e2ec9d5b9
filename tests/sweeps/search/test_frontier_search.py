"""The search alone: it finds the least of what it is given, asks nothing twice, and ends."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.schema import CENSORED, REACHED
from sweeps.search.decide import decide
from sweeps.search.observations import (
    ALL_DIVERGED,
    BOUNDED,
    INTERIOR,
    NOT_REACHED,
    RANGE_END,
    CellObservations,
    Observed,
    Reading,
    SearchOptions,
)

LOWEST, HIGHEST, BUDGET = -40, 40, 20000
ONE_SEED = SearchOptions(LOWEST, HIGHEST, start=0, seeds=(0,))
FOUR_SEEDS = SearchOptions(LOWEST, HIGHEST, start=0, seeds=(0, 1, 2, 3))


class Landscape:
    """steps[target](index): steps to each target, easiest first; None: diverges at `blow_up`.

    A trial ends at twice its steps to the hardest target. Seeds are alike but for `noise`, the log
    steps that a seed adds.
    """

    def __init__(self, *steps, blow_up=5, noise=None, budget=BUDGET) -> None:
        self.steps, self.blow_up, self.noise, self.budget = steps, blow_up, noise, budget
        self.trials: dict[tuple[int, int], Observed] = {}
        self.asked: list[tuple[tuple[int, int], int]] = []

    def true_steps(self, target: int, index: int, seeds) -> float | None:
        value = self.steps[target](index)
        if value is None or self.noise is None:
            return value
        return float(np.mean([value * math.exp(self.noise(index, seed)) for seed in seeds]))

    def train(self, trial: tuple[int, int], cap: int) -> None:
        index, seed = trial
        before = self.trials.get(trial)
        assert LOWEST <= index <= HIGHEST
        assert 1 <= cap <= self.budget
        assert before is None or (before.last_step < cap and not before.ended)
        self.asked.append((trial, cap))
        hardest = self.true_steps(-1, index, [seed])
        if hardest is None:
            over = cap >= self.blow_up
            last_step = min(cap, self.blow_up)
            self.trials[trial] = Observed(last_step, over, over)
        else:
            end = min(math.ceil(2 * hardest), self.budget)
            self.trials[trial] = Observed(min(cap, end), cap >= end)

    def shortfall(self, steps: float | None, last_step: int) -> float:
        """How near a trial comes is unknown, unless a test says it."""
        return math.inf

    def read(self, index: int, seeds: tuple[int, ...]) -> list[Reading]:
        last_step = min(self.trials[index, seed].last_step for seed in seeds)
        readings = []
        for target in range(len(self.steps)):
            steps = self.true_steps(target, index, seeds)
            if steps is None or steps > last_step:
                shortfall = self.shortfall(steps, last_step)
                readings.append(Reading(CENSORED, last_step=last_step, shortfall=shortfall))
            else:
                readings.append(Reading(REACHED, steps, last_step))
        return readings

    def observations(self) -> CellObservations:
        return CellObservations(self.budget, len(self.steps), self.trials, self.read)

    def search(self, options: SearchOptions, order: random.Random | None = None):
        for _ in range(400):
            decision = decide(self.observations(), options)
            if not decision.trials:
                assert all(state.reason for state in decision.states)
                return decision.states
            trials = list(decision.trials.items())
            assert trials == sorted(trials)  # in an order that nothing but the trials decides
            if order is not None:
                order.shuffle(trials)
            for trial, cap in trials:
                self.train(trial, cap)
        raise AssertionError("the search does not end")


def valley(best: int, below: float, above: float, least: float, cliff: int):
    """Unimodal steps: slopes in log steps on either side of `best`, divergence from `cliff` on."""

    def steps(index: int) -> float | None:
        if index >= cliff:
            return None
        slope = below if index < best else above
        return least * math.exp(slope * abs(index - best))

    return steps


valleys = st.builds(
    lambda best, below, above, least, gap: valley(best, below, above, least, best + gap),
    best=st.integers(LOWEST, HIGHEST),
    below=st.floats(0.01, 0.3),
    above=st.floats(0.01, 0.6),
    least=st.floats(2.0, 800.0),
    gap=st.integers(1, 100),
)


def least_of(steps) -> int:
    known = {i: steps(i) for i in range(LOWEST, HIGHEST + 1)}
    return min((i for i in known if known[i] is not None), key=lambda i: (known[i], i))


@settings(max_examples=120, deadline=None)
@given(valleys)
def test_finds_the_least_of_the_lattice(steps) -> None:
    found = Landscape(steps)
    (state,) = found.search(ONE_SEED)
    assert state.index is not None
    assert state.index == least_of(steps)
    assert state.steps == steps(state.index)
    around = {max(state.index - 1, LOWEST), min(state.index + 1, HIGHEST)}
    assert around <= {index for index, _ in found.trials}


@settings(max_examples=40, deadline=None)
@given(st.lists(valleys, min_size=2, max_size=3))
def test_finds_the_least_of_every_target_with_all_seeds(steps) -> None:
    """Where one lr diverges at a target it does at all: the cliff is the lowest of them."""
    cliff = min(
        next((i for i in range(LOWEST, HIGHEST + 2) if one(i) is None), HIGHEST + 2)
        for one in steps
    )
    hardest = lambda i: None if i >= cliff else 1e-9 + sum(one(i) for one in steps)  # noqa: E731
    curves = [
        lambda i, one=one: None if i >= cliff else one(i)
        for one in steps
        if cliff > LOWEST and least_of(one) < cliff
    ]
    fewest = hardest(least_of(hardest)) if curves else None
    if fewest is None or fewest > BUDGET / 4:
        return
    found = Landscape(*curves, hardest)
    states = found.search(FOUR_SEEDS)
    for state, one in zip(states, [*curves, hardest], strict=True):
        assert state.index is not None
        assert state.steps == pytest.approx(one(least_of(one)), rel=1e-9)
        for index in {state.index - 1, state.index, state.index + 1} & set(
            range(LOWEST, HIGHEST + 1)
        ):
            seeds = {seed for i, seed in found.trials if i == index}
            diverged = any(found.trials[index, seed].diverged for seed in seeds)
            assert diverged or seeds == {0, 1, 2, 3}


@settings(max_examples=25, deadline=None)
@given(valleys, st.integers(0, 2**31))
def test_ends_near_the_best_of_noisy_seeds_and_the_order_does_not_matter(steps, number) -> None:
    def noise(index: int, seed: int) -> float:
        return random.Random(f"{number} {index} {seed}").gauss(0.0, 0.05)

    first, second = Landscape(steps, noise=noise), Landscape(steps, noise=noise)
    states = first.search(FOUR_SEEDS)
    assert second.search(FOUR_SEEDS, random.Random(number)) == states
    assert sorted(first.asked) == sorted(second.asked)
    (state,) = states
    assert state.index is not None
    assert state.steps is not None
    around = [i for i in (state.index - 1, state.index + 1) if LOWEST <= i <= HIGHEST]
    means = [first.true_steps(0, index, FOUR_SEEDS.seeds) for index in around]
    assert all(mean is None or state.steps <= mean for mean in means)


def test_moves_on_where_the_other_seeds_prefer_another_lr() -> None:
    def noise(index: int, seed: int) -> float:
        return 0.0 if seed == 0 else 0.02 * (abs(index - 6) - abs(index))

    found = Landscape(valley(0, 0.02, 0.02, 100.0, 100), noise=noise)
    (state,) = found.search(FOUR_SEEDS)
    means = {i: found.true_steps(0, i, FOUR_SEEDS.seeds) for i in range(LOWEST, HIGHEST + 1)}
    assert state.index == min(means, key=lambda i: means[i] or math.inf)
    assert state.index == 6  # the first seed alone prefers 0


def test_a_lucky_first_seed_is_given_up_for_what_all_seeds_reach() -> None:
    """At 8 to 12 the first seed ends, its tail and all, before the others are near."""

    def noise(index: int, seed: int) -> float:
        return -3.0 if seed == 0 and 8 <= index <= 12 else 0.0

    found = Landscape(valley(10, 0.05, 0.05, 400.0, 100), noise=noise)
    (state,) = found.search(FOUR_SEEDS)
    assert state.index in (7, 13)
    assert state.steps == found.true_steps(0, state.index, FOUR_SEEDS.seeds)


def test_the_mean_may_need_longer_than_the_first_seed() -> None:
    def noise(index: int, seed: int) -> float:
        return 0.0 if seed == 0 else 1.5  # means of 3.6 times, beyond the cap of the first seed

    class SlowTail(Landscape):
        def train(self, trial: tuple[int, int], cap: int) -> None:
            super().train(trial, cap)
            self.trials[trial] = Observed(min(cap, BUDGET), cap >= BUDGET)  # a long tail

    found = SlowTail(valley(3, 0.1, 0.1, 100.0, 100), noise=noise)
    (state,) = found.search(FOUR_SEEDS)
    assert state.index == 3
    assert state.steps is not None
    assert state.steps == found.true_steps(0, 3, FOUR_SEEDS.seeds)
    window = min(found.trials[3, seed].last_step for seed in FOUR_SEEDS.seeds)
    assert window >= 1.5 * state.steps  # long enough to read an isotonic crossing from


def test_reasons() -> None:
    assert Landscape(valley(3, 0.1, 0.1, 50, 30)).search(ONE_SEED)[0].reason == INTERIOR
    assert Landscape(valley(30, 0.1, 0.1, 50, 31)).search(ONE_SEED)[0].reason == BOUNDED
    assert Landscape(valley(60, 0.1, 0.1, 50, 90)).search(ONE_SEED)[0].reason == RANGE_END
    assert Landscape(valley(-60, 0.1, 0.1, 50, 90)).search(ONE_SEED)[0].reason == RANGE_END


def test_gives_up_after_a_stated_effort() -> None:
    """And no trial is longer than the budget, nor any asked at a target that nothing reaches."""
    found = Landscape(lambda index: 1e6 if index < 20 else None)
    (state,) = found.search(ONE_SEED)
    assert (state.index, state.steps, state.reason) == (None, None, NOT_REACHED)
    assert state.n_tried == len(found.trials) <= ONE_SEED.give_up_after
    hopeless = Landscape(lambda index: None)
    (state,) = hopeless.search(ONE_SEED)
    assert (state.index, state.reason) == (None, ALL_DIVERGED)
    assert min(hopeless.trials)[0] == LOWEST


def test_a_hopeless_target_does_not_spoil_the_others() -> None:
    found = Landscape(valley(-7, 0.1, 0.1, 50, 12), lambda i: 1e6 if i < 12 else None)
    easy, hard = found.search(FOUR_SEEDS)
    assert (easy.index, easy.reason) == (-7, INTERIOR)
    assert hard.reason == NOT_REACHED


@settings(max_examples=60, deadline=None)
@given(
    valleys,
    st.integers(LOWEST, HIGHEST),
    st.integers(1, 12),
    st.integers(-30, 30),
    st.integers(2, 4000),
)
def test_always_ends_with_a_reason(steps, cliff, stride, start, budget) -> None:
    """Whatever the range, the stride and the budget, also with a target that is out of reach."""
    options = SearchOptions(-33, 35, start, seeds=(0, 1), stride=stride)
    curves = [lambda i, f=f: None if i >= cliff else f * (steps(i) or 1e9) for f in (1, 40)]
    found = Landscape(*curves, budget=budget)
    for state in found.search(options):
        assert (state.index is None) == (state.reason in (NOT_REACHED, ALL_DIVERGED))


def test_trials_stop_at_the_cap() -> None:
    """Once the target is reached nothing runs longer than cap_factor times the fewest steps, and
    what the first seed only compares not longer than 1.25 times."""
    found = Landscape(valley(0, 0.2, 0.2, 500.0, 60))
    found.search(FOUR_SEEDS)
    scan = {math.ceil(BUDGET / 64), math.ceil(BUDGET / 64) * 2}
    assert {cap for _, cap in found.asked} == {*scan, 625, 1000}
    assert {index for (index, _), cap in found.asked if cap == 1000} == {-1, 0, 1}


def test_the_next_cap_of_a_scan_follows_the_trend() -> None:
    class Foretold(Landscape):
        def read(self, index: int, seeds: tuple[int, ...]) -> list[Reading]:
            expected = self.steps[0](index)
            return [replace(one, expected_steps=expected) for one in super().read(index, seeds)]

    steps = valley(0, 0.2, 0.2, 1300.0, 60)
    foretold, doubled = Foretold(steps), Landscape(steps)
    assert foretold.search(ONE_SEED) == doubled.search(ONE_SEED)
    caps = [[cap for (index, _), cap in one.asked if index == 8] for one in (foretold, doubled)]
    assert caps == [[313, 626, 1252, math.ceil(1.2 * 1252)], [313, 626, 1252, 2504]]


def test_a_best_seen_in_too_short_a_window_is_looked_at_again() -> None:
    """Where no scan looks, the loss touches the target and comes back to it only later."""

    class Rebound(Landscape):
        def read(self, index: int, seeds: tuple[int, ...]) -> list[Reading]:
            (reading,) = super().read(index, seeds)
            if index == 3 and self.trials[3, 0].last_step < 1.5 * BUDGET / 20:
                return [Reading(REACHED, 0.95 * BUDGET / 20, reading.last_step)]
            return [reading]

    steps = valley(0, 0.02, 0.02, BUDGET / 20, 60)
    found = Rebound(lambda i: 1.2 * BUDGET / 20 if i == 3 else steps(i))
    (state,) = found.search(ONE_SEED)
    assert (state.index, state.steps) == (0, BUDGET / 20)


def test_first_cap_is_raised_until_the_target_is_reached() -> None:
    found = Landscape(lambda index: 19000.0 if abs(index) < 3 else 1e9)
    (state,) = found.search(ONE_SEED)
    assert state.steps == 19000.0
    scan = [cap for (index, _), cap in found.asked if index == 0]
    assert scan == [313, 626, 1252, 2504, 5008, 10016, BUDGET]


def test_a_seed_that_diverges_counts_for_its_lr() -> None:
    class OneBlowsUp(Landscape):
        def train(self, trial: tuple[int, int], cap: int) -> None:
            super().train(trial, cap)
            if trial[0] >= 1 and trial[1] == 3:
                self.trials[trial] = Observed(5, True, True)

    found = OneBlowsUp(valley(4, 0.1, 0.1, 100, 50))
    (state,) = found.search(FOUR_SEEDS)
    assert (state.index, state.reason) == (0, BOUNDED)
