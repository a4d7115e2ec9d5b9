"""Finite data: expected losses against enumeration of all batches, stability limit, noise floor."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from analysis.theory.finite import (
    FiniteProblem,
    best_one_step_lr,
    finite_losses,
    largest_stable_finite_lr,
    stationary_finite_loss,
)
from analysis.theory.trials import Finite, theory_of
from scaling.problem import drawn_examples
from tests.analysis.simulated import Floats


def problem(n: int, d: int, replace: bool = True, scale: float = 1.0, start: float = 0.0):
    inputs, labels = drawn_examples(n, d, 1.0, 1.0, 1.0, seed=3)
    return FiniteProblem(inputs, labels, np.full(d, start), scale, replace)


def enumerated(of: FiniteProblem, batch_size: int, lr: float, n_steps: int) -> list[float]:
    """The mean loss over every sequence of batches that can be drawn."""
    rows = range(of.n_examples)
    draw = itertools.product(rows, repeat=batch_size)
    draw = draw if of.with_replacement else itertools.permutations(rows, batch_size)
    batches = [list(batch) for batch in draw]
    weights = of.initial_weights[None]
    means = []
    for _ in range(n_steps + 1):
        losses = ((weights @ of.inputs.T - of.labels) ** 2).mean(1)
        means.append(float(of.loss_scale * losses.mean()))
        moved = []
        for batch in batches:
            x, t = of.inputs[batch], of.labels[batch]
            gradient = 2 * of.loss_scale / batch_size * (weights @ x.T - t) @ x
            moved.append(weights - lr * gradient)
        weights = np.concatenate(moved)
    return means


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize(("n", "d"), [(4, 2), (3, 5)])
def test_losses_are_the_mean_over_all_batches(n: int, d: int, replace: bool) -> None:
    of = problem(n, d, replace, scale=0.5, start=0.3)
    found = finite_losses(of, np.array([1.0, 2.0]), np.array([0.2, 0.3]), 3)
    np.testing.assert_allclose(found[0], enumerated(of, 1, 0.2, 3), rtol=1e-10)
    np.testing.assert_allclose(found[1], enumerated(of, 2, 0.3, 3), rtol=1e-10)


def test_the_whole_batch_without_replacement_has_no_noise() -> None:
    of = problem(12, 5, replace=False)
    hessian = of.inputs.T @ of.inputs / 12
    assert largest_stable_finite_lr(of, 12) == pytest.approx(1 / np.linalg.eigvalsh(hessian)[-1])
    weights: Floats = np.zeros(5)
    for _ in range(20):
        weights = weights - 2 * 0.2 / 12 * of.inputs.T @ (of.inputs @ weights - of.labels)
    loss = np.mean((of.inputs @ weights - of.labels) ** 2)
    found = finite_losses(of, np.array([12.0]), np.array([0.2]), 20)
    assert found[0, -1] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_stability_and_floor_are_the_recursions(batch_size: int, replace: bool) -> None:
    of = problem(24, 8, replace, scale=0.5)
    edge = largest_stable_finite_lr(of, batch_size)
    pair = finite_losses(of, np.full(2, float(batch_size)), np.array([0.5, 1.03]) * edge, 6000)
    assert stationary_finite_loss(of, batch_size, 0.5 * edge) == pytest.approx(pair[0, -1])
    assert stationary_finite_loss(of, batch_size, 1.001 * edge) == np.inf
    assert pair[1, 6000] > 10 * pair[1, 3000] > pair[1, 0]


def test_fewer_examples_than_weights_leave_no_floor() -> None:
    of = problem(6, 20)
    edge = largest_stable_finite_lr(of, 2)
    assert of.irreducible_loss == pytest.approx(0, abs=1e-25)
    assert stationary_finite_loss(of, 2, 0.5 * edge) == pytest.approx(0, abs=1e-20)
    pair = finite_losses(of, np.full(2, 2.0), np.array([0.9, 1.05]) * edge, 3000)
    assert pair[0, -1] < 1e-6 * pair[0, 0] < pair[1, -1]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 12])
def test_best_one_step_lr_is_the_parabolas_minimum(batch_size: int, replace: bool) -> None:
    """The expected loss after one step, at three lrs, is a parabola; its minimum is the lr."""
    of = problem(12, 5, replace, scale=0.5, start=0.4)
    predicted = best_one_step_lr(of, batch_size)
    lrs = predicted * np.array([0.5, 1.0, 1.7])
    losses = finite_losses(of, np.full(3, float(batch_size)), lrs, 1)[:, 1]
    square, slope, _ = np.polyfit(lrs, losses, 2)
    assert -slope / (2 * square) == pytest.approx(predicted, rel=1e-9)


def test_best_one_step_lr_of_the_whole_data_is_the_closed_form() -> None:
    of = problem(12, 5, replace=False, start=0.4)
    a = of.inputs @ of.initial_weights - of.labels
    pulled = of.inputs.T @ a
    closed = 12 / 2 * (pulled @ pulled) / np.sum((of.inputs @ pulled) ** 2)
    assert best_one_step_lr(of, 12) == pytest.approx(closed, rel=1e-12)
    assert best_one_step_lr(of, 1) < best_one_step_lr(of, 6) < closed


def test_finite_theory_of_trials() -> None:
    of = problem(24, 8)
    row = {
        "batch_size": 4, "lr": 0.1, "task.name": "finite_regression", "optimizer.name": "sgd",
        "schedule.name": "constant", "task.data_examples": 24, "task.dimension": 8,
        "task.spectrum_exponent": 1.0, "task.label_noise": 1.0, "task.true_weight": 1.0,
        "task.data_seed": 3,
        "task.initial_weights": "[0.0]", "task.loss_scale": 1.0,
        "task.sampling": "with_replacement", "irreducible_loss": of.irreducible_loss,
        "initial_loss": np.mean(of.labels**2),
    }  # fmt: skip
    theory = theory_of(pd.DataFrame([row, row]))
    assert isinstance(theory, Finite)
    assert theory.stable_lr(4) == pytest.approx(largest_stable_finite_lr(of, 4))
    given = {
        "task.inputs": json.dumps(of.inputs.tolist()),
        "task.labels": json.dumps(of.labels.tolist()),
    }
    again = theory_of(pd.DataFrame([row | given]))
    assert isinstance(again, Finite)
    np.testing.assert_allclose(again.problem.inputs, of.inputs)
    cut = {key: text[: len(text) // 2] for key, text in given.items()}
    assert theory_of(pd.DataFrame([row | cut])) is None
    assert theory_of(pd.DataFrame([row | {"optimizer.name": "adam"}])) is None
    assert theory_of(pd.DataFrame([row | {"initial_loss": 1.0}])) is None
