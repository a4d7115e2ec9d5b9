"""The search for the least final loss: landscapes of final loss against lr, known beforehand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.search.decide_final_loss import FinalLossState, decide_final_loss
from sweeps.search.observations import (
    ALL_DIVERGED,
    BOUNDED,
    INTERIOR,
    LOCAL,
    RANGE_END,
    SearchOptions,
)

LOWEST, HIGHEST = -40, 40
ONE_SEED = SearchOptions(LOWEST, HIGHEST, start=0, seeds=(0,))
FOUR_SEEDS = replace(ONE_SEED, seeds=(0, 1, 2, 3))
Landscape = Callable[[int, int], float]  # excess loss of (index, seed); infinite: diverged


def searched(
    landscape: Landscape, options: SearchOptions
) -> tuple[FinalLossState, dict[tuple[int, int], float]]:
    """The end of a search and all that it trained; nothing is asked twice or out of range."""
    known: dict[tuple[int, int], float] = {}
    for _ in range(100):
        decision = decide_final_loss(known, options)
        if not decision.trials:
            return decision.state, known
        assert not decision.state.reason
        assert not set(decision.trials) & set(known)
        assert all(options.lowest <= index <= options.highest for index, _ in decision.trials)
        known |= {trial: landscape(*trial) for trial in decision.trials}
    raise AssertionError("it does not end")


def bowl(best: int, least: float = 1.0, slope: float = 0.02) -> Landscape:
    return lambda index, seed: least * math.exp(slope * abs(index - best))


def cliff(best: int) -> Landscape:
    """Falls up to the best, and diverges beyond."""
    return lambda index, seed: math.inf if index > best else math.exp(-0.05 * (index - best))


def noisy(landscape: Landscape, size: float) -> Landscape:
    """Each seed adds its own noise at every index."""
    return lambda index, seed: (
        landscape(index, seed) * math.exp(random.Random(f"{index} {seed}").gauss(0.0, size))
    )


@pytest.mark.parametrize("best", [-39, -23, -8, 0, 1, 17, 39])
def test_one_valley(best: int) -> None:
    state, trained = searched(bowl(best), FOUR_SEEDS)
    assert (state.index, state.loss, state.reason) == (best, 1.0, INTERIOR)
    assert len(trained) < 30  # of 81 lrs with 4 seeds


@pytest.mark.parametrize("best", [LOWEST, HIGHEST])
def test_a_range_too_small(best: int) -> None:
    state, _ = searched(bowl(2 * best), FOUR_SEEDS)
    assert (state.index, state.reason) == (best, RANGE_END)


@pytest.mark.parametrize("apart", [-32, -24, 24, 32])
def test_two_valleys(apart: int) -> None:
    """The better one is far from the start and looks worse in the first pass."""
    near, far = bowl(0, 1.05), bowl(apart + 3, 1.0, slope=0.06)
    assert far(apart, 0) > near(0, 0)
    state, _ = searched(lambda i, s: min(near(i, s), far(i, s)), FOUR_SEEDS)
    assert (state.index, state.loss, state.reason) == (apart + 3, 1.0, INTERIOR)


@pytest.mark.parametrize("best", range(-20, 21, 5))
def test_a_cliff_at_the_best_lr(best: int) -> None:
    state, _ = searched(noisy(cliff(best), 0.002), FOUR_SEEDS)
    assert (state.index, state.reason) == (best, BOUNDED)


def test_a_plateau_ends_the_search_inside_of_it() -> None:
    state, trained = searched(lambda i, s: 1 + 0.1 * max(0, abs(i) - 12), FOUR_SEEDS)
    assert state.loss == 1.0
    assert state.reason == INTERIOR
    assert len(trained) < 40


def test_everything_diverges() -> None:
    state, trained = searched(lambda i, s: math.inf, FOUR_SEEDS)
    assert (state.index, state.loss, state.reason) == (None, None, ALL_DIVERGED)
    assert min(trained)[0] == LOWEST


def test_only_the_lowest_lrs_survive() -> None:
    """Far below all that the first pass can try."""
    options = replace(FOUR_SEEDS, give_up_after=3)
    state, _ = searched(cliff(-37), options)
    assert (state.index, state.reason) == (-37, BOUNDED)


def test_a_seed_that_diverges_later_takes_its_lr_out() -> None:
    def landscape(index: int, seed: int) -> float:
        return math.inf if seed and index > 4 else bowl(9)(index, seed)

    state, _ = searched(landscape, FOUR_SEEDS)
    assert (state.index, state.reason) == (4, BOUNDED)


def test_one_lucky_seed_does_not_win() -> None:
    """The seed that searches is lucky at one lr; the mean over the seeds is not."""

    def landscape(index: int, seed: int) -> float:
        loss = bowl(0, slope=0.05)(index, seed)
        return 0.9 * loss if (index, seed) == (24, 0) else loss

    state, _ = searched(landscape, FOUR_SEEDS)
    assert state.index == 0


def test_the_mean_over_the_seeds_decides_not_the_first_one() -> None:
    shifts = (5, -2, -1, -2)
    state, _ = searched(lambda i, s: math.exp(0.002 * (i - shifts[s]) ** 2), FOUR_SEEDS)
    assert (state.index, state.reason) == (0, INTERIOR)


def test_noise_costs_few_trials_and_little_loss() -> None:
    """On a flat valley the mean of a neighbour is often lower by luck: 5 % of noise a seed."""
    true = lambda i: math.exp(0.002 * i**2)  # noqa: E731
    ends = [
        searched(lambda i, s, k=k: noisy(lambda i, s: true(i), 0.05)(i, s + 100 * k), FOUR_SEEDS)
        for k in range(40)
    ]
    assert sum(len(trained) for _, trained in ends) / len(ends) < 40
    assert sum(true(state.index or 0) - 1 for state, _ in ends) / len(ends) < 0.02


def test_a_part_of_the_range_is_said() -> None:
    state, _ = searched(bowl(3), replace(FOUR_SEEDS, give_up_after=3))
    assert (state.index, state.reason) == (3, LOCAL)


@settings(max_examples=60, deadline=None)
@given(
    best=st.integers(LOWEST + 1, HIGHEST - 1),
    slope=st.floats(0.01, 0.3),
    edge=st.integers(1, 60),
    n_search_seeds=st.integers(1, 4),
    shuffle=st.randoms(use_true_random=False),
)
def test_any_valley_with_any_cliff(
    best: int, slope: float, edge: int, n_search_seeds: int, shuffle: random.Random
) -> None:
    """Found exactly; and the order of what is known does not matter."""

    def landscape(index: int, seed: int) -> float:
        return math.inf if index >= best + edge else bowl(best, slope=slope)(index, seed)

    options = replace(FOUR_SEEDS, n_search_seeds=n_search_seeds)
    state, trained = searched(landscape, options)
    assert state.index == best
    some = shuffle.sample(sorted(trained), len(trained) // 2)
    again = list(some)
    shuffle.shuffle(again)
    one, other = (
        decide_final_loss({trial: trained[trial] for trial in order}, options)
        for order in (some, again)
    )
    assert one == other
