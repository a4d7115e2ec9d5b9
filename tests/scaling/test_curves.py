from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.curves import interpolate_crossing, isotonic_crossing, read_crossings, seed_mean


@given(
    st.integers(1, 10_000),
    st.integers(1, 1000),
    st.floats(1e-3, 10),
    st.floats(1.01, 10),
    st.floats(0.0, 1.0),
)
def test_recovers_a_power_law(
    before: int, gap: int, coefficient: float, exponent: float, share: float
) -> None:
    """On loss = c * step^-p the interpolation is exact wherever the target lies."""
    after = before + gap
    true = before * (after / before) ** share
    losses = [coefficient * step**-exponent for step in (before, after, true)]
    if losses[0] > losses[2] >= losses[1] > 0:
        found = interpolate_crossing(before, losses[0], after, losses[1], losses[2])
        assert found == pytest.approx(true, rel=1e-6)


def test_from_step_zero_is_linear_in_steps() -> None:
    assert interpolate_crossing(0, 4.0, 2, 1.0, 2.0) == pytest.approx(1.0)


def test_losses_that_have_no_logarithm_are_linear() -> None:
    assert interpolate_crossing(1, 1.0, 4, -1.0, 0.0) == pytest.approx(2.0)


CURVES = {
    "hyperbola": lambda step: 2 / (1 + 3 * step / 300),
    "with a floor": lambda step: 100 / step + 1 / 6,
    "exponential": lambda step: 2 * np.exp(-np.log(4) * step / 300),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("ratio", "allowed"), [(1.05, 1e-3), (1.2, 1e-4), (1.4, 1e-3), (2, 0.02)])
def test_sparse_evaluations_are_crossed_where_the_curve_is(
    name: str, ratio: float, allowed: float
) -> None:
    """All reach 0.5 at step 300; a chord is off by up to 4 % at a ratio of 2."""
    for phase in np.linspace(0, 1, 7):
        steps = ratio ** (np.arange(2, np.log(900) / np.log(ratio)) + phase)
        found = read_crossings(steps, CURVES[name](steps)[None, :], [0.5])
        assert found.steps[0, 0] == pytest.approx(300, rel=allowed)
        assert found.lower[0, 0] <= found.steps[0, 0] <= found.upper[0, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 2000), min_size=1, max_size=4, unique=True),
    st.integers(1, 3),
)
def test_seed_means_do_not_lose_what_follows_a_point_off_the_schedule(
    extra: list[int], holder: int
) -> None:
    """A trial that was extended past its budget has evaluations that the others have not."""
    schedule = np.unique(np.geomspace(1, 2000, 80).round())
    own = [schedule] * 3 if holder == 3 else [schedule, schedule]
    own = [*own[: holder - 1], np.union1d(schedule, extra), *own[holder - 1 :]]
    curves = [(steps, seed / steps) for seed, steps in enumerate(own, 1)]
    steps, mean = seed_mean(curves)
    assert set(schedule) <= set(steps)
    np.testing.assert_allclose(mean, np.mean(np.arange(1, len(own) + 1)) / steps, rtol=1e-9)


def test_a_lucky_touch_is_not_a_crossing() -> None:
    steps = np.arange(6.0)
    (crossing,) = isotonic_crossing(steps, np.array([[9.0, 4.0, 0.9, 4.0, 0.8, 0.7]]), [1.0])[0]
    assert crossing > 3


def test_seed_mean_stands_at_common_steps() -> None:
    first = ([0, 1, 2, 4, 7], [8.0, 4.0, 2.0, 1.0, 0.5])
    second = ([0, 1, 2, 3], [6.0, 2.0, 4.0, 9.0])
    steps, mean = seed_mean([first, second])
    assert steps.tolist() == [0, 1, 2]
    assert mean.tolist() == [7.0, 3.0, 3.0]
