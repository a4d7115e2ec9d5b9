"""The likelihood: its derivatives, its limits, and what censored cells do to a fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from analysis.fit.fitting import LIKELIHOOD, LOG_STEPS, compare_forms, fit_frontier, fit_hyperbola
from analysis.fit.forms import FORMS, HYPERBOLA, KNEE, KNEES, POWER, hyperbola
from analysis.fit.likelihood import derivatives, log_likelihood, maximise
from analysis.fit.observations import LEAST_SIGMA, Observations

SIZES = 2.0 ** np.arange(13)
PLANTED = np.log([40.0, 3360.0])
START = {"hyperbola": [3.8, 8.0], "knee": [3.8, 8.0, 0.3], "power": [8.0, 0.6]}


def mixed(n=3, seed=0):
    """Exact, wide and narrow intervals, and right-censored cells."""
    rng = np.random.default_rng(seed)
    steps = hyperbola(SIZES, *PLANTED) * np.exp(0.05 * rng.standard_normal((n, 13)))
    lower, upper = steps * 0.95, steps * 1.02
    lower[:, :4] = upper[:, :4] = np.nan
    lower[:, 5], upper[:, 5] = steps[:, 5] * 0.999, steps[:, 5] * 1.001
    lower[:, 2], steps[:, 2] = steps[:, 2] * 0.98, np.nan
    return Observations.of(SIZES, steps, lower, upper)


def test_a_cell_adds_its_probability():
    sizes, sigma = [4.0, 8.0, 16.0], 0.1
    seen = Observations.of(sizes, [800.0, 500.0, np.nan], [np.nan, 480.0, 300], [np.nan, 510, 1])
    at = np.log(hyperbola(sizes, *PLANTED))
    z = (np.log([800.0, 480, 510, 300]) - at[[0, 1, 1, 2]]) / sigma
    expected = norm.logpdf(z[0]) - np.log(sigma)
    expected += np.log(norm.cdf(z[2]) - norm.cdf(z[1])) + norm.logsf(z[3])
    found = log_likelihood(HYPERBOLA, PLANTED[None], np.log([sigma]), seen)
    assert found[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_derivatives_are_those_of_finite_differences(form):
    seen = mixed()
    parameters, sigma = np.tile(START[form.name], (3, 1)), np.full(3, np.log(0.06))
    _, gradient, hessian = derivatives(form, parameters, sigma, seen)
    eps = 1e-5
    shifts = eps * np.eye(parameters.shape[1] + 1)
    up, down = [], []
    for k, shift in enumerate(shifts):
        up, down = (
            derivatives(form, parameters + sign * shift[:-1], sigma + sign * shift[-1], seen)
            for sign in (1, -1)
        )
        np.testing.assert_allclose((up[0] - down[0]) / (2 * eps), gradient[:, k], rtol=1e-5)
    curvature = -(up[1] - down[1]) / (2 * eps)  # by log sigma, the last
    np.testing.assert_allclose(curvature, hessian[:, -1], atol=1e-4 * np.abs(hessian).max())


def test_curvature_is_exact_where_the_form_is_linear():
    seen = mixed()
    parameters, sigma = np.tile(START["power"], (3, 1)), np.full(3, np.log(0.5))
    _, _, hessian = derivatives(POWER, parameters, sigma, seen)
    for k, shift in enumerate(1e-5 * np.eye(3)):
        up, down = (
            derivatives(POWER, parameters + sign * shift[:2], sigma + sign * shift[2], seen)[1]
            for sign in (1, -1)
        )
        np.testing.assert_allclose((down - up) / 2e-5, hessian[:, k], rtol=1e-4, atol=0.05)


def test_maximum_is_that_of_a_simplex_search():
    seen = mixed(n=1, seed=3)
    best = maximise(HYPERBOLA, np.array([START["hyperbola"]]), seen)

    def loss(p):
        return -log_likelihood(HYPERBOLA, np.array([p[:2]]), np.array([p[2]]), seen)[0]

    options = {"xatol": 1e-9, "fatol": 1e-10, "maxiter": 5000, "maxfev": 5000}
    expected = minimize(loss, [3.6, 8.2, -3.0], method="Nelder-Mead", options=options)
    assert best.converged.all()
    assert best.log_likelihood[0] == pytest.approx(-expected.fun, abs=1e-6)
    found = [*best.parameters[0], best.log_sigma[0]]
    np.testing.assert_allclose(found, expected.x, atol=1e-4)


def test_exact_cells_and_narrow_intervals_are_least_squares():
    rng = np.random.default_rng(1)
    steps = hyperbola(SIZES, *PLANTED) * np.exp(0.1 * rng.standard_normal((5, 13)))
    plain = fit_hyperbola(SIZES, steps)
    for seen in (
        Observations.of(SIZES, steps),
        Observations.of(SIZES, steps, steps * (1 - 1e-7), steps * (1 + 1e-7)),
    ):
        found, converged = fit_frontier(seen, LIKELIHOOD)
        assert converged.all()
        np.testing.assert_allclose(found, plain, atol=1e-4)


def test_narrow_and_wide_intervals_meet():
    """Around the width at which the series takes over the value must not jump."""
    values = []
    for width in (0.0999, 0.1001):
        low = np.exp(np.log(600.0) + np.array([0.0, width * 0.05]))
        seen = Observations.of([8.0], [low.mean()], low[:1], low[1:])
        cells = derivatives(HYPERBOLA, PLANTED[None], np.log([0.05]), seen)
        values.append([cells[0][0] - np.log(width), *cells[1][0]])
    np.testing.assert_allclose(values[0], values[1], rtol=2e-3, atol=2e-3)


def test_far_tails_stay_finite():
    steps, lower = [1e-3, np.nan, 1e9], [5e-4, 1e12, 5e8]
    seen = Observations.of([4.0, 8, 16], steps, lower, [2e-3, 1, 2e9])
    for part in derivatives(HYPERBOLA, PLANTED[None], np.log([0.05]), seen):
        assert np.isfinite(part).all()


def test_residuals_inside_all_intervals_do_not_break_the_fit():
    """Any curve through the intervals is equally likely as sigma -> 0: sigma stays resolvable."""
    steps = hyperbola(SIZES, *PLANTED)
    seen = Observations.of(SIZES, steps, steps * 0.9, steps / 0.9)
    best = maximise(HYPERBOLA, np.array([START["hyperbola"]]), seen)
    width = 2 * np.log(1 / 0.9)
    assert np.exp(best.log_sigma[0]) == pytest.approx(width / np.sqrt(12))
    assert best.converged.all()
    np.testing.assert_allclose(best.parameters[0], PLANTED, atol=1e-4)  # the middles


def test_a_perfect_fit_has_the_least_sigma():
    steps = hyperbola(SIZES, *PLANTED)
    best = maximise(HYPERBOLA, np.array([START["hyperbola"]]), Observations.of(SIZES, steps))
    np.testing.assert_allclose(best.parameters[0], PLANTED, atol=1e-5)
    assert np.exp(best.log_sigma[0]) < 10 * LEAST_SIGMA


def test_censored_cells_hold_the_fit_up():
    """Two cells ran out above what the others suggest: least squares does not see it."""
    sizes = 4.0 ** np.arange(7)
    steps = 40 + 1000 / sizes  # seen from B = 16 on, E_min seems to be 1000
    lower = np.full(7, np.nan)
    steps[:2], lower[:2] = np.nan, [2500.0, 700.0]
    steps[2:] *= np.exp([0.03, -0.03, 0.03, -0.03, 0.0])
    seen = Observations.of(sizes, steps, lower)
    plain, _ = fit_frontier(seen, LOG_STEPS)
    found, _ = fit_frontier(seen, LIKELIHOOD)
    assert np.exp(plain[0, 1]) == pytest.approx(1000, rel=0.25)
    assert hyperbola(1.0, *found[0]) > 1.5 * hyperbola(1.0, *plain[0])
    forms = {objective: compare_forms(seen, objective) for objective in (LOG_STEPS, LIKELIHOOD)}
    assert forms[LOG_STEPS][0]["min_examples"] == pytest.approx(np.exp(plain[0, 1]), rel=1e-4)
    assert forms[LIKELIHOOD][0]["min_examples"] == pytest.approx(np.exp(found[0, 1]), rel=1e-4)


def test_censoring_through_the_noise_does_not_bias():
    """Half the noise at the smallest batch sizes is cut off: what is left is low, and likelihood
    knows it."""
    rng, sizes = np.random.default_rng(4), 2.0 ** np.arange(9)
    true = hyperbola(sizes, *PLANTED)
    steps = true * np.exp(0.1 * rng.standard_normal((600, 9)))
    cap = np.where(sizes < 4, true, np.inf)
    lower = np.where(steps > cap, cap, np.nan)
    seen = Observations.of(sizes, np.where(steps > cap, np.nan, steps), lower)
    bias = [np.median(fit_frontier(seen, o)[0][:, 1]) - PLANTED[1] for o in (LIKELIHOOD, LOG_STEPS)]
    assert abs(bias[0]) < 0.01
    assert bias[1] < -0.012


def test_curves_without_two_reached_cells_have_no_fit():
    seen = Observations.of(SIZES[:3], [[9.0, np.nan, np.nan]], [[np.nan, 4.0, 3.0]])
    assert np.isnan(fit_frontier(seen, LIKELIHOOD)[0]).all()


def test_bounds_keep_the_asymptote_that_is_seen():
    log_size = np.log([1.0, 100.0])
    wild = np.array([[-50.0, 5.0, 9.0], [5.0, -50.0, -9.0]])
    bound = KNEE.within_bounds(wild, log_size)
    assert bound[0, 1] == 5
    assert bound[1, 0] == 5
    assert np.exp(bound[0, 1] - bound[0, 0]) == pytest.approx(1e5)
    assert np.exp(bound[1, 1] - bound[1, 0]) == pytest.approx(1e-3)
    np.testing.assert_allclose(np.exp(bound[:, 2]), KNEES[::-1])
    assert KNEE.log_steps(bound, log_size)[0].shape == (2, 2)
