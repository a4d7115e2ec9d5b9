"""Steps to target: the isotonic crossing against scipy's regression, cells and their outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import isotonic_regression

from analysis.cells import cell_frame, read_cells
from analysis.crossings import isotonic_crossing
from scaling.target import interpolate_crossing


def _by_scipy(steps, curve, level):
    """The definition, step by step: fit, find the two blocks, interpolate."""
    fit = isotonic_regression(curve, increasing=False)
    below = np.flatnonzero(fit.x <= level)
    if not len(below):
        return np.nan
    if below[0] == 0:
        return steps[0]
    blocks = list(zip(fit.blocks[:-1], fit.blocks[1:], strict=True))
    right = next(i for i, (begin, _) in enumerate(blocks) if begin == below[0])

    def position(begin, end):
        inside = steps[begin:end]
        inside = inside[inside > 0]
        return np.exp(np.log(inside).mean()) if len(inside) else 0.0

    before, after = blocks[right - 1], blocks[right]
    return interpolate_crossing(
        position(*before), fit.x[before[0]], position(*after), fit.x[after[0]], level
    )


@settings(max_examples=300, deadline=None)
@given(
    noise=arrays(np.float64, st.integers(2, 40), elements=st.floats(-1, 1, width=32)),
    level=st.floats(0.05, 1.5),
    slope=st.floats(-0.02, 0.2),
    with_zero=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_crossing_equals_scipys_isotonic_regression(noise, level, slope, with_zero, seed):
    jitter = 1e-3 * np.random.default_rng(seed).standard_normal(len(noise))  # no exact ties
    curve = 1.0 - slope * np.arange(len(noise)) + 0.5 * noise + jitter
    steps = np.arange(len(curve), dtype=float) + (0 if with_zero else 1)
    found = isotonic_crossing(steps, curve[None, :], [level])[0, 0]
    expected = _by_scipy(steps, curve, level)
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_many_curves_and_levels_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    steps = np.arange(50.0)
    curves = np.exp(-steps / 15) + 0.2 * rng.standard_normal((30, 50))
    lengths, levels = rng.integers(0, 51, size=30), [0.7, 0.2, -0.1]
    together = isotonic_crossing(steps, curves, levels, lengths)
    for i, length in enumerate(lengths):
        for k, level in enumerate(levels):
            alone = _by_scipy(steps[:length], curves[i, :length], level) if length else np.nan
            assert together[i, k] == pytest.approx(alone, rel=1e-9, nan_ok=True)


def test_power_law_curve_is_crossed_exactly():
    steps = np.array([1.0, 2, 3, 5, 8, 13])
    assert isotonic_crossing(steps, 10 / steps[None, :], [3.0])[0, 0] == pytest.approx(10 / 3)


def test_flat_tail_at_the_level_counts_as_reached():
    curve = np.array([[4.0, 2.0, 1.0, 1.0]])
    assert isotonic_crossing(np.arange(1.0, 5), curve, [1.0])[0, 0] == pytest.approx(12**0.5)


def test_a_touch_that_is_taken_back_is_no_crossing():
    curve = np.array([[4.0, 2.0, 0.9, 2.0, 2.0, 2.0]])
    assert np.isnan(isotonic_crossing(np.arange(6.0), curve, [1.0])[0, 0])


def _frames(curves, *, outcomes=None, steps=None, floor=0.0):
    """One cell: a list of loss curves, a seed each."""
    trials = pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(len(curves))],
            "batch_size": 4,
            "lr": 0.1,
            "seed": range(len(curves)),
            "irreducible_loss": floor,
            "outcome": outcomes or ["reached"] * len(curves),
        }
    )
    steps = steps or [range(len(curve)) for curve in curves]
    rows = [
        (f"r{i}", s, loss)
        for i, curve in enumerate(curves)
        for s, loss in zip(steps[i], curve, strict=True)
    ]
    return trials, pd.DataFrame(rows, columns=["run_id", "step", "loss"])


def _steps(frames, target, floor=0.0):
    trials, curves = frames
    cells = read_cells(trials, curves, [])
    return cell_frame(cells, [target], floor).iloc[0]


def test_seeds_are_averaged_before_the_crossing():
    frames = _frames([[8, 6, 4, 2, 1, 0.5], [8, 4, 2, 1, 0.5, 0.25]])
    mean = np.array([[8, 5, 3, 1.5, 0.75, 0.375]])
    row = _steps(frames, 1.0)
    assert row["steps"] == pytest.approx(isotonic_crossing(np.arange(6.0), mean, [1.0])[0, 0])
    assert (row["outcome"], row["n_seeds"], row["n_diverged"], row["last_step"]) == (
        "reached", 2, 0, 5,
    )  # fmt: skip


def test_the_irreducible_loss_is_taken_off_before_logarithms():
    curve = 10 / np.arange(1.0, 9)
    shifted = _frames([curve + 5], steps=[range(1, 9)], floor=5.0)
    assert _steps(shifted, 5 + 3.0, floor=5.0)["steps"] == pytest.approx(10 / 3)


def test_the_window_ends_with_the_shortest_seed():
    long, short = [8, 6, 4, 3, 2, 1, 0.5, 0.2], [8, 4, 2, 1]
    row = _steps(_frames([long, short]), 1.0)
    assert (row["outcome"], row["last_step"]) == ("censored", 3)
    assert np.isnan(row["steps"])


def test_a_last_evaluation_off_the_schedule_is_left_out():
    steps = [[0, 1, 2, 4, 8], [0, 1, 2, 3]]  # the second trial ended at step 3
    cell = read_cells(*_frames([[8, 4, 2, 1, 0.5], [8, 4, 2, 1.5]], steps=steps), [])[0]
    assert cell.steps.tolist() == [0, 1, 2, 4, 8]
    assert cell.lengths.tolist() == [5, 3]
    assert cell.mean_curve()[0].tolist() == [0, 1, 2]


def test_one_diverged_seed_makes_a_diverged_cell():
    outcomes = ["reached", "diverged"]
    row = _steps(_frames([[8, 2, 0.5], [8, 2, 0.5]], outcomes=outcomes), 1.0)
    assert (row["outcome"], row["n_diverged"]) == ("diverged", 1)
    assert np.isnan(row["steps"])


def test_resampling_weighs_seeds_and_windows():
    cell = read_cells(*_frames([[8, 6, 4, 2], [8, 4]]), [])[0]
    means, lengths = cell.resample(np.array([[2, 0], [3, 1], [0, 2], [0, 0]]))
    assert lengths.tolist() == [4, 2, 2, 0]
    np.testing.assert_allclose(means[0], [8, 6, 4, 2])
    np.testing.assert_allclose(means[1, :2], [8, 5.5])
