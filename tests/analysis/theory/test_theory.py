"""The exact recursion against check values computed apart from it, Monte Carlo and brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.fit.critical_batch_size import half_elasticity
from analysis.fit.fitting import compare_forms, fit_hyperbola, hyperbola
from analysis.fit.observations import Observations
from analysis.read.selection import NONE
from analysis.theory.exact_frontier import (
    EVERY_STEP,
    CurveReading,
    continuous_lr_frontier,
    exact_steps,
    same_grid_frontier,
)
from analysis.theory.streaming import exact_risk, largest_stable_lr, stationary_risk
from analysis.theory.trials import (
    Streaming,
    exact_curves,
    exact_theory,
    stability_frame,
    theory_of,
)
from scaling.problem import RegressionProblem
from tests.analysis.crossed import crossing_by_scipy
from tests.analysis.simulated import Floats, evaluation_steps, trial_row

SCHEDULE = CurveReading(evaluation_steps(30_000), tail_factor=3.0)
SMALL = RegressionProblem.power_law(16)
LARGE = RegressionProblem.power_law(64)


@pytest.mark.parametrize(
    ("batch_size", "lr", "n_steps", "risk"),
    [(1, 0.03, 60, 0.82836), (8, 0.2, 30, 0.22493), (64, 0.5, 20, 0.06430)],
)
def test_risk_has_its_known_values(batch_size, lr, n_steps, risk):
    assert exact_risk(SMALL, batch_size, lr, n_steps)[-1] == pytest.approx(risk, abs=1e-5)


@pytest.mark.parametrize(("batch_size", "lr", "n_steps"), [(1, 0.03, 60), (8, 0.2, 30)])
def test_risk_is_the_mean_of_real_sgd(batch_size, lr, n_steps):
    rng, n = np.random.default_rng(1), 4000
    error = np.tile(SMALL.initial_error, (n, 1))
    for _ in range(n_steps):
        x = rng.standard_normal((n, batch_size, 16)) * np.sqrt(SMALL.eigenvalues)
        residual = np.einsum("nbd,nd->nb", x, error) - rng.standard_normal((n, batch_size))
        error = error - 2 * lr / batch_size * np.einsum("nb,nbd->nd", residual, x)
    risks = error**2 @ SMALL.eigenvalues
    exact = exact_risk(SMALL, batch_size, lr, n_steps)[-1]
    assert abs(risks.mean() - exact) < 4 * risks.std() / np.sqrt(n)


def test_risks_of_several_lrs_are_those_of_each():
    lrs = np.array([[0.1, 0.2], [0.3, 0.4]])
    together = exact_risk(SMALL, 4, lrs, 10)
    assert together.shape == (2, 2, 11)
    np.testing.assert_allclose(together[1, 0], exact_risk(SMALL, 4, 0.3, 10), rtol=1e-12)


@pytest.mark.parametrize(("batch_size", "lr"), [(1, 0.1798), (8, 0.7462), (64, 0.9686)])
def test_largest_stable_lr(batch_size, lr):
    assert largest_stable_lr(LARGE, batch_size) == pytest.approx(lr, abs=1e-4)


def test_stationary_risk_is_where_the_recursion_settles():
    settled = exact_risk(SMALL, 8, 0.3, 5000)[-1]
    assert stationary_risk(SMALL, 8, 0.3) == pytest.approx(settled, rel=1e-9)
    edge = largest_stable_lr(SMALL, 8)
    assert stationary_risk(SMALL, 8, 1.01 * edge) == np.inf
    assert exact_risk(SMALL, 8, 1.02 * edge, 3000)[-1] > 10 * exact_risk(SMALL, 8, edge, 3000)[-1]


@pytest.mark.parametrize(
    ("batch_size", "lr", "n_steps", "risk"), [(4, 0.03, 60, 0.39517), (8, 0.05, 30, 0.46828)]
)
def test_risk_with_momentum_has_its_known_values(batch_size, lr, n_steps, risk):
    found = exact_risk(SMALL, batch_size, lr, n_steps, momentum=0.9)
    assert found[-1] == pytest.approx(risk, abs=1e-5)


def test_momentum_zero_is_plain_sgd():
    plain = exact_risk(SMALL, 8, 0.2, 50)
    np.testing.assert_allclose(exact_risk(SMALL, 8, 0.2, 50, momentum=1e-14), plain, rtol=1e-10)


@pytest.mark.parametrize("mu", [0.5, 0.9])
@pytest.mark.parametrize("batch_size", [1, 8, 512])
def test_stability_and_floor_with_momentum_are_the_recursions(mu, batch_size):
    edge = largest_stable_lr(SMALL, batch_size, momentum=mu)
    settled = exact_risk(SMALL, batch_size, 0.6 * edge, 8000, mu)
    assert stationary_risk(SMALL, batch_size, 0.6 * edge, mu) == pytest.approx(settled[-1])
    assert stationary_risk(SMALL, batch_size, 1.001 * edge, mu) == np.inf
    beyond = exact_risk(SMALL, batch_size, 1.03 * edge, 4000, mu)
    assert beyond[2000] > 1.2 * beyond[1000] > beyond[0]


def test_continuous_lr_with_momentum_finds_what_a_dense_grid_finds():
    sizes, targets = [4, 64, 4096], [share * SMALL.initial_risk for share in (0.1, 0.03)]
    dense: Floats = np.geomspace(1e-3, 1.9, 4000)
    brute = same_grid_frontier(SMALL, dict.fromkeys(sizes, dense), targets, 5000, 0.9, SCHEDULE)
    found = continuous_lr_frontier(SMALL, sizes, targets, 5000, 0.9, SCHEDULE)
    pairs = found.merge(brute, on=["target_loss", "batch_size"])
    np.testing.assert_allclose(pairs["steps_x"], pairs["steps_y"], rtol=1.5e-3)


@pytest.mark.parametrize("read_as", [EVERY_STEP, SCHEDULE])
@pytest.mark.parametrize(("batch_size", "lr"), [(8, 0.0136), (512, 0.529), (4096, 0.92)])
def test_exact_steps_are_the_crossing_of_scipys_regression(batch_size, lr, read_as):
    """With momentum: the first touch comes far earlier, but for the lr of the small batch."""
    problem = RegressionProblem.power_law(64, 1.5)
    target = 0.03 * problem.initial_risk
    (found,) = exact_steps(problem, batch_size, lr, [target], 3000, 0.9, read_as)[0]
    curve = exact_risk(problem, batch_size, lr, 3000, 0.9)
    touch = int(np.argmax(curve <= target))
    steps = read_as.steps(3000)
    window = steps[: np.searchsorted(steps, read_as.tail_factor * touch) + 1]
    assert found == pytest.approx(crossing_by_scipy(window.astype(float), curve[window], target))
    late = found / touch - 1
    assert late > 0.1 if batch_size > 8 else abs(late) < 2e-3


def first_touches(problem, sizes, target, momentum, n_steps) -> list[float]:
    """The least steps over a dense grid, by the first touch: plain, and apart from the product."""
    least = []
    for size in sizes:
        lrs = np.geomspace(0.02, 1.2, 400) * largest_stable_lr(problem, size, momentum=momentum)
        with np.errstate(over="ignore", invalid="ignore"):
            curves = exact_risk(problem, size, lrs, n_steps[size], momentum)
        after = np.argmax(curves <= target, axis=1)
        rows = np.flatnonzero(after > 1)
        after = after[rows]
        high, low = curves[rows, after - 1], curves[rows, after]
        share = np.log(high / target) / np.log(high / low)
        least.append(((after - 1) * (after / (after - 1)) ** share).min())
    return least


def critical_batch_size(sizes, steps) -> float:
    log_min_steps, log_min_examples = fit_hyperbola(sizes, np.asarray(steps, float))
    return float(np.exp(log_min_examples - log_min_steps))


@pytest.mark.long
def test_momentums_theory_is_read_as_its_curves_are():
    problem = RegressionProblem.power_law(64, 1.5)
    target, sizes = 0.03 * problem.initial_risk, [2**k for k in range(3, 13)]
    n_steps = {size: 60 + 7200 // size for size in sizes}
    touched = critical_batch_size(sizes, first_touches(problem, sizes, target, 0.9, n_steps))
    assert touched == pytest.approx(283, rel=0.01)
    for tail_factor in (1.5, 2.0, 3.0):
        read_as = CurveReading(evaluation_steps(3000), tail_factor)
        found = continuous_lr_frontier(problem, sizes, [target], 3000, 0.9, read_as)
        assert critical_batch_size(sizes, found["steps"]) == pytest.approx(217, rel=0.01)


def test_plain_sgd_is_read_where_it_first_touches_the_target():
    """Curves that only fall: the same but for the interpolation between evaluations."""
    targets, sizes = [share * LARGE.initial_risk for share in (0.1, 0.03)], [1, 16, 256, 4096]
    frontier = continuous_lr_frontier(LARGE, sizes, targets, 24_000, read_as=SCHEDULE)
    n_steps = {size: 40 + 2400 // size for size in sizes}
    for target in targets:
        found = frontier.loc[frontier["target_loss"] == target, "steps"]
        touched = first_touches(LARGE, sizes, target, 0.0, n_steps)
        np.testing.assert_allclose(found, touched, rtol=1e-3)


def test_exact_steps_of_the_default_study():
    sizes, target = [2**k for k in range(13)], 0.1 * LARGE.initial_risk
    found = continuous_lr_frontier(LARGE, sizes, [target], 24_000, read_as=SCHEDULE)
    np.testing.assert_allclose(found["steps"][-3:], [10.557, 10.356, 10.256], rtol=7e-4)
    assert critical_batch_size(sizes, found["steps"]) == pytest.approx(42.9, rel=2e-3)


def test_a_dip_before_an_explosion_neither_crosses_nor_ends_a_race():
    problem = RegressionProblem(np.array([1.0, 0.01]), np.array([0.01, 30.0]), 0.01)
    size, target, lrs = 10**6, 0.85 * problem.initial_risk, [0.5, 2.5]
    slow, dip = exact_risk(problem, size, lrs, 12)
    assert dip[2] < target < slow[5] < dip[5]
    steps = exact_steps(problem, size, lrs, [target], 2000)[:, 0]
    assert 6 < steps[0] < 9
    assert np.isnan(steps[1])
    frontier = same_grid_frontier(problem, {size: lrs}, [target], 2000)
    assert frontier["steps"].tolist() == [steps[0]]


def test_evaluations_go_on_as_they_grew():
    assert CurveReading([1, 2, 4]).steps(20).tolist() == [0, 1, 2, 4, 8, 16]
    assert CurveReading([0, 1, 2, 4, 8, 9]).steps(50).tolist() == [0, 1, 2, 4, 8, 9, 18, 36]
    assert CurveReading([0, 10, 20]).steps(50).tolist() == [0, 10, 20, 40]
    assert CurveReading([0, 10, 20]).steps(15).tolist() == [0, 10]
    schedule = evaluation_steps(20_000)
    assert CurveReading(schedule[schedule < 700]).steps(9000)[-1] > 8000
    assert EVERY_STEP.steps(3).tolist() == [0, 1, 2, 3]


def test_steps_are_the_first_crossing_of_the_exact_curve():
    targets = [0.5, 2.0, 0.2]  # in any order; 2.0 is crossed early, 0.2 late
    found = exact_steps(SMALL, [8, 8, 1], [0.2, 1.5, 0.0001], targets, 400)
    curve = exact_risk(SMALL, 8, 0.2, 400)
    for target, steps in zip(targets, found[0], strict=True):
        after = int(np.argmax(curve <= target))
        assert after - 1 < steps <= after
        every = np.arange(len(curve), dtype=float)
        assert steps == pytest.approx(crossing_by_scipy(every, curve, target))
    assert np.isnan(found[1:]).all()  # exploded, and too slow for the budget
    start = SMALL.initial_risk
    assert exact_steps(SMALL, 8, 0.2, [2 * start, start], 10).tolist() == [[0, 0]]


def test_same_grid_frontier_is_the_minimum_over_the_grid():
    grid: Floats = np.geomspace(0.01, 2.0, 9)
    targets = [1.0, 0.3]
    frontier = same_grid_frontier(SMALL, {1: grid, 32: grid[3:]}, targets, 3000)
    for size, lrs in ((1, grid), (32, grid[3:])):
        steps = exact_steps(SMALL, size, lrs, targets, 3000)
        for k, target in enumerate(targets):
            at = (frontier["batch_size"] == size) & (frontier["target_loss"] == target)
            row = frontier[at].iloc[0]
            assert row["steps"] == pytest.approx(np.nanmin(steps[:, k]))
            assert row["lr"] == lrs[np.nanargmin(steps[:, k])]


@pytest.mark.parametrize(
    ("exponent", "label_noise"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.3), (1.0, 0)]
)
def test_continuous_lr_finds_what_a_dense_grid_finds(exponent, label_noise):
    problem = RegressionProblem.power_law(16, exponent, label_noise)
    sizes, targets = [1, 8, 256], [share * problem.initial_risk for share in (0.6, 0.1, 0.03)]
    dense: Floats = np.geomspace(5e-4, 4.0, 1500)
    grid = dict.fromkeys(sizes, dense)
    brute = same_grid_frontier(problem, grid, targets, 20_000, read_as=SCHEDULE)
    found = continuous_lr_frontier(problem, sizes, targets, 20_000, read_as=SCHEDULE)
    pairs = found.merge(brute, on=["target_loss", "batch_size"])
    np.testing.assert_allclose(pairs["steps_x"], pairs["steps_y"], rtol=3e-4)


@pytest.mark.long
def test_critical_batch_sizes_of_the_textbook_problem():
    sizes = [2**k for k in range(15)]
    shares, found = (0.3, 0.1, 0.03), []
    targets = [share * LARGE.initial_risk for share in shares]
    frontier = continuous_lr_frontier(LARGE, sizes, targets, 20_000)
    expected = {0.3: (31.4, 32.0, 0.04), 0.1: (42.6, 39.5, 0.04), 0.03: (84.0, 75.8, 0.065)}
    for share, target in zip(shares, targets, strict=True):
        steps = frontier.loc[frontier["target_loss"] == target, "steps"].to_numpy()
        fit = fit_hyperbola(sizes, steps)
        critical, half, misfit = expected[share]
        assert np.exp(fit[1] - fit[0]) == pytest.approx(critical, rel=0.005)
        assert half_elasticity(sizes, steps).value == pytest.approx(half, rel=0.005)
        assert np.abs(np.log(steps / hyperbola(sizes, *fit))).max() < misfit
        found.append(compare_forms(Observations.of(sizes, steps))[1])
    for knee, (critical, _, _) in zip(found, expected.values(), strict=True):
        assert 1.07 < knee["knee"] < 1.15
        assert knee["critical_batch_size"] == pytest.approx(critical, rel=0.03)


def test_unreachable_targets_are_not_numbers():
    frontier = continuous_lr_frontier(SMALL, [1, 4], [1e-3], 50)
    assert frontier["steps"].isna().all()
    assert same_grid_frontier(SMALL, {4: [5.0]}, [0.1], 50)["steps"].isna().all()


def _trials(**changes: object) -> pd.DataFrame:
    rows = [trial_row(SMALL, size, 0.1, 0, [1.0, 0.5]) | changes for size in (1, 4)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.name": "adam"},
        {"schedule.name": "cosine"},
        {"task.name": "colourization"},
        {"optimizer.weight_decay": 0.1},
        {"clip_norm": 1.0},
        {"evaluation.average_half_life_examples": 100},
        {"param_groups": '[{"params": "weights", "lr_factor": 0.5}]'},
        {"initial_loss": 7.0},
    ],
)
def test_no_theory_where_it_is_not_exact(changes):
    assert theory_of(_trials(**changes)) is None
    assert exact_theory(_trials(**changes), [1.0], 100).empty


@pytest.mark.parametrize("clip_norm", [np.nan, None, NONE])
def test_trials_without_clipping_beside_clipped_ones_keep_their_theory(clip_norm):
    assert isinstance(theory_of(_trials(clip_norm=clip_norm)), Streaming)


def test_theory_of_trials():
    known = theory_of(_trials(**{"optimizer.weight_decay": 0.0}))
    assert isinstance(known, Streaming)
    assert known.problem.initial_risk == pytest.approx(SMALL.initial_risk)
    theory = exact_theory(_trials(), [2.0, 1.0], 5000)
    assert list(theory.columns) == ["target_loss", "batch_size", "lr_choice", "steps", "lr"]
    assert len(theory) == 2 * 2 * 2
    best = theory.pivot_table(index=["target_loss", "batch_size"], columns="lr_choice")["steps"]
    assert (best["continuous_lr"] < best["same_grid"]).all()


def test_theory_is_read_at_the_steps_and_over_the_window_of_the_trials():
    with_momentum = {"optimizer.name": "momentum", "optimizer.momentum": 0.9, "batch_size": 512}
    trials = _trials(**with_momentum, tail_factor=1.0).iloc[:1].assign(lr=0.5)
    target, coarse = 0.4, [0, 1, 2, 4, 8, 16]
    for rows, evaluated, read_as in (
        (trials, None, CurveReading(None, 1.0)),
        (trials, coarse, CurveReading(coarse, 1.0)),
        (trials.assign(tail_factor=3.0), None, CurveReading(None, 3.0)),
        (trials.drop(columns="tail_factor"), None, EVERY_STEP),
    ):
        found = exact_theory(rows, [target], 500, evaluated)
        expected = exact_steps(SMALL, 512, 0.5, [target], 500, 0.9, read_as)
        assert found["steps"][0] == pytest.approx(expected[0, 0])
    by_schedule = exact_steps(SMALL, 512, 0.5, [target], 500, 0.9, CurveReading(coarse, 1.0))
    assert by_schedule != exact_steps(SMALL, 512, 0.5, [target], 500, 0.9, CurveReading(None, 1.0))


def test_theory_of_momentum_trials():
    with_momentum = {"optimizer.name": "momentum", "optimizer.momentum": 0.9}
    theory = theory_of(_trials(**with_momentum))
    assert isinstance(theory, Streaming)
    assert theory.momentum == 0.9
    limits = stability_frame(theory, [1, 4])["largest_stable_lr"]
    assert limits.tolist() == [largest_stable_lr(SMALL, size, momentum=0.9) for size in (1, 4)]
    slower = exact_theory(_trials(**with_momentum), [1.0], 5000)
    assert not np.allclose(slower["steps"], exact_theory(_trials(), [1.0], 5000)["steps"])
    mixed = _trials(**with_momentum)
    mixed["optimizer.momentum"] = [0.9, 0.5]
    assert theory_of(mixed) is None
    assert stability_frame(None, [1, 4]).empty


def test_expected_curves_of_trials():
    points = pd.DataFrame({"batch_size": [1, 4], "lr": [0.02, 0.1]})
    curves = exact_curves(theory_of(_trials()), points, [0, 3, 10])
    own = curves[curves["batch_size"] == 4]
    np.testing.assert_allclose(own["exact_loss"], exact_risk(SMALL, 4, 0.1, 10)[[0, 3, 10]])
    assert set(own["noise_floor"]) == {stationary_risk(SMALL, 4, 0.1)}
    assert exact_curves(None, points, [0]).empty
