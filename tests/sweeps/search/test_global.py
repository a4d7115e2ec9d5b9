"""Counter-examples: landscapes in which a search that follows one valley goes wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from sweeps.search.observations import BOUNDED, INTERIOR, LOCAL, RANGE_END
from tests.sweeps.search.test_frontier_search import (
    FOUR_SEEDS,
    HIGHEST,
    LOWEST,
    ONE_SEED,
    Landscape,
    valley,
)


def cone(best: int, slope: float, least: float) -> Callable[[int], float]:
    return lambda index: least * math.exp(slope * abs(index - best))


@pytest.mark.parametrize("apart", [-34, -20, 20, 34])
def test_two_valleys(apart: int) -> None:
    """The better one is far from the start, behind lrs that take far longer."""
    near, far = cone(0, 0.1, 130.0), cone(apart, 0.1, 100.0)
    (state,) = Landscape(lambda i: min(near(i), far(i))).search(ONE_SEED)
    assert (state.index, state.steps, state.reason) == (apart, 100.0, INTERIOR)


@pytest.mark.parametrize("best", range(-20, 21, 5))
def test_a_cliff_at_the_best_lr_with_noise(best: int) -> None:
    """Steps fall as 1/lr up to the largest stable lr; every seed adds its noise."""

    def noise(index: int, seed: int) -> float:
        return random.Random(f"{index} {seed}").gauss(0.0, 0.01)

    found = Landscape(valley(best, 0.086, 0.5, 100.0, best + 1), noise=noise)
    (state,) = found.search(FOUR_SEEDS)
    assert (state.index, state.reason) == (best, BOUNDED)


def test_a_plateau_with_a_dip() -> None:
    """Nearly equal steps over half the range, but for a dip between two that the scan tries."""
    plateau = lambda i: 100.0 * math.exp(0.002 * abs(i + 16) + 0.1 * max(0, abs(i) - 20))  # noqa: E731
    steps = lambda i: plateau(i) * (1 - 0.15 * max(0.0, 1 - abs(i - 12) / 4))  # noqa: E731
    found = Landscape(steps)
    (state,) = found.search(ONE_SEED)
    assert (state.index, state.reason) == (12, INTERIOR)


def test_one_lucky_seed_in_the_wrong_valley() -> None:
    """The first seed prefers -24 by 5 %, the mean of all prefers 8 by far."""
    left, right = cone(-24, 0.1, 100.0), cone(8, 0.1, 100.0)

    def noise(index: int, seed: int) -> float:
        return (-0.05 if seed == 0 else 0.2) if index < -8 else 0.0

    found = Landscape(lambda i: min(left(i), right(i)), noise=noise)
    (state,) = found.search(FOUR_SEEDS)
    assert state.index == 8


def test_targets_whose_best_lrs_lie_far_apart() -> None:
    easy, hard = cone(30, 0.03, 50.0), cone(-30, 0.05, 900.0)
    found = Landscape(easy, lambda i: max(easy(i), hard(i)))
    states = found.search(FOUR_SEEDS)
    assert [state.index for state in states] == [30, -30]


@pytest.mark.parametrize("hole", [(-4, 4), (0, 8), (-8, 0), (2, 14)])
def test_a_hole_of_divergence_in_the_middle(hole: tuple[int, int]) -> None:
    low, high = hole
    whole = valley(20, 0.08, 0.1, 100.0, 100)
    found = Landscape(lambda i: None if low <= i <= high else whole(i))
    (state,) = found.search(ONE_SEED)
    assert (state.index, state.reason) == (20, INTERIOR)


def test_a_range_too_small() -> None:
    options = replace(ONE_SEED, lowest=-3, highest=2)
    (state,) = Landscape(valley(20, 0.1, 0.1, 100.0, 100)).search(options)
    assert (state.index, state.reason) == (2, RANGE_END)
    (state,) = Landscape(valley(-1, 0.1, 0.1, 100.0, 100)).search(options)
    assert (state.index, state.reason) == (-1, INTERIOR)


@pytest.mark.parametrize("centre", range(LOWEST + 2, HIGHEST - 1, 5))
def test_a_target_that_five_neighbours_reach(centre: int) -> None:
    """Others come the nearer to it the nearer they are, and never reach it."""

    class Window(Landscape):
        def shortfall(self, steps: float | None, last_step: int) -> float:
            return 0.0 if steps is None else math.log(steps / last_step)

    def steps(index: int) -> float:
        away = abs(index - centre)
        return 100.0 * math.exp(0.01 * away) if away <= 2 else 1e6 * math.exp(0.1 * away)

    found = Window(steps)
    (state,) = found.search(ONE_SEED)
    assert state.index == centre
    grid = (HIGHEST - LOWEST + 1) * 200
    assert sum(one.last_step for one in found.trials.values()) < grid


def test_interior_is_local_where_a_part_of_the_range_was_tried() -> None:
    part = replace(ONE_SEED, give_up_after=5)
    found = Landscape(valley(3, 0.1, 0.1, 100.0, 100))
    (state,) = found.search(part)
    assert (state.index, state.reason) == (3, LOCAL)
    assert min(found.trials)[0] > LOWEST + part.stride
