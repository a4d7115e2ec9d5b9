"""Steps to target: the isotonic crossing against scipy's regression, cells and their outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.measure.cell_frame import cell_frame
from analysis.measure.cells import read_cells, read_one_by_one
from scaling.curves import isotonic_crossing, read_crossings
from tests.analysis.crossed import crossing_by_scipy


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
    expected = crossing_by_scipy(steps, curve, level)
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_many_curves_and_levels_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    steps = np.arange(50.0)
    curves = np.exp(-steps / 15) + 0.2 * rng.standard_normal((30, 50))
    lengths, levels = rng.integers(0, 51, size=30), [0.7, 0.2, -0.1]
    together = isotonic_crossing(steps, curves, levels, lengths)
    for i, length in enumerate(lengths):
        for k, level in enumerate(levels):
            alone = (
                crossing_by_scipy(steps[:length], curves[i, :length], level) if length else np.nan
            )
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
    frames = _frames([[8, 6, 4, 2, 1, 0.5, 0.5], [8, 4, 2, 1, 0.5, 0.25, 0.25]])
    mean = np.array([[8, 5, 3, 1.5, 0.75, 0.375, 0.375]])
    row = _steps(frames, 1.0)
    assert row["steps"] == pytest.approx(isotonic_crossing(np.arange(7.0), mean, [1.0])[0, 0])
    assert (row["outcome"], row["n_seeds"], row["n_diverged"], row["last_step"]) == (
        "reached", 2, 0, 6,
    )  # fmt: skip


def test_the_irreducible_loss_is_taken_off_before_logarithms():
    curve = 10 / np.arange(1.0, 9)
    shifted = _frames([curve + 5], steps=[range(1, 9)], floor=5.0)
    assert _steps(shifted, 5 + 3.0, floor=5.0)["steps"] == pytest.approx(10 / 3)


def test_the_window_ends_with_the_shortest_seed():
    long, short = [8, 6, 4, 3, 2, 1, 0.5, 0.2], [8, 4, 2, 1.1]
    row = _steps(_frames([long, short]), 1.0)
    assert (row["outcome"], row["last_step"]) == ("censored", 3)
    assert np.isnan(row["steps"])


def test_runs_that_stop_at_the_target_are_read_one_by_one():
    """Their common window ends where the first of them touches it: no mean curve crosses."""
    curves = [[8, 4, 1], [8, 4, 2, 1], [8, 7, 6, 4, 2, 1, 0.9]]
    frames = _frames(curves, steps=[range(1, 1 + len(curve)) for curve in curves])
    row = _steps(frames, 1.0)
    own = [3, 4, 6]  # the last block of each stands at the target, or is pooled with what follows
    assert row["outcome"] == "reached"
    assert row["steps"] == pytest.approx(np.exp(np.log(own).mean()), rel=0.05)
    assert row["steps_lower"] <= row["steps"] <= row["steps_upper"]


BOTH = [[8, 4, 1, 1.2, 0.8, 0.5, 0.4, 0.3], [8, 4, 2, 0.9, 0.7, 0.5, 0.4, 0.3]]


def test_what_a_search_compares_with_one_seed_may_end_early():
    """Most cells have one seed and end soon after it; those with all seeds went on."""
    trials, frame = _frames(BOTH)
    for number, lr in enumerate((0.2, 0.3, 0.4)):
        one = trials.head(1).assign(lr=lr, run_id=f"s{number}")
        of_one = frame[(frame["run_id"] == "r0") & (frame["step"] <= 2)]
        trials = pd.concat([trials, one], ignore_index=True)
        frame = pd.concat([frame, of_one.assign(run_id=f"s{number}")])
    cells = read_cells(trials, frame, [])
    assert not read_one_by_one(cells, 1.0)
    assert cell_frame(cells, [1.0], 0.0)["steps"][0] == _steps(_frames(BOTH), 1.0)["steps"]


def test_one_seed_that_never_touches_leaves_a_lower_bound():
    curves = [[8, 4, 1], [8, 4, 1], [8, 4, 1], [8, 7, 6, 5, 4, 3, 2]]
    trials, frame = _frames(curves, steps=[range(1, 1 + len(curve)) for curve in curves])
    short = trials.head(3).assign(lr=0.2, run_id=["s0", "s1", "s2"])
    more = [frame[frame["run_id"] == f"r{i}"].assign(run_id=f"s{i}") for i in range(3)]
    frames = pd.concat([trials, short], ignore_index=True), pd.concat([frame, *more])
    cells = cell_frame(read_cells(*frames, []), [1.0], 0.0)
    assert cells["outcome"].tolist() == ["censored", "reached"]
    assert cells["steps_lower"][0] == pytest.approx((3**3 * 7) ** 0.25)


@pytest.mark.parametrize("level", [2.0, 3.0])
def test_met_at_the_first_evaluation_is_an_upper_bound(level):
    frames = _frames([[2, 1, 0.5], [2, 1, 0.5]], steps=[[300, 600, 1200]] * 2)
    row = _steps(frames, level)
    assert (row["outcome"], row["steps_upper"]) == ("left_censored", 300)
    assert np.isnan(row[["steps", "steps_lower"]].astype(float)).all()


def test_between_step_zero_and_a_late_first_evaluation_nothing_is_resolved():
    row = _steps(_frames([[8, 1, 0.5]], steps=[[0, 300, 600]]), 2.0)
    assert (row["outcome"], row["steps_upper"]) == ("left_censored", 300)


@pytest.mark.parametrize("last", [3, 5, 7, 91, 1012, 9973, 123_457])
@pytest.mark.parametrize("level", [0.5, 0.0, -1.0])
def test_the_last_loss_exactly_on_the_target(last, level):
    """exp(log(step)) may exceed the last step by a bit: it must not leave the curve."""
    steps = np.array([1.0, 2.0, last])
    found = read_crossings(steps, np.array([[2.0, 1.0, level]]) + 0.0, [level])
    assert found.steps[0, 0] == pytest.approx(last, rel=1e-12)
    assert found.steps[0, 0] <= last
    assert last - 1e-9 * last <= found.lower[0, 0] <= found.upper[0, 0] <= last


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
