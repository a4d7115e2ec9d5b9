"""The bootstrap over seeds: what it redoes, and what it shares."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.bootstrap import draw_frontier, percentile_interval
from analysis.steps_to_target import Cell, isotonic_crossing

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
