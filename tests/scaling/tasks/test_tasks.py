"""Gradients against autograd, held-out losses against their formulas, properties of the streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scaling.config import TrialConfig
from scaling.optimizers.config import SgdConfig
from scaling.tasks.config import LinearRegressionConfig, TaskConfig
from scaling.tasks.finite_regression import FiniteRegression
from scaling.tasks.make import make_task
from scaling.tasks.task import Task
from tests.scaling.trials import finite_task

TASKS = [
    LinearRegressionConfig(dimension=5, label_noise=0.5, true_weight=2.0),
    finite_task(loss_scale=0.5),
    finite_task(data_examples=3, sampling="without_replacement"),
]


def make(task: TaskConfig, precision: str) -> Task:
    return make_task(TrialConfig(task=task, optimizer=SgdConfig(), precision=precision))


def two_tiles(task: Task) -> dict[str, torch.Tensor]:
    params = task.initial_params([0] * 2 * task.tile_width)
    generator = torch.Generator().manual_seed(0)
    for leaf in params.values():
        leaf += torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
    return params


@pytest.mark.parametrize("config", TASKS, ids=["streaming", "finite", "few examples"])
def test_gradients_equal_autograd(config) -> None:
    task = make(config, "float64")
    params = two_tiles(task)
    inputs, labels = batch = task.streams([3, 4], 3).next()
    losses, gradients = task.losses_and_gradients(params, batch)
    scale = getattr(config, "loss_scale", 1.0)
    for row in range(2 * task.tile_width):
        weights = params["weights"][row].clone().requires_grad_()
        tile = row // task.tile_width
        loss = scale * (inputs[tile] @ weights - labels[tile]).square().mean()
        loss.backward()
        assert losses[row].item() == pytest.approx(loss.item(), rel=1e-12)
        torch.testing.assert_close(gradients["weights"][row], weights.grad, rtol=1e-12, atol=1e-13)


def test_excess_risk_is_the_expected_loss_above_the_noise() -> None:
    config = TASKS[0]
    task = make(config, "float64")
    params = two_tiles(task)
    inputs, labels = task.streams([1, 2], 100_000).next()
    losses, _ = task.losses_and_gradients(params, (inputs, labels))
    excess = losses - 0.5**2
    torch.testing.assert_close(excess, task.held_out_metrics(params)["loss"], rtol=0.05, atol=0)


def test_finite_loss_and_its_minimum() -> None:
    task = FiniteRegression(finite_task(loss_scale=0.5, data_examples=40), torch.float64)
    inputs, labels = (leaf[0].numpy() for leaf in task.streams([0], 400_000).next())
    rows = np.unique(np.column_stack([inputs, labels]), axis=0)
    assert len(rows) == 40  # with replacement, every example comes up
    solution = np.linalg.solve(rows[:, :-1].T @ rows[:, :-1], rows[:, :-1].T @ rows[:, -1])
    loss = 0.5 * np.mean((rows[:, :-1] @ solution - rows[:, -1]) ** 2)
    assert task.irreducible_loss == pytest.approx(loss, rel=1e-10)
    params = {"weights": torch.from_numpy(solution).repeat(32, 1)}
    assert task.held_out_metrics(params)["loss"][0].item() == pytest.approx(loss, rel=1e-10)


def test_without_replacement_no_example_comes_twice_in_a_batch() -> None:
    task = make(finite_task(sampling="without_replacement"), "float64")
    streams = task.streams([0], 24)
    first, second = streams.next()[1][0], streams.next()[1][0]
    assert len(set(first.tolist())) == 24
    assert sorted(first.tolist()) == sorted(second.tolist())
    assert first.tolist() != second.tolist()  # each batch is a fresh draw


def test_given_data_replace_drawn_data() -> None:
    config = finite_task(inputs=[[2, 1]], labels=[2], loss_scale=0.5)
    task = make(config, "float64")
    assert task.model_size == 2
    assert task.irreducible_loss == pytest.approx(0, abs=1e-30)
    assert task.held_out_metrics(task.initial_params([0] * 32))["loss"][0] == 2.0


@pytest.mark.parametrize("config", TASKS[:2], ids=["streaming", "finite"])
def test_a_seed_fixes_its_stream_whatever_stands_beside_it(config) -> None:
    task = make(config, "float32")
    alone, together, other = task.streams([7], 4), task.streams([1, 7], 4), task.streams([7], 8)
    for step in range(5000):  # over several blocks
        mine, theirs = alone.next(), together.next()
        if step == 3000:
            together.keep([1])
            theirs = tuple(leaf[1:] for leaf in theirs)
        elif step < 3000:
            theirs = tuple(leaf[1:] for leaf in theirs)
        for left, right in zip(mine, theirs, strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(other.next()[0][:, :4], task.streams([7], 4).next()[0])


def test_streams_of_seeds_and_batch_sizes_are_uncorrelated() -> None:
    task = make(LinearRegressionConfig(dimension=1, label_noise=0.0), "float64")
    draws = np.array(
        [
            [task_stream.next()[0][0, 0, 0].item() for _ in range(4000)]
            for task_stream in (task.streams([s], b) for s, b in ((0, 1), (1, 1), (0, 2), (1, 2)))
        ]
    )
    correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)
