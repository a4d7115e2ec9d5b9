"""Small-sample intervals: the widening, its degrees of freedom, and draws from residuals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from analysis.fit.fitting import fit_hyperbola
from analysis.fit.forms import hyperbola
from analysis.fit.readings import half_elasticity_interval
from analysis.fit.resamples import degrees_of_freedom, residual_draws
from analysis.measure.bootstrap import spread, widening
from tests.benchmarks.coverage import TRUTH, simulate_outside, simulate_planted

PLANTED = np.log([40.0, 3360.0])


def test_widening_by_hand():
    assert widening(3, 2) == pytest.approx(np.sqrt(1.5) * 4.302653 / 1.959964)
    assert widening(1e9, 1e9) == pytest.approx(1)
    assert widening([2, 4], 10).shape == (2,)


def test_spread_is_around_the_median_of_what_is_known():
    draws = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, 7.0]])
    wide = spread(draws, [2.0, 3.0])
    np.testing.assert_allclose(wide[:, 0], [0.0, 2.0, 6.0])
    np.testing.assert_allclose(wide[1:, 1], [3.0, 9.0])
    assert np.isnan(wide[0, 1])
    assert np.isnan(spread(np.full((3, 1), np.nan), 2.0)).all()


def test_degrees_of_freedom_are_fewer_than_pooled():
    log_size, seeds = np.log(4.0 ** np.arange(8)), np.full(8, 3.0)
    nu = degrees_of_freedom(PLANTED, log_size, seeds)
    assert 2 < nu < 16
    assert degrees_of_freedom(PLANTED, log_size, 2 * seeds) == pytest.approx(nu * 5 / 2)


def test_mean_of_n_normals_is_covered_as_student_says():
    """One batch size: the corrected bootstrap of a mean, 95 % where the plain one has 80."""
    rng, n = np.random.default_rng(0), 4
    x = rng.standard_normal((4000, n))
    scale = np.sqrt((n - 1) / n) * x.std(axis=1, ddof=1) / np.sqrt(n)  # of the plain bootstrap
    half = 1.959964 * scale * widening(n, n - 1)
    np.testing.assert_allclose(half, t.ppf(0.975, n - 1) * x.std(axis=1, ddof=1) / np.sqrt(n))
    assert np.mean(np.abs(x.mean(axis=1)) < half) == pytest.approx(0.95, abs=0.015)
    assert np.mean(np.abs(x.mean(axis=1)) < 1.959964 * scale) < 0.86


@pytest.mark.parametrize("n_sizes", [7, 12])
def test_residual_intervals_cover(n_sizes):
    rng = np.random.default_rng(2)
    sizes = np.geomspace(2, 4096, n_sizes)
    covered = np.zeros(3)
    for _ in range(1000):
        steps = hyperbola(sizes, *PLANTED) * np.exp(0.07 * rng.standard_normal(n_sizes))
        draws = residual_draws(sizes, steps, 600, rng)
        draws = np.column_stack([draws, draws[:, 1] - draws[:, 0]])
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        true = np.log([TRUTH[name] for name in TRUTH])
        covered += (low <= true) & (true <= high)
    assert (covered >= 915).all()
    assert (covered <= 980).all()


def test_residual_draws_have_the_tails_of_student():
    """Little noise, so that the form is linear: t with n - 2 = 2 degrees of freedom."""
    sizes = np.array([4.0, 32.0, 256.0, 2048.0])
    steps = hyperbola(sizes, *PLANTED) * np.exp([0.004, -0.01, 0.01, -0.004])
    draws = residual_draws(sizes, steps, 100_000, np.random.default_rng(0))
    fit = fit_hyperbola(sizes, steps)
    share = np.exp(fit[0]) / hyperbola(sizes, *fit)
    jacobian = np.stack([share, 1 - share], axis=1)
    residuals = np.log(steps / hyperbola(sizes, *fit))
    spread_of = np.sqrt(residuals @ residuals / 2 * np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    np.testing.assert_allclose((high - low) / 2, t.ppf(0.975, 2) * spread_of, rtol=0.05)


def test_residual_draws_of_a_straight_curve_are_open():
    rng = np.random.default_rng(3)
    sizes = 2.0 ** np.arange(8)
    steps = 1e5 / sizes * np.exp(0.05 * rng.standard_normal(8))
    u = np.subtract(*residual_draws(sizes, steps, 1000, rng).T[::-1])
    assert np.percentile(u, 97.5) > np.log(4 * sizes[-1])


def test_censored_cells_weigh_the_residual_draws():
    rng, sizes = np.random.default_rng(5), 4.0 ** np.arange(8)
    steps = hyperbola(sizes, *PLANTED) * np.exp(0.1 * rng.standard_normal(8))
    steps[:2] = np.nan
    free = residual_draws(sizes, steps, 4000, rng)
    lower = np.full(8, np.nan)
    lower[0] = 4500.0  # above the planted 3,400
    held = residual_draws(sizes, steps, 4000, rng, lower)
    assert np.median(held[:, 1]) > np.median(free[:, 1]) + 0.05
    lower[0] = 10.0  # says nothing
    same = residual_draws(sizes, steps, 4000, rng, lower)
    assert np.median(same[:, 1]) == pytest.approx(np.median(free[:, 1]), abs=0.02)


def test_fewer_than_three_points_have_no_residuals_to_draw_from():
    assert residual_draws([1, 2], [9, 5], 10, np.random.default_rng(0)).shape == (0, 2)
    assert residual_draws([1, 2, 4], [9, 5, np.nan], 10, np.random.default_rng(0)).shape == (0, 2)


def test_half_elasticity_intervals_are_open_where_draws_do_not_cross():
    sizes = np.array([1.0, 2.0, 4.0, 8.0])
    crossing = -np.array([0, 0.9, 1.2, 1.3]) * np.log(2)
    steep, flat = -np.log(sizes), -0.1 * np.log(sizes)
    low, high = half_elasticity_interval(sizes, np.stack([crossing] * 20))
    assert (
        low
        == high
        == pytest.approx(np.exp(np.interp(-0.5, [-0.9, -0.3], np.log([2, 8]) / 2)), rel=0.5)
    )
    assert half_elasticity_interval(sizes, np.stack([crossing] * 19 + [steep])) == (low, None)
    assert half_elasticity_interval(sizes, np.stack([crossing] * 19 + [flat])) == (None, high)
    assert half_elasticity_interval(sizes, np.stack([steep] * 9)) == (8.0, None)
    assert half_elasticity_interval(sizes, np.stack([flat] * 9)) == (None, 1.0)
    gaps = np.stack([crossing] * 20)
    gaps[:, 3] = np.nan
    assert half_elasticity_interval(sizes, gaps)[0] is not None


@pytest.mark.long
def test_planted_studies_are_covered():
    """A fast look; the whole of it: python -m tests.benchmarks.coverage planted."""
    found = simulate_planted(50, np.random.default_rng(1), seeds=(3, 8), n_bootstrap=200)
    for name in TRUTH:
        assert found[f"{name}_covered"].mean() >= 0.86  # P(fewer than 43 of 50 | 95 %) < 0.5 %
        assert abs(found[f"{name}_error"].median()) < 0.02
    assert found["identified"].mean() > 0.95
    assert pd.api.types.is_bool_dtype(found["censored"])


@pytest.mark.parametrize(
    "span", [(1e-4, 1e-2), pytest.param((100, 10_000), marks=pytest.mark.long)]
)
def test_nothing_is_identified_far_from_the_knee(span):
    fits = simulate_outside(15, np.random.default_rng(2), *span)
    assert sum(fit.identified for fit in fits) <= 1
    for fit in fits:
        if not fit.identified:
            assert (fit.at_least is None) != (fit.at_most is None)
            assert fit.critical_batch_size is None
            assert fit.reason


def test_draws_without_noise_lie_around_the_planted_answer() -> None:
    """The grid over B_crit is as fine as the likelihood is narrow: it once left out the truth."""
    sizes = 2.0 ** np.arange(1, 11)
    draws = residual_draws(
        sizes, 80 + 4000 / sizes, 2000, np.random.default_rng(0), least_sigma=1e-4
    )
    low, middle, high = np.exp(np.percentile(draws[:, 1] - draws[:, 0], [2.5, 50, 97.5]))
    assert low < 50 < high
    assert middle == pytest.approx(50, rel=1e-4)
    assert 1e-4 < high / low - 1 < 2e-3
