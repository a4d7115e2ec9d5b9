"""Curves as a search reads them."""

from __future__ import annotations

import math

import pytest

from scaling.schema import CENSORED, REACHED
from sweeps.search.cells import CellCurves
from sweeps.search.observations import Observed, Reading

STEPS = list(range(101))


def read(losses: list[float], targets: tuple[float, ...], floor: float = 0.0) -> list[Reading]:
    cell = CellCurves(targets, floor, 1000)
    cell.take(0, 0, Observed(len(losses) - 1, False), (STEPS[: len(losses)], losses))
    return cell.read(0, (0,))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
def test_a_power_law_is_expected_where_it_crosses(exponent: float) -> None:
    losses = [2.0, *(0.25 + step**-exponent for step in STEPS[1:])]
    reached, censored = read(losses, (0.25 + 50.0**-exponent, 0.25 + 400.0**-exponent), 0.25)
    assert (reached.outcome, censored.outcome) == (REACHED, CENSORED)
    assert reached.steps == pytest.approx(50.0, rel=1e-9)
    assert censored.expected_steps == pytest.approx(400.0, rel=1e-9)
    assert censored.shortfall == pytest.approx(100.0**-exponent - 400.0**-exponent, rel=1e-9)


@pytest.mark.parametrize(
    "losses",
    [
        [1.0, *[0.5] * 100],
        [1.0] * 101,
        [1.0, 0.4, *[0.5] * 99],
        [1.0],
        [0.5 - 1e-12 * step for step in STEPS],
    ],
    ids=["flat", "never fell", "rose", "one evaluation", "hardly falls"],
)
def test_a_curve_without_a_trend_is_not_expected_soon(losses: list[float]) -> None:
    (reading,) = read(losses, (0.1,))
    assert reading.outcome == CENSORED
    assert reading.expected_steps > 1e4 or math.isinf(reading.expected_steps)
    assert not math.isnan(reading.expected_steps)
