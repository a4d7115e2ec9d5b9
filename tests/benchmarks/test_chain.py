"""The simulator of the chain's studies against the exact recursion, and its table by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.theory.streaming import exact_risk
from scaling.problem import RegressionProblem
from tests.benchmarks.chain import Exact, summary
from tests.benchmarks.frontier_search import evaluation_steps
from tests.benchmarks.regression_search import LATTICE, PROBLEM, Trial, rows_of_batch, train


def new_trial(lr: float) -> Trial:
    return Trial(lr, PROBLEM.initial_error.astype(np.float32))


@pytest.mark.parametrize(("batch_size", "lr"), [(1, 0.02), (64, 0.4), (65, 0.4), (1024, 0.6)])
def test_trials_lose_on_average_what_the_recursion_says(batch_size: int, lr: float) -> None:
    """Below 65 batches are drawn as such, above as their covariance."""
    trials = [new_trial(lr) for _ in range(300)]
    train(batch_size, [((0, seed), trial, 12) for seed, trial in enumerate(trials)])
    losses = np.array([trial.losses for trial in trials])
    assert losses.shape == (300, 13)
    exact = exact_risk(PROBLEM, batch_size, lr, 12)
    error = losses.std(axis=0) / np.sqrt(len(losses))
    assert (np.abs(losses.mean(axis=0) - exact)[1:] < 4.5 * error[1:]).all()


@pytest.mark.parametrize("batch_size", [3, 40])
def test_rows_have_the_moments_of_a_batch(batch_size: int) -> None:
    """X'X and X'eps of D = 3 inputs, drawn row by row (3) and as Wishart (40)."""
    problem = RegressionProblem(np.array([2.0, 1.0, 0.5]), np.ones(3), 0.7)
    x, noise = rows_of_batch(problem, batch_size, 40_000, np.random.default_rng(0))
    gram, pull = x.transpose(0, 2, 1) @ x, (noise[:, None] @ x)[:, 0]
    cov = np.diag(problem.eigenvalues)
    np.testing.assert_allclose(gram.mean(axis=0), batch_size * cov, atol=0.02 * batch_size)
    spread = batch_size * (cov**2 + np.outer(problem.eigenvalues, problem.eigenvalues))
    np.testing.assert_allclose(gram.var(axis=0), spread, rtol=0.06)
    np.testing.assert_allclose(np.cov(pull.T), 0.49 * batch_size * cov, atol=0.03 * batch_size)


@pytest.mark.parametrize("batch_size", [2, 256])
def test_a_trial_is_the_same_alone_in_company_and_extended(batch_size: int) -> None:
    whole, extended, slow, other = new_trial(0.1), new_trial(0.1), new_trial(0.01), new_trial(0.1)
    stream, (few, some, more, most) = (7, 3), evaluation_steps(600)[[20, 33, 50, -2]].tolist()
    train(batch_size, [(stream, whole, most)])
    train(batch_size, [(stream, extended, few), (stream, slow, some), ((7, 4), other, few)])
    train(batch_size, [((7, 4), other, some), (stream, slow, more), (stream, extended, most)])
    assert extended.steps == whole.steps
    np.testing.assert_allclose(extended.losses, whole.losses, rtol=1e-4)
    assert slow.steps[-1] == more
    assert other.losses[1:8] != whole.losses[1:8]


def test_a_capped_trial_is_cut_at_its_cap() -> None:
    trial = new_trial(LATTICE.lr(20))
    train(8, [((0, 0), trial, 300)])
    observed, (steps, losses) = trial.up_to(20, 1000)
    assert (observed.last_step, observed.ended, steps[-1], len(losses)) == (20, False, 20, 21)
    exploding = new_trial(5.0)
    train(8, [((0, 0), exploding, 300)])
    assert exploding.up_to(300, 1000)[0].diverged
    assert not exploding.up_to(1, 1000)[0].diverged


def test_exact_answers_are_those_of_a_hyperbola_put_in() -> None:
    log_size = np.linspace(0, np.log(4096), 97)
    exact = Exact(log_size, np.log(40 + 3360 / np.exp(log_size)), log_size)
    assert exact.half_elasticity() == pytest.approx(84, rel=2e-3)
    assert exact.overhead(0.2, 4.0) == pytest.approx(21.6, rel=2e-3)
    assert exact.fitted([1, 8, 64, 512, 4096])["B_crit"] == pytest.approx(84)


def test_summary_counts_what_intervals_hold() -> None:
    numbers = [(10, 9, 11), (12, 11.5, 13), (9, 8, np.nan), (np.nan, np.nan, np.nan)]
    rows = pd.DataFrame(numbers, columns=["value", "low", "high"])
    rows = rows.assign(target_loss=0.1, quantity="S(1)", seeds=3, exact=10.0)
    (row,) = summary(rows).to_dict("records")
    assert row["covered"] == pytest.approx(200 / 3)
    assert row["bias"] == pytest.approx(0)
    assert row["known"] == 75
