from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.crossings import isotonic_crossing as of_the_report
from scaling.target import interpolate_crossing, isotonic_crossing, seed_mean


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


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.01, 10.0), min_size=1, max_size=40),
    st.floats(0.02, 9.0),
    st.floats(1.0, 1.3),
)
def test_isotonic_crossing_is_that_of_the_report(losses, level, ratio) -> None:
    level *= 1 + 1.23e-7  # no mean is equal to it
    steps = np.array([0, *np.cumsum(np.ceil(ratio ** np.arange(len(losses) - 1)))])
    (expected,) = of_the_report(steps, np.array([losses]), [level])[0]
    crossing = isotonic_crossing(steps, np.array(losses), level)
    assert (crossing is None) == np.isnan(expected)
    assert crossing is None or crossing == pytest.approx(expected, rel=1e-9)


def test_isotonic_crossing_of_a_plain_curve_is_its_crossing() -> None:
    steps = np.array([0.0, 1.0, 2.0, 4.0])
    assert isotonic_crossing(steps, np.array([8.0, 4.0, 2.0, 1.0]), 1.5) == pytest.approx(
        interpolate_crossing(2.0, 2.0, 4.0, 1.0, 1.5)
    )
    assert isotonic_crossing(steps, np.array([8.0, 4.0, 2.0, 1.0]), 0.5) is None
    assert isotonic_crossing(steps, np.array([8.0, 4.0, 2.0, 1.0]), 9.0) == 0.0


def test_isotonic_crossing_at_a_mean_equal_to_the_level() -> None:
    steps = np.arange(4.0)
    for losses, level in [((3.0, 0.1 + 0.2, 0.3, 0.3), 0.3), ((0.1, 0.2, 0.3, 0.2), 0.2)]:
        crossing = isotonic_crossing(steps, np.array(losses), level)
        assert crossing is not None
        assert 0 <= crossing <= 3
        (expected,) = of_the_report(steps, np.array([losses]), [level])[0]
        assert crossing == pytest.approx(expected, rel=1e-9)


def test_a_lucky_touch_is_not_a_crossing() -> None:
    steps = np.arange(6.0)
    crossing = isotonic_crossing(steps, np.array([9.0, 4.0, 0.9, 4.0, 0.8, 0.7]), 1.0)
    assert crossing is not None
    assert crossing > 3


def test_seed_mean_stands_at_common_steps() -> None:
    first = ([0, 1, 2, 4, 7], [8.0, 4.0, 2.0, 1.0, 0.5])
    second = ([0, 1, 2, 3], [6.0, 2.0, 4.0, 9.0])
    steps, mean = seed_mean([first, second])
    assert steps.tolist() == [0, 1, 2]
    assert mean.tolist() == [7.0, 3.0, 3.0]
