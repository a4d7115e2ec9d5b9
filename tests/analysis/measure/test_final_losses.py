"""Least final losses over the lrs, and where they reach a target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from analysis.measure.final_loss_frontier import (
    below_optimum_caveat,
    final_loss_draws,
    final_loss_frontier,
)
from analysis.measure.final_losses import least_by_parabola, merged, size_losses
from analysis.measure.loss_levels import choose_levels
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED
from tests.analysis.planted_final_losses import hyperbolas, steps

RNG = np.random.default_rng(0)


def runs_of(losses: dict[tuple[float, float], object], batch_size: int = 8) -> pd.DataFrame:
    """(lr, steps) -> the losses of its seeds; None: diverged."""
    rows = []
    for (lr, n_steps), of_seeds in losses.items():
        for seed, loss in enumerate(np.atleast_1d(np.array(of_seeds, float))):
            outcome = DIVERGED if np.isnan(loss) else ""
            rows.append((batch_size, lr, seed, n_steps, loss, outcome))
    columns = ["batch_size", "lr", "seed", "steps", "loss", "outcome"]
    return pd.DataFrame(rows, columns=pd.Index(columns)).sample(frac=1, random_state=1)


def frontier_of(sizes, targets):
    draws = {losses.batch_size: final_loss_draws(losses, targets, 0.0) for losses in sizes}
    return final_loss_frontier(sizes, draws, targets, {}, 0.0)


def test_the_least_loss_is_the_planted_one_between_the_lrs() -> None:
    lrs, best = 2.0 ** np.arange(-5, 3), 0.3
    runs = runs_of({
        (lr, n): 1 + 1 / n + 0.004 * np.log(lr / best) ** 2 for lr in lrs for n in (10, 20)
    })  # fmt: skip
    losses = size_losses(runs, 0, RNG)
    assert losses is not None
    assert losses.loss == pytest.approx([1.1, 1.05], rel=1e-5)  # the parabola is of the logarithm
    assert losses.lr == pytest.approx([best, best], rel=2e-3)
    assert losses.lrs[losses.best].tolist() == [0.25, 0.25]
    assert losses.better_lrs == ("", "")


def test_a_cliff_does_not_bend_the_minimum() -> None:
    runs = runs_of({(0.1, 10): 2.30, (0.2, 10): 2.28, (0.4, 10): 2.9})
    losses = size_losses(runs, 0, RNG)
    assert losses is not None
    assert (losses.loss[0], losses.lr[0]) == (2.28, 0.2)


def test_an_lr_of_which_one_seed_diverged_is_not_the_best_but_ends_no_grid() -> None:
    runs = runs_of({(0.1, 10): [3, 3], (0.2, 10): [2, 2], (0.4, 10): [1, np.nan]})
    losses = size_losses(runs, 0, RNG)
    assert losses is not None
    assert (losses.loss[0], losses.best[0], losses.better_lrs) == (2, 1, ("",))
    assert size_losses(runs_of({(0.1, 10): np.nan}), 0, RNG) is None


def test_the_end_of_the_lrs_is_that_of_each_length() -> None:
    """A grid that moves with the length, as one that follows a rule."""
    runs = runs_of({(0.1, 10): 3, (0.2, 10): 2, (0.4, 10): 3, (0.2, 20): 1, (0.4, 20): 2})
    losses = size_losses(runs, 0, RNG)
    assert losses is not None
    assert losses.better_lrs == ("", "below")
    one_lr = size_losses(runs_of({(0.1, 10): 3, (0.1, 20): 2}), 0, RNG)
    assert one_lr is not None
    assert one_lr.better_lrs == ("", "")  # chosen before


def test_an_lr_with_half_the_seeds_is_not_compared() -> None:
    losses = size_losses(runs_of({(0.1, 10): [3, 3], (0.2, 10): [1]}), 5, RNG)
    assert losses is not None
    assert losses.loss[0] == 3
    assert (losses.loss_draws == 3).all()


def test_lengths_and_lrs_that_were_rounded_are_one() -> None:
    values = merged(np.array([0.000345, 0.0003453, 0.000488]), 0.005)
    assert len(set(values)) == 2
    assert merged(np.array([100.0, 101.0, 102.0, 103.0]), 0.02).tolist() == [100, 100, 100, 103]


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=9), st.integers(0, 2**32 - 1))
def test_the_parabola_stays_between_the_points_around_the_least(losses, seed) -> None:
    """Never above the least, never far below it: 2 % of what it stands on."""
    y = np.array(losses)[None, None, :]
    x = np.sort(np.random.default_rng(seed).uniform(1e-4, 1, len(losses)))
    x *= 1 + 1e-3 * np.arange(len(x))
    least, at = least_by_parabola(x, y, 2.05)
    assert 0.95 * y.min() <= least[0, 0] <= 1.001 * y.min() * (1 + 0.02)
    i = y[0, 0].argmin()
    assert x[max(i - 1, 0)] <= at[0, 0] <= x[min(i + 1, len(x) - 1)]


def test_crossings_are_those_of_scipys_regression_and_cubic() -> None:
    """Another library's isotonic regression and monotone interpolation of the same means."""
    lengths = np.array([10.0, 20.0, 40.0, 80.0, 160.0])
    means = np.array([3.0, 2.2, 1.7, 1.4, 1.25])
    losses = size_losses(
        runs_of({(0.1, n): m for n, m in zip(lengths, means, strict=True)}), 0, RNG
    )
    assert losses is not None
    frontier = frontier_of([losses], [2.0, 1.5])
    fitted = isotonic_regression(means, increasing=False).x
    inverse = PchipInterpolator(-np.log(fitted), np.log(lengths))
    expected = np.exp(inverse(-np.log([2.0, 1.5])))
    assert frontier["steps"].to_numpy() == pytest.approx(expected, rel=1e-9)
    assert frontier["examples"].to_numpy() == pytest.approx(8 * expected, rel=1e-9)


