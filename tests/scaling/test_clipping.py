"""Clipping: torch's own, of each trial of a stack by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from scaling.clipping import clipped
from scaling.config import EvaluationConfig, TrialConfig
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.schema import DIVERGED
from scaling.tasks.linear_regression import LinearRegression
from scaling.tasks.make import make_task
from scaling.trial import prepare
from tests.scaling.plain_loop import plain_start
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import custom, finite_task, optimizer_config, regression_trial, trained


@pytest.mark.parametrize("clip_norm", [1e-3, 1.0, 50.0])
def test_each_row_is_what_torch_makes_of_it(clip_norm: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"bias": (7, 3), "kernel": (7, 2, 3, 4), "scale": (7,)}
    rows = {
        key: torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in shapes.items()
    }
    for leaf in rows.values():  # norms from 0 to 1e4
        leaf *= torch.tensor([0, 1e-9, 1e-2, 0.2, 1, 30, 1e4]).view(-1, *[1] * (leaf.dim() - 1))
    found = clipped(rows, clip_norm)
    for row in range(7):
        leaves = {key: torch.zeros_like(leaf[row]) for key, leaf in rows.items()}
        for key, leaf in leaves.items():
            leaf.grad = rows[key][row].clone()
        clip_grad_norm_(leaves.values(), clip_norm)
        for key, leaf in leaves.items():
            torch.testing.assert_close(found[key][row], leaf.grad, rtol=1e-9, atol=0)


def test_large_numbers_are_clipped_and_no_row_touches_another() -> None:
    rows = torch.tensor([[3e25, -4e25], [0.3, 0.4], [torch.inf, 1.0], [torch.nan, 1.0]])
    found = clipped({"weights": rows}, 1.0)["weights"]
    torch.testing.assert_close(found[0], torch.tensor([0.6, -0.8]))
    assert torch.equal(found[1], rows[1])
    assert not torch.isfinite(found[2:]).all(1).any()


def torch_losses(config: TrialConfig, make: type[torch.optim.Optimizer]) -> list[float]:
    """Held-out losses after each step of the loop that everybody writes."""
    task = cast(LinearRegression, make_task(config))
    stream = task.streams([config.seed], config.batch_size)
    weights = torch.zeros(16, dtype=torch.float64, requires_grad=True)
    optimizer = make([weights], lr=config.lr)  # pyright: ignore[reportCallIssue]
    losses = []
    for _ in range(30):
        inputs, labels = (leaf[0] for leaf in stream.next())
        optimizer.zero_grad()
        (inputs @ weights - labels).square().mean().backward()
        clip_grad_norm_([weights], cast(float, config.clip_norm))
        optimizer.step()
        losses.append(((weights.detach() - 1).square() @ task.eigenvalues).item())
    return losses


@pytest.mark.parametrize("batch_size", [4, 64])
@pytest.mark.parametrize("name", ["sgd", "adam", "custom"])
def test_regression_equals_torch_in_a_stack_and_alone(name: str, batch_size: int) -> None:
    """Gradients of the later steps are shorter than clip_norm, those of the first longer."""
    one = regression_trial(
        max_steps=30, precision="float64", lr=0.05, batch_size=batch_size, seed=5, clip_norm=1.5
    )
    one = replace(one, evaluation=EvaluationConfig(30))
    by_path = CustomOptimizerConfig(path="torch.optim.Adagrad")
    one = replace(one, optimizer=by_path if name == "custom" else optimizer_config(name))
    together, _ = trained(one, replace(one, lr=0.2), replace(one, seed=1))
    alone, _ = trained(one)
    assert together.curves[0] == alone.curves[0]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "custom": torch.optim.Adagrad}
    for number, lr in enumerate((0.05, 0.2)):
        expected = torch_losses(replace(one, lr=lr), kinds[name])
        found = [row[1] for row in together.curves[number][1:]]
        assert found == pytest.approx(expected, rel=1e-9)
    free, _ = trained(replace(one, clip_norm=None))
    assert free.curves[0][-1] != alone.curves[0][-1]


@pytest.mark.parametrize("stacking", ["false", "true"])
@pytest.mark.parametrize("kind", ["plain", "frozen", "tied", "idle", "complex"])
def test_networks_equal_torch(kind: str, stacking: str) -> None:
    config = custom(kind, "momentum", lr=0.1, precision="float64", clip_norm=0.3)
    config = replace(config, save_models=True, stack_networks=stacking)
    memory, _ = trained(*([config] if stacking == "false" else [config, replace(config, lr=0.3)]))
    problem, model, batches = plain_start(kind, config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    longest = 0.0
    for _ in range(30):
        inputs, labels = next(batches)
        optimizer.zero_grad()
        problem.loss(model(inputs), labels).backward()
        longest = max(longest, clip_grad_norm_(model.parameters(), 0.3).item())
        optimizer.step()
    assert longest > 0.5
    for key, value in model.state_dict().items():
        torch.testing.assert_close(memory.models[0, "last"][key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("task", [regression_trial().task, finite_task()])
def test_bits_depend_neither_on_the_stack_nor_on_a_stop(task, tmp_path: Path) -> None:
    base = regression_trial(max_steps=40, task=task, batch_size=8, clip_norm=0.5)
    configs = [replace(base, lr=lr, seed=seed) for lr in (0.02, 0.1, 0.4) for seed in range(4)]
    together, _ = trained(*configs)
    for number in (0, 5, 11):
        alone, _ = trained(configs[number])
        assert together.curves[number] == alone.curves[0]
    assert_same(prepare(configs), 17, tmp_path)


def test_the_gradient_that_is_not_finite_is_named() -> None:
    config = custom(problem="BadBias", clip_norm=1.0)
    _, [result] = trained(config)
    _, [free] = trained(replace(config, clip_norm=None))
    assert result.outcome == DIVERGED
    assert result.not_finite == free.not_finite == "gradient of last.bias"
