from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.target import interpolate_crossing


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