def test_outcomes_on_either_side_of_the_lengths() -> None:
    losses = size_losses(runs_of({(0.1, 10): 3.0, (0.1, 20): 2.0}), 0, RNG)
    assert losses is not None
    frontier = frontier_of([losses], [4.0, 2.5, 1.0])
    assert frontier["outcome"].tolist() == [LEFT_CENSORED, REACHED, CENSORED]
    assert frontier["steps_upper"].iloc[0] == 10
    assert frontier["steps_lower"].iloc[2] == 20


def test_small_batches_that_take_more_examples_are_marked() -> None:
    sizes = []
    for size, factor in ((8, 2.0), (16, 1.0), (32, 1.02), (64, 1.5)):
        lengths = np.array([100.0, 1000.0, 10000.0]) * factor / size
        runs = runs_of({(0.1, n): loss for n, loss in zip(lengths, (3, 2, 1), strict=True)}, size)
        sizes.append(size_losses(runs, 0, RNG))
    frontier = frontier_of(sizes, [2.0])
    assert frontier["below_optimum"].tolist() == [True, False, False, False]
    caveat = below_optimum_caveat(frontier)
    assert caveat is not None
    assert caveat.where == "batch size 8 at target loss 2; the fewest at 16"
    assert below_optimum_caveat(frontier[1:]) is None


def test_levels_are_shared_where_groups_share_them() -> None:
    def group(top: float):
        tables = (runs_of({(0.1, n): top / n for n in (1, 2, 4, 8)}, size) for size in (8, 16))
        return [losses for runs in tables if (losses := size_losses(runs, 0, RNG)) is not None]

    shared = choose_levels([group(8.0), group(16.0)])
    assert shared[0] == shared[1]
    assert all(2 <= level <= 8 for level in shared[0])
    own = choose_levels([group(8.0), group(8000.0)])
    assert own[0] != own[1]
    assert all(1 <= level <= 8 for level in own[0])
    assert choose_levels([[]]) == [[]]


@pytest.mark.long
@pytest.mark.parametrize(
    ("n_seeds", "noise", "spacing"), [(4, 0.002, 2**0.5), (4, 0.0005, 2.0), (8, 0.005, 2**0.5)]
)
def test_planted_steps_lie_in_their_intervals(n_seeds, noise, spacing) -> None:
    """About 12 reached points in each of 40 tables."""
    hits, off = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        table = hyperbolas(rng, n_seeds=n_seeds, noise=noise, spacing=spacing).assign(outcome="")
        sizes = [size_losses(rows, 400, rng) for _, rows in table.groupby("batch_size")]
        frontier = frontier_of(sizes, [2.7, 2.4])
        frontier = frontier[(frontier["outcome"] == REACHED) & ~frontier["lr_at_edge"].astype(bool)]
        for row in frontier.to_dict("records"):
            truth = steps(row["batch_size"], row["target_loss"])
            hits.append(row["steps_low"] <= truth <= row["steps_high"])
            off.append(np.log(row["steps"] / truth))
    assert 0.93 <= np.mean(hits) <= 0.995
    assert abs(np.mean(off)) < 0.006
