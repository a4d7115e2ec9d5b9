"""Fits of the frontier: planted answers come back, and intervals cover them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from analysis.fit.fitting import (
    LIKELIHOOD,
    LOG_STEPS,
    FitResult,
    aicc,
    compare_forms,
    fit_frontier,
    fit_hyperbola,
    hyperbola,
    preferred_form,
)
from analysis.fit.forms import OPEN
from analysis.fit.observations import Observations
from analysis.theory.exact_frontier import continuous_lr_frontier
from scaling.problem import RegressionProblem

SIZES = 2.0 ** np.arange(13)
PLANTED = np.log([40.0, 40.0 * 84.0])


def test_planted_hyperbola_is_recovered():
    found = np.exp(fit_hyperbola(SIZES, hyperbola(SIZES, *PLANTED)))
    np.testing.assert_allclose(found, [40.0, 3360.0], rtol=1e-6)


def test_noisy_hyperbola_is_recovered_without_bias():
    noise = 0.05 * np.random.default_rng(0).standard_normal((400, len(SIZES)))
    fits = fit_hyperbola(SIZES, hyperbola(SIZES, *PLANTED) * np.exp(noise))
    log_ratio = fits[:, 1] - fits[:, 0] - np.log(84.0)
    assert abs(log_ratio.mean()) < 0.01
    assert log_ratio.std() < 0.05


def test_fit_is_the_least_squares_of_scipy():
    rng = np.random.default_rng(1)
    steps = hyperbola(SIZES, *PLANTED) * np.exp(0.2 * rng.standard_normal((3, len(SIZES))))
    steps[2, 4] = np.nan
    for curve, found in zip(steps, fit_hyperbola(SIZES, steps), strict=True):
        known = ~np.isnan(curve)

        def residuals(p, known=known, curve=curve):
            return np.log(hyperbola(SIZES[known], *p) / curve[known])

        expected = least_squares(residuals, PLANTED, xtol=1e-12, ftol=1e-12).x
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_straight_curves_end_at_the_bounds():
    noise_dominated, flat = fit_hyperbola(SIZES, np.stack([1000 / SIZES, 0 * SIZES + 7.0]))
    assert np.exp(noise_dominated[1] - noise_dominated[0]) > 0.5 * OPEN * SIZES[-1]
    assert np.exp(flat[1] - flat[0]) < 2 * SIZES[0] / OPEN
    assert np.exp(noise_dominated[1]) == pytest.approx(1000, rel=2e-3)
    assert np.exp(flat[0]) == pytest.approx(7.0, rel=2e-3)


def test_fewer_than_two_points_give_no_fit():
    steps = np.full((1, len(SIZES)), np.nan)
    steps[0, 3] = 5.0
    assert np.isnan(fit_hyperbola(SIZES, steps)).all()


def forms_of(sizes, steps, objective=LOG_STEPS):
    return compare_forms(Observations.of(sizes, steps), objective)


def test_forms_are_told_apart():
    rng = np.random.default_rng(3)
    noise = np.exp(0.01 * rng.standard_normal(len(SIZES)))
    sharp = (40.0**2 + (3360 / SIZES) ** 2) ** 0.5 * noise
    forms = forms_of(SIZES, sharp)
    assert [form["form"] for form in forms] == ["hyperbola", "knee", "power"]
    assert forms[1]["knee"] == pytest.approx(2.0, rel=0.1)
    assert forms[1]["critical_batch_size"] == pytest.approx(84.0, rel=0.05)
    assert preferred_form(forms) == "knee"
    assert preferred_form(forms_of(SIZES, 900 * SIZES**-0.6 * noise)) in ("power", "knee")
    assert preferred_form(forms_of(SIZES, hyperbola(SIZES, *PLANTED) * noise)) == "hyperbola"
    exact = forms_of(SIZES, hyperbola(SIZES, *PLANTED))
    assert preferred_form(exact) == "hyperbola"
    assert forms_of(SIZES, sharp, LIKELIHOOD)[1] == pytest.approx(forms[1])
    few = forms_of(SIZES[:4], sharp[:4])
    assert few[1]["aicc"] is None
    assert preferred_form(few) == "hyperbola"


def test_aicc_by_hand():
    residuals = np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    # n = 6, k = 2 + variance = 3: 6 log 0.01 + 6 + 24/2
    assert aicc(residuals, 2) == pytest.approx(6 * np.log(0.01) + 6 + 12)
    assert aicc(residuals[:4], 2) is None
    assert aicc(np.zeros(6), 2) == aicc(np.full(6, 1e-9), 2)  # no evidence from rounding


def test_prediction_and_band():
    fit = FitResult({}, 1.0, log_parameters=(PLANTED[0], PLANTED[1]))
    assert fit.predict(84.0) == pytest.approx(80.0)
    assert fit.predict(np.ones((2, 3))).shape == (2, 3)
    assert np.isnan(fit.predict_interval([1, 2])[0]).all()
    fit.draws = PLANTED + 0.1 * np.random.default_rng(0).standard_normal((500, 2))
    low, high = fit.predict_interval(np.array([1.0, 84.0, 4096.0]))
    assert (low < fit.predict([1.0, 84.0, 4096.0])).all()
    assert (high > fit.predict([1.0, 84.0, 4096.0])).all()
    assert np.isnan(FitResult({}, 1.0).predict([1.0])).all()


def test_summary_holds_the_contract_and_no_more():
    entry = FitResult({"model_size": 64}, 0.5, ci95={"min_steps": (1.0, None)}).summary()
    assert entry["group"] == {"model_size": 64}
    assert entry["ci95"] == {"min_steps": [1.0, None]}
    assert list(entry)[-1] == "exact"
    assert "draws" not in entry


@pytest.mark.parametrize("objective", [LOG_STEPS, LIKELIHOOD])
def test_exact_regression_frontiers_give_the_direct_fit(objective):
    problem = RegressionProblem.power_law(64)
    targets = [share * problem.initial_risk for share in (0.1, 0.03)]
    exact = continuous_lr_frontier(problem, [4**k for k in range(7)], targets, 20_000)
    for _, own in exact.groupby("target_loss"):
        sizes, steps = own["batch_size"].to_numpy(float), own["steps"].to_numpy(float)

        def residuals(p, sizes=sizes, steps=steps):
            return np.log((np.exp(p[0]) + np.exp(p[1]) / sizes) / steps)

        expected = least_squares(residuals, np.log([10.0, 500.0]), xtol=1e-12, ftol=1e-12).x
        found, converged = fit_frontier(Observations.of(sizes, steps), objective)
        assert converged.all()
        np.testing.assert_allclose(np.exp(found[0]), np.exp(expected), rtol=1e-3)


def test_a_fit_prints_what_is_known_and_what_is_not():
    fit = FitResult({"model": "<b>"}, 0.1, critical_batch_size=84.4, n_batch_sizes=7)
    fit.ci95 = {"critical_batch_size": (70.0, 100.0), "min_steps": (None, 50.0)}
    fit.reason, fit.approximate_ci = "no bend", True
    text = repr(fit)
    assert "model=<b>, target loss 0.1" in text
    assert "critical batch size: 84.4 (70 to 100)" in text
    assert "fewest steps:        at most 50" in text
    assert "half elasticity at:  not known" in text
    assert "approximate; no bend" in text
    assert "&lt;b&gt;" in fit._repr_html_()
    assert "70 to 100" in fit._repr_html_()
