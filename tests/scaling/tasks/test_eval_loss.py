"""A training loss beside the held-out one: label smoothing, and an auxiliary head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from scaling.config import BudgetConfig, EvaluationConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.tasks.config import CustomTaskConfig
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from scaling.trial import prepare
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import optimizer_config, trained


class TwoHeads(nn.Module):
    """The second head speaks in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.second = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, inputs: Tensor) -> Any:
        hidden = torch.relu(self.norm(self.first(inputs)))
        return (self.last(hidden), self.second(hidden)) if self.training else self.last(hidden)


class Smoothed:
    def __init__(self, broken: str = "") -> None:
        drawn = np.random.default_rng(0)
        labels = drawn.integers(0, 3, 96)
        inputs = drawn.standard_normal((96, 4)) + labels[:, None]
        self.train = (inputs[:64].astype(np.float32), labels[:64])
        self.held_out = (inputs[64:].astype(np.float32), labels[64:])
        self.broken = broken

    def model(self) -> nn.Module:
        return TwoHeads()

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        logits, second = outputs
        if self.broken == "loss":
            return cross_entropy(logits, labels, reduction="none")
        return cross_entropy(logits, labels, label_smoothing=0.1) + 0.3 * cross_entropy(
            second, labels
        )

    def eval_loss(self, outputs: Tensor, labels: Tensor) -> Any:
        if self.broken == "eval_loss":
            return float(cross_entropy(outputs, labels))
        if self.broken == "raises":
            return cross_entropy(outputs[0], labels)
        return cross_entropy(outputs, labels)


class Sure(Smoothed):
    """Equal to Smoothed but for its held-out loss."""

    def eval_loss(self, outputs: Tensor, labels: Tensor) -> Any:
        return (outputs.argmax(1) != labels).double().mean()


def smoothed(problem: str = "Smoothed", broken: str = "", **fields: Any) -> TrialConfig:
    options = {"broken": broken} if broken else {}
    task = CustomTaskConfig(path=f"{__name__}.{problem}", options=options)
    fields = {"budget": BudgetConfig(max_steps=20), "lr": 0.05, "batch_size": 8} | fields
    return TrialConfig(task=task, optimizer=optimizer_config("momentum"), **fields)


EVERY_STEP = EvaluationConfig(20, recompute_statistics=False)


@pytest.mark.parametrize("stacking", ["false", "true"])
def test_equals_a_plain_torch_loop(stacking: str) -> None:
    config = smoothed(precision="float64", evaluation=EVERY_STEP, stack_networks=stacking)
    config = replace(config, save_models=True)
    memory, _ = trained(*([config] if stacking == "false" else [config, replace(config, lr=0.2)]))
    problem = Smoothed()
    torch.manual_seed(0)
    model = problem.model().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    stream = SupervisedTask(problem, config).streams([0], 8)
    inputs, labels = torch.from_numpy(problem.train[0]).double(), torch.from_numpy(problem.train[1])
    held_out, goals = (torch.from_numpy(leaf) for leaf in problem.held_out)
    for step in range(1, 21):
        rows = stream.next()[0][0]
        optimizer.zero_grad()
        loss = problem.loss(model.train()(inputs[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            evaluated = cross_entropy(model.eval()(held_out.double()), goals)
        _, found, train_loss, _ = memory.curves[0][step]
        assert found == pytest.approx(evaluated.item(), rel=1e-7)  # recorded as a float32
        assert train_loss == pytest.approx(loss.item(), rel=1e-9)
        assert train_loss != found
    for key, value in model.state_dict().items():
        torch.testing.assert_close(memory.models[0, "last"][key], value, rtol=1e-9, atol=1e-12)


def test_the_held_out_loss_decides_nothing_but_the_curve() -> None:
    one, other = (trained(smoothed(name, save_models=True))[0] for name in ("Smoothed", "Sure"))
    for key, value in one.models[0, "last"].items():
        assert torch.equal(value, other.models[0, "last"][key])
    assert one.curves[0][-1][1] != other.curves[0][-1][1]


def test_targets_are_of_eval_loss() -> None:
    config = smoothed("Sure", relative_targets=[0.5])
    [trial] = prepare([config])
    memory, [result] = trained(config)
    assert trial.initial_loss == memory.curves[0][0][1] <= 1
    first = next(step for step, loss, *_ in memory.curves[0] if loss <= trial.initial_loss / 2)
    assert first - 1 < result.steps_to_target[trial.targets[0]] <= first


def test_the_noise_scale_is_of_the_training_loss() -> None:
    """Equal parts have, on average, the gradient of the batch that training takes."""
    task = make_task(smoothed(precision="float64"))
    assert isinstance(task, SupervisedTask)
    task._flat.module.get_submodule("norm").momentum = 0.0  # pyright: ignore
    params, batch = task.initial_params([0]), (torch.arange(8).repeat(2)[None],)
    parts = task.part_gradients(params, batch, 2)
    _, gradients = task.losses_and_gradients(params, batch)
    torch.testing.assert_close(parts.mean(1), gradients["weights"], rtol=1e-9, atol=1e-12)


def test_stopped_and_gone_on_with(tmp_path: Path) -> None:
    assert_same(prepare([smoothed()]), 7, tmp_path)
    pair = [smoothed(lr=lr, stack_networks="true") for lr in (0.05, 0.1)]
    assert_same(prepare(pair), 7, tmp_path)


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        (
            "loss",
            r"loss returns Tensor\[2\] for a tuple of Tensor, Tensor, Tensor\[2\]; it must return",
        ),
        ("eval_loss", r"eval_loss returns a float for Tensor\[2, 3\], Tensor\[2\]; it must return"),
        ("raises", r"eval_loss, given Tensor\[2, 3\], Tensor\[2\], raised "),
    ],
)
def test_what_is_wrong_with_either_is_one_line(broken: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        prepare([smoothed(broken=broken)])
    assert "\n" not in str(caught.value)


def test_extra_outputs_without_eval_loss_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`loss` is then the held-out loss too, and unpacks what eval mode returns."""
    monkeypatch.delattr(Smoothed, "eval_loss")
    monkeypatch.setattr("scaling.tasks.custom._problems", {})
    with pytest.raises(ConfigError, match=r"loss, given Tensor\[2, 3\], Tensor\[2\], raised Value"):
        prepare([smoothed()])
