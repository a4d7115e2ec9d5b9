"""Averages of weights: torch's own, evaluated beside the weights themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from scaling.averaging import WeightAverage
from scaling.config import EvaluationConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.schema import DIVERGED
from scaling.tasks.linear_regression import LinearRegression
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from scaling.trial import prepare
from tests.scaling.custom_networks import Custom
from tests.scaling.plain_loop import plain_start
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.tasks.test_supervised import Blobs, blobs
from tests.scaling.trials import custom, finite_task, optimizer_config, regression_trial, trained

EMA = EvaluationConfig(30, average="ema", average_half_life_examples=50)


def averaged_model(model: torch.nn.Module, batch_size: int) -> AveragedModel:
    decay = 2.0 ** (-batch_size / cast(int, EMA.average_half_life_examples))
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def torch_losses(config: TrialConfig, make: type[torch.optim.Optimizer]) -> list[list[float]]:
    """Held-out losses of the average and of the weights after each step of a plain loop."""
    task = cast(LinearRegression, make_task(config))
    stream = task.streams([config.seed], config.batch_size)
    model = torch.nn.Linear(16, 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    average = averaged_model(model, config.batch_size)
    optimizer = make(model.parameters(), lr=config.lr)  # pyright: ignore[reportCallIssue]
    losses = []
    for _ in range(30):
        inputs, labels = (leaf[0] for leaf in stream.next())
        optimizer.zero_grad()
        (model(inputs)[:, 0] - labels).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
        both = (*average.parameters(), *model.parameters())
        losses.append([((w.detach()[0] - 1).square() @ task.eigenvalues).item() for w in both])
    return losses


@pytest.mark.parametrize("batch_size", [4, 64])
@pytest.mark.parametrize("name", ["sgd", "adam", "custom"])
def test_regression_equals_torch_in_a_stack_and_alone(name: str, batch_size: int) -> None:
    one = regression_trial(
        max_steps=30, precision="float64", lr=0.05, batch_size=batch_size, seed=5, evaluation=EMA
    )
    by_path = CustomOptimizerConfig(path="torch.optim.Adagrad")
    one = replace(one, optimizer=by_path if name == "custom" else optimizer_config(name))
    together, _ = trained(one, replace(one, lr=0.2), replace(one, seed=1))
    alone, _ = trained(one)
    assert together.curves[0] == alone.curves[0]
    assert together.metrics[0] == alone.metrics[0]
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "custom": torch.optim.Adagrad}
    found, raw = [], []
    for number, lr in enumerate((0.05, 0.2)):
        expected = torch_losses(replace(one, lr=lr), kinds[name])
        raw = [together.metrics[number][step]["raw_loss"] for step in range(1, 31)]
        found = [row[1] for row in together.curves[number][1:]]
        assert found == pytest.approx([of_average for of_average, _ in expected], rel=1e-9)
        assert raw == pytest.approx([of_weights for _, of_weights in expected], rel=1e-9)
    assert found[-1] != raw[-1]


def test_the_weights_train_as_without() -> None:
    one = regression_trial(max_steps=30, batch_size=4, evaluation=EMA)
    free, _ = trained(replace(one, evaluation=EvaluationConfig(30)))
    memory, _ = trained(one)
    raw = [memory.metrics[0][step]["raw_loss"] for step in range(31)]
    assert raw == [row[1] for row in free.curves[0]]
    assert [row[2] for row in memory.curves[0]] == [row[2] for row in free.curves[0]]
    assert [row[1] for row in memory.curves[0][:2]] == raw[:2]  # the first update is copied


@pytest.mark.parametrize("stacking", ["false", "true"])
@pytest.mark.parametrize("kind", ["plain", "frozen", "tied", "idle", "complex"])
def test_networks_equal_torch(kind: str, stacking: str) -> None:
    config = custom(kind, "momentum", lr=0.1, precision="float64", evaluation=EMA)
    config = replace(config, save_models=True, stack_networks=stacking)
    memory, _ = trained(*([config] if stacking == "false" else [config, replace(config, lr=0.3)]))
    problem, model, batches = plain_start(kind, config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    average = averaged_model(model, config.batch_size)
    for _ in range(30):
        inputs, labels = next(batches)
        optimizer.zero_grad()
        problem.loss(model(inputs), labels).backward()
        optimizer.step()
        average.update_parameters(model)
    for key, value in average.module.state_dict().items():
        torch.testing.assert_close(memory.models[0, "last"][key], value, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        held_out, goals = (torch.from_numpy(leaf) for leaf in problem.held_out)
        losses = [problem.loss(m(held_out.double()), goals) for m in (average, model)]
    assert memory.curves[0][-1][1] == pytest.approx(losses[0].item(), rel=1e-7)
    assert memory.metrics[0][30]["raw_loss"] == pytest.approx(losses[1].item(), rel=1e-7)


@pytest.mark.parametrize("recompute", [True, False])
def test_batch_norm_has_the_statistics_of_the_average(recompute: bool) -> None:
    """Recomputed under the averaged weights, as torch's update_bn, else those of the weights."""
    evaluation = replace(EMA, recompute_statistics=recompute, statistics_examples=90)
    config = blobs("sgd", lr=0.05, precision="float64", evaluation=evaluation, save_models=True)
    memory, _ = trained(config)
    problem = Blobs()
    torch.manual_seed(0)
    model = problem.model().double()
    images, labels = (torch.from_numpy(leaf) for leaf in problem.train)
    stream = SupervisedTask(problem, config).streams([0], 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    average = averaged_model(model, 16)
    for _ in range(30):
        rows = stream.next()[0][0]
        optimizer.zero_grad()
        problem.loss(model(images[rows].double()), labels[rows]).backward()
        optimizer.step()
        average.update_parameters(model)
    if recompute:
        update_bn([images.double()], average)
    held_out, goals = (torch.from_numpy(leaf) for leaf in problem.held_out)
    with torch.no_grad():
        outputs = average.eval()(held_out.double())
    expected = problem.loss(outputs, goals).item()
    assert memory.curves[0][-1][1] == pytest.approx(expected, rel=1e-7)
    accuracy = problem.metrics(outputs, goals)["accuracy"].item()
    assert memory.metrics[0][30].keys() == {"accuracy", "raw_loss", "raw_accuracy"}
    assert memory.curves[0][-1][1] != memory.metrics[0][30]["raw_loss"]
    assert memory.metrics[0][30]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("task", [regression_trial().task, finite_task()])
def test_bits_depend_neither_on_the_stack_nor_on_a_stop(task, tmp_path: Path) -> None:
    """Trials of 12 leave the stack at different steps."""
    base = regression_trial(
        max_steps=40, task=task, batch_size=8, evaluation=replace(EMA, every_step_until=5)
    )
    base = replace(base, relative_targets=[0.5], tail_factor=1.5)
    configs = [replace(base, lr=lr, seed=seed) for lr in (0.02, 0.1, 0.4) for seed in range(4)]
    together, results = trained(*configs)
    assert len({result.last_step for result in results}) > 2
    for number in (0, 5, 11):
        alone, _ = trained(configs[number])
        assert together.curves[number] == alone.curves[0]
        assert together.metrics[number] == alone.metrics[0]
    for step in (0, 1, 17):
        assert_same(prepare(configs), step, tmp_path)


def test_networks_are_resumed_with_their_averages(tmp_path: Path) -> None:
    assert_same(prepare([blobs("adamw", evaluation=EMA)]), 11, tmp_path)
    pair = [custom("plain", lr=lr, stack_networks="true", evaluation=EMA) for lr in (0.01, 0.1)]
    assert_same(prepare(pair), 11, tmp_path)


def test_float32_weights_have_an_average_in_float64() -> None:
    """From 0 to 1 with a half-life of 1e6 updates: 500 updates move it by 3.5e-4, in steps that
    float32 loses beside weights of 1e3."""
    average = WeightAverage(1, 10**6)
    average.take({"weights": torch.full((1, 3), 1e3)})
    for _ in range(500):
        average.take({"weights": torch.full((1, 3), 1001.0)})
    moved = average.saved(torch.tensor([0]))["weights"] - 1e3
    exact = torch.full((1, 3), -math.expm1(-500 * math.log(2) / 1e6), dtype=torch.float64)
    torch.testing.assert_close(moved, exact, rtol=1e-6, atol=0)
    assert average.of({"weights": torch.zeros(1, 3)})["weights"].dtype == torch.float32


def test_targets_are_of_the_average() -> None:
    config = regression_trial(max_steps=200, batch_size=4, evaluation=EMA, relative_targets=[0.3])
    config = replace(config, lr=0.1)
    memory, [result] = trained(config)
    [trial] = prepare([config])
    touched = {
        name: next(step for step, loss in curve if loss <= trial.targets[0])
        for name, curve in {
            "average": [row[:2] for row in memory.curves[0]],
            "weights": [(step, row["raw_loss"]) for step, row in memory.metrics[0].items()],
        }.items()
    }
    assert touched["weights"] < touched["average"]
    found = result.steps_to_target[trial.targets[0]]
    assert touched["weights"] < found <= touched["average"]


def test_weights_that_are_not_finite_diverge_whatever_their_average() -> None:
    slow = replace(EMA, average_half_life_examples=10**9)
    config = regression_trial(max_steps=400, lr=40.0, batch_size=4, evaluation=slow)
    config = replace(config, divergence_factor=1e300)
    _, [result] = trained(config)
    assert result.outcome == DIVERGED


def test_identity() -> None:
    def identity(**fields: Any) -> str:
        return prepare([regression_trial(evaluation=EvaluationConfig(**fields))])[0].trial_id

    none = identity()
    assert none == prepare([regression_trial()])[0].trial_id
    assert none == identity(average_half_life_examples=50)
    averaged = {identity(average="ema", average_half_life_examples=n) for n in (5, 6)}
    assert len({none, *averaged}) == 3


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"average": "ema"}, "evaluation.average_half_life_examples=None: evaluation.average=ema"),
        ({"average": "swa"}, "evaluation.average=swa: must be one of none, ema"),
        (
            {"average": "ema", "average_half_life_examples": 0},
            "evaluation.average_half_life_examples=0: must be a whole number >= 1",
        ),
    ],
)
def test_bad_values(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare([regression_trial(evaluation=EvaluationConfig(**fields))])
    assert str(caught.value).startswith(line)


class Raw(Custom):
    def metrics(self, outputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"raw_loss": outputs.mean()}


def test_a_metric_of_that_name_is_refused() -> None:
    config = custom("plain", evaluation=EMA)
    task = replace(config.task, path=f"{__name__}.Raw")  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigError, match="average=ema: raw_loss would be a metric of"):
        prepare([replace(config, task=task)])
