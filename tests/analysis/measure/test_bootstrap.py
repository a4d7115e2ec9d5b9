"""The bootstrap over seeds: what it redoes, and what it shares."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.measure.bootstrap import draw_frontier, least_of_lrs, percentile_interval
from analysis.measure.cells import Cell
from scaling.curves import Crossings, isotonic_crossing

STEPS = np.arange(1.0, 41)


def cell(lr, speeds, n_diverged=0, seeds=None):
    excess = np.stack([10 / STEPS**speed for speed in speeds])
    seeds = np.arange(len(speeds)) if seeds is None else np.array(seeds)
    return Cell((), 4, lr, seeds, STEPS, excess, np.full(len(speeds), 40), n_diverged, 40)


def test_draws_are_crossings_of_resampled_means_and_seeds_are_shared_between_lrs():
    slow, fast = cell(0.1, [0.7, 0.8, 0.9]), cell(0.2, [0.8, 0.9, 1.0])
    draws = draw_frontier([slow, fast], [1.0], 200, np.random.default_rng(0))
    # with the same seeds in both cells the faster lr wins every resample
    assert (draws.best == 1).all()
    counts = np.array([[a, b, 3 - a - b] for a in range(4) for b in range(4 - a)])
    possible = isotonic_crossing(STEPS, fast.resample(counts)[0], [1.0])[:, 0]
    assert set(np.round(draws.steps[0], 9)) == set(np.round(possible, 9))


def test_the_lr_is_chosen_anew_in_every_resample():
    steady, wild = cell(0.1, [0.85, 0.85, 0.85, 0.85]), cell(0.2, [0.7, 0.7, 1.0, 1.0])
    draws = draw_frontier([steady, wild], [1.0], 300, np.random.default_rng(0))
    assert 0 < (draws.best == 1).mean() < 1
    assert np.ptp(draws.steps[0][draws.best[0] == 0]) < 1e-9


def test_diverged_cells_stay_out_and_unreached_targets_are_open():
    cells = [cell(0.1, [0.8, 0.9]), cell(0.2, [2.0, 2.0], n_diverged=1)]
    draws = draw_frontier(cells, [1.0, 1e-3], 50, np.random.default_rng(0))
    assert (draws.best[0] == 0).all()
    assert (draws.best[1] == -1).all()
    assert np.isnan(draws.steps[1]).all()


def test_cells_with_different_seeds():
    cells = [cell(0.1, [0.8, 0.8], seeds=[3, 5]), cell(0.2, [1.0], seeds=[5])]
    draws = draw_frontier(cells, [1.0], 400, np.random.default_rng(0))
    # seed 5 is missing from a quarter of the resamples of {3, 5}
    assert (draws.best[0] == 0).mean() == pytest.approx(0.25, abs=0.08)


def test_percentile_interval():
    low, high = percentile_interval(np.arange(1001.0))
    assert (low, high) == pytest.approx((25, 975), abs=1)
    low, high = percentile_interval(np.r_[np.full(30, np.nan), np.arange(970.0)])
    assert low == pytest.approx(25, abs=1)
    assert np.isnan(high)
    assert np.isnan(percentile_interval(np.empty((0, 2)))).all()


def test_draws_know_how_far_their_interpolation_may_be_off():
    draws = draw_frontier([cell(0.1, [0.8, 0.9])], [1.0, 1e-3], 50, np.random.default_rng(0))
    assert draws.steps_lower is not None
    assert draws.steps_upper is not None
    assert (draws.steps_lower[0] <= draws.steps[0]).all()
    assert (draws.steps[0] <= draws.steps_upper[0]).all()
    assert (draws.steps_upper[0] - draws.steps_lower[0] < 0.1).all()
    assert (draws.steps_lower[1] == 40).all()  # where the budget ended
    assert np.isnan(draws.steps_upper[1]).all()


def test_draws_refine_their_lr():
    cells = [cell(0.1, [0.80, 0.82]), cell(0.2, [0.90, 0.92]), cell(0.4, [0.85, 0.87])]
    draws = draw_frontier(cells, [1.0, 1e-3], 50, np.random.default_rng(0))
    assert draws.lr is not None
    assert ((draws.lr[0] > 0.2) & (draws.lr[0] < 0.283)).all()
    assert np.isnan(draws.lr[1]).all()


def test_equal_streams_resample_jointly():
    seeds = np.arange(4)
    cells = [cell(0.1, [0.7, 0.8, 0.9, 1.0]), cell(0.1, [0.8, 0.9, 1.0, 1.1])]
    one, two = (
        draw_frontier([each], [1.0], 200, np.random.default_rng(5), seeds).steps[0]
        for each in cells
    )
    assert np.corrcoef(one, two)[0, 1] > 0.99


def test_the_bound_is_the_first_budget_to_end():
    nan = np.nan
    steps = np.array([[[nan, nan], [30.0, nan], [nan, nan]]])
    lower = np.array([[[50.0, 40.0], [29.0, 40.0], [nan, nan]]])
    upper = np.array([[[nan, nan], [31.0, nan], [nan, nan]]])
    found = least_of_lrs(Crossings(steps, lower, upper), np.array([0.1, 0.2]))
    np.testing.assert_array_equal(found.steps_lower, [[40.0, 29.0, nan]])
    np.testing.assert_array_equal(found.best, [[-1, 0, -1]])


def test_a_first_evaluation_below_the_target_bounds_all_lrs():
    nan = np.nan
    steps = np.array([[[nan, 30.0], [nan, 7.0], [8.0, 9.0]]])
    lower = np.array([[[nan, 29.0], [nan, 7.0], [8.0, 9.0]]])
    upper = np.array([[[10.0, 31.0], [10.0, 7.0], [8.0, 9.0]]])
    found = least_of_lrs(Crossings(steps, lower, upper), np.array([0.1, 0.2]))
    np.testing.assert_array_equal(found.steps, [[nan, nan, 8.0]])
    np.testing.assert_array_equal(found.steps_lower, [[nan, nan, 8.0]])
    np.testing.assert_array_equal(found.steps_upper, [[10.0, 7.0, 8.0]])
    np.testing.assert_array_equal(found.best, [[-1, -1, 0]])
