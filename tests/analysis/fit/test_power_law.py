"""Power laws: planted numbers come back, with noise, with offsets, at their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from analysis.fit.power_law import (
    HUBER,
    fit_floor,
    fit_power,
    fit_shifted,
    fit_two_powers,
    huber_loss,
)

X = np.geomspace(4, 256, 7)


@given(
    exponent=st.floats(-3, 3),
    log_coefficient=st.floats(-10, 10),
    xs=st.lists(st.floats(0.01, 1e6), min_size=2, max_size=8, unique=True),
)
def test_any_power_law_comes_back(exponent: float, log_coefficient: float, xs: list[float]) -> None:
    x = np.array(xs)
    if np.ptp(np.log(x)) < 0.1:
        return
    found = fit_power(x, np.exp(log_coefficient + exponent * np.log(x)))
    np.testing.assert_allclose(found, [log_coefficient, exponent], atol=1e-6)


@given(scale=st.floats(0.01, 100), unit=st.floats(0.01, 100))
def test_units_move_the_coefficient_alone(scale: float, unit: float) -> None:
    y = X**0.5 * np.exp(0.1 * np.sin(X))
    plain, other = fit_power(X, y), fit_power(unit * X, scale * y)
    assert other[1] == pytest.approx(plain[1], abs=1e-9)
    assert other[0] == pytest.approx(plain[0] + np.log(scale) - plain[1] * np.log(unit), abs=1e-6)


def test_least_squares_of_noisy_points() -> None:
    rng = np.random.default_rng(0)
    y = 3 * X**-0.4 * np.exp(0.3 * rng.standard_normal((5, len(X))))
    slopes = [np.polyfit(np.log(X), np.log(row), 1) for row in y]
    np.testing.assert_allclose(fit_power(X, y), np.array(slopes)[:, ::-1], atol=1e-10)


def test_nothing_is_made_of_too_little() -> None:
    assert np.isnan(fit_power([8.0, 8.0], [1.0, 2.0])).all()
    assert np.isnan(fit_power([8.0], [1.0])).all()
    rows = fit_power(X, np.stack([X, np.where(X > 100, np.nan, X)]))
    assert np.isfinite(rows[0]).all()
    assert np.isnan(rows[1]).all()


@settings(max_examples=25, deadline=None)
@given(exponent=st.floats(0.3, 2), offset=st.floats(0.1, 0.9), coefficient=st.floats(0.1, 50))
def test_shifted_laws_come_back(exponent: float, offset: float, coefficient: float) -> None:
    x = np.geomspace(1.1, 10, 8)
    found = fit_shifted(x, coefficient * (x - offset) ** -exponent)
    np.testing.assert_allclose(
        found, [np.log(coefficient), -exponent, offset], rtol=2e-3, atol=2e-3
    )


def test_a_law_without_offset_has_none() -> None:
    x = np.geomspace(0.03, 1, 6)
    assert fit_shifted(x, 5 * x**-0.5)[2] < 1e-4
    y = 2 * X**-0.8
    assert fit_floor(X, y)[2] < 1e-3 * y.min()


@settings(max_examples=25, deadline=None)
@given(exponent=st.floats(0.3, 1.5), floor=st.floats(0.01, 1))
def test_floors_come_back(exponent: float, floor: float) -> None:
    found = fit_floor(X, floor + 3 * X**-exponent)
    np.testing.assert_allclose(found, [np.log(3), -exponent, floor], rtol=1e-3, atol=1e-3)


def test_two_powers_come_back() -> None:
    size, steps = (grid.ravel() for grid in np.meshgrid(X, np.geomspace(20, 5000, 5)))
    loss = (6 / size) ** 0.35 + (90 / steps) ** 0.75
    found = fit_two_powers(size, steps, loss)
    np.testing.assert_allclose(found, [np.log(6), 0.35, np.log(90), 0.75], rtol=1e-4)


def test_an_outlier_pulls_less_than_by_squares() -> None:
    x = np.geomspace(1.2, 12, 12)
    y = 7 * (x - 0.8) ** -0.6
    y[4] *= 3
    robust = fit_shifted(x, y)
    squares = least_squares(
        lambda p: p[0] + p[1] * np.log(x - p[2]) - np.log(y),
        [np.log(7), -0.6, 0.8],
        bounds=([-9, -9, 0], [9, 9, 1.19]),
    ).x
    assert abs(robust[1] + 0.6) < 0.05 < abs(squares[1] + 0.6)


def test_the_least_of_hubers_loss_is_found() -> None:
    rng = np.random.default_rng(3)
    y = 0.3 + 3 * X**-0.7 * np.exp(0.1 * rng.standard_normal((40, len(X))))
    found = fit_floor(X, y)

    def loss(p: np.ndarray, row: np.ndarray) -> float:
        residual = np.log(p[2] + np.exp(p[0] + p[1] * np.log(X))) - np.log(row)
        return float(huber_loss(residual))

    for p, row in zip(found, y, strict=True):
        best = min(
            least_squares(
                lambda q, row=row: np.log(np.exp(q[2]) + np.exp(q[0] + q[1] * np.log(X)))
                - np.log(row),
                [np.log(3), -k, np.log(row.min() * part)],
                loss="huber", f_scale=HUBER, xtol=1e-12, ftol=1e-12, gtol=1e-12,
            ).cost
            for k in (0.4, 1.2) for part in (0.1, 0.9)
        )  # fmt: skip
        assert loss(p, row) <= best * 1.001 + 1e-9


def test_hubers_loss() -> None:
    inside, beyond = HUBER / 2, 3 * HUBER
    assert huber_loss(np.array([inside, -inside])) == pytest.approx(inside**2)
    assert huber_loss(np.array([beyond])) == pytest.approx(2.5 * HUBER**2)
