"""Networks in THE loop: equal to plain PyTorch, repeatable, resumable, micro-batched, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from scaling.config import BudgetConfig, EvaluationConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.tasks.config import CustomTaskConfig
from scaling.tasks.flat import FlatModule
from scaling.tasks.supervised import SupervisedTask
from scaling.train import train
from scaling.trial import Trial, prepare
from tests.scaling.record.test_checkpoint import go_on, stop_at
from tests.scaling.trials import Memory, optimizer_config


class Blobs:
    """Small images of three kinds; a convolutional network with batch normalisation."""

    def __init__(self, norm: str = "batch", width: int = 4, irreducible: float = 0.0) -> None:
        random = np.random.default_rng(0)
        labels = random.integers(0, 3, 120)
        images = random.standard_normal((120, 1, 4, 4)) + labels[:, None, None, None]
        self.train = (images[:90].astype(np.float32), labels[:90])
        self.held_out = (images[90:].astype(np.float32), labels[90:])
        self.norm, self.width = norm, width
        self.model_size = width
        self.irreducible_loss = irreducible

    def model(self) -> nn.Module:
        norm = nn.BatchNorm2d(self.width) if self.norm == "batch" else nn.Identity()
        convolution = nn.Conv2d(1, self.width, 3)
        return nn.Sequential(
            convolution, norm, nn.ReLU(), nn.Flatten(), nn.Linear(4 * self.width, 3)
        )

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels)

    def metrics(self, outputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"accuracy": (outputs.argmax(1) == labels).double().mean()}

    def picture(self, inputs: torch.Tensor, outputs: torch.Tensor, labels) -> np.ndarray:
        return np.full((2, 2, 3), len(inputs), dtype=np.uint8)


def blobs(optimizer: str = "adam", options: dict[str, Any] | None = None, **fields: Any):
    task = CustomTaskConfig(path="tests.scaling.tasks.test_supervised.Blobs", options=options or {})
    fields.setdefault("budget", BudgetConfig(max_steps=30))
    fields.setdefault("lr", 0.01)
    fields.setdefault("batch_size", 16)
    return TrialConfig(task=task, optimizer=optimizer_config(optimizer), **fields)


def run(*configs: TrialConfig) -> tuple[Memory, list[Trial]]:
    memory, trials = Memory(), prepare(configs)
    train(trials, memory)
    return memory, trials


MAKE = {
    "sgd": torch.optim.SGD,
    "momentum": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9),
    "nesterov": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9, nesterov=True),
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("optimizer", MAKE)
def test_equals_a_plain_pytorch_loop(optimizer: str) -> None:
    config = blobs(optimizer, precision="float64", seed=3)
    memory, _ = run(config)
    problem = Blobs()
    torch.manual_seed(3)
    model = problem.model().double()
    optimize = MAKE[optimizer](model.parameters(), lr=0.01)
    stream = SupervisedTask(problem, config).streams([3], 16)
    images, labels = (torch.from_numpy(leaf) for leaf in problem.train)
    losses = []
    for _ in range(30):
        rows = stream.next()[0][0]
        optimize.zero_grad()
        loss = problem.loss(model(images[rows].double()), labels[rows])
        loss.backward()
        optimize.step()
        losses.append(loss.item())
    assert [row[2] for row in memory.curves[0][1:21]] == pytest.approx(losses[:20], rel=1e-9)


def test_the_same_trial_twice_gives_the_same_bits() -> None:
    state = torch.get_rng_state()
    first, second, other = (run(blobs(seed=seed))[0] for seed in (1, 1, 2))
    assert first.curves == second.curves
    assert first.curves[0][0] != other.curves[0][0]  # another network at step 0
    assert torch.equal(torch.get_rng_state(), state)  # and nobody else's numbers are disturbed


@pytest.mark.parametrize("step", [1, 7, 20, 26])
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
@pytest.mark.parametrize("recompute", [True, False])
def test_stopped_and_gone_on_with(
    step: int, optimizer: str, recompute: bool, tmp_path: Path
) -> None:
    """With recompute=False the running statistics of batch norm are in every loss."""
    evaluation = EvaluationConfig(recompute_statistics=recompute)
    trials = prepare([blobs(optimizer, evaluation=evaluation)])
    whole = Memory()
    train(trials, whole)
    merged, _ = go_on(trials, stop_at(step, trials, tmp_path))
    assert merged.curves == whole.curves


def test_evaluation_does_not_disturb_training() -> None:
    often = blobs(evaluation=EvaluationConfig(every_step_until=30, recompute_statistics=False))
    seldom = blobs(evaluation=EvaluationConfig(1, 30.0, recompute_statistics=False))
    ends = [run(config)[0].curves[0][-1][1] for config in (often, seldom)]
    assert ends[0] == ends[1]


def test_stale_statistics_are_what_recomputing_cures() -> None:
    def losses(recompute: bool) -> list[float]:
        evaluation = EvaluationConfig(recompute_statistics=recompute)
        return [row[1] for row in run(blobs(lr=0.05, evaluation=evaluation))[0].curves[0]]

    assert losses(True)[5] < 0.9 * losses(False)[5]


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_micro_batches_have_the_gradient_of_the_batch(size: int) -> None:
    config = blobs(options={"norm": "none"}, batch_size=16)
    whole = SupervisedTask(Blobs("none"), config)
    parts = SupervisedTask(Blobs("none"), replace(config, micro_batch_size=size))
    params = whole.initial_params([4])
    batch = whole.streams([0], 16).next()
    loss, gradient = whole.losses_and_gradients(params, batch)
    again, gradient_of_parts = parts.losses_and_gradients(params, batch)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=0)
    scale = gradient["weights"].abs().max()
    difference = gradient_of_parts["weights"] - gradient["weights"]
    assert (difference.abs().max() / scale).item() < 1e-5


def test_stacked_networks_train_like_single_ones() -> None:
    configs = [blobs(lr=lr, seed=seed) for lr in (0.01, 0.1) for seed in (0, 1)]
    stacked, _ = run(*[replace(config, stack_networks="true") for config in configs])
    for number, config in enumerate(configs):
        alone, _ = run(config)
        ours = [row[1] for row in stacked.curves[number]]
        assert ours == pytest.approx([row[1] for row in alone.curves[0]], rel=2e-3)


def test_moving_averages_of_a_stack_move_as_those_of_single_networks() -> None:
    moving = EvaluationConfig(recompute_statistics=False)
    configs = [blobs("sgd", lr=lr, evaluation=moving, precision="float64") for lr in (0.01, 0.1)]
    stacked, _ = run(*[replace(config, stack_networks="true") for config in configs])
    for number, config in enumerate(configs):
        alone, _ = run(config)
        ours = [row[1] for row in stacked.curves[number]]
        assert ours == pytest.approx([row[1] for row in alone.curves[0]], rel=1e-6)


def test_networks_are_alone_unless_they_are_asked_to_stack() -> None:
    from scaling.stack import group_into_stacks

    configs = [blobs(lr=lr) for lr in (0.01, 0.1, 0.2)]
    assert len(group_into_stacks(prepare(configs), 1024)) == 3
    together = [replace(config, stack_networks="true") for config in configs]
    assert len(group_into_stacks(prepare(together), 1024)) == 1
    in_parts = [replace(config, micro_batch_size=4) for config in together]
    assert len(group_into_stacks(prepare(in_parts), 1024)) == 3


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement", "fixed_order"])
def test_sampling(sampling: str) -> None:
    config = blobs(batch_size=40)
    task = replace(config.task, sampling=sampling)  # pyright: ignore[reportCallIssue]
    streams = SupervisedTask(Blobs(), replace(config, task=task)).streams([0, 1], 40)
    batches = [streams.next()[0] for _ in range(30)]
    assert batches[0].shape == (2, 40)
    distinct = [len(set(rows.tolist())) for batch in batches for rows in batch]
    if sampling == "with_replacement":
        assert max(distinct) < 40
    else:
        assert set(distinct) == {40}
    if sampling == "fixed_order":
        rows = torch.cat([batch[1] for batch in batches])
        assert rows.tolist() == [i % 90 for i in range(30 * 40)]
    else:
        assert not torch.equal(batches[0][0], batches[0][1])


def test_fixed_order_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = blobs(batch_size=7)
    task = replace(config.task, sampling="fixed_order")  # pyright: ignore[reportCallIssue]
    trials = prepare([replace(config, task=task)])
    whole = Memory()
    train(trials, whole)
    merged, _ = go_on(trials, stop_at(18, trials, tmp_path))  # in the second block
    assert merged.curves == whole.curves


def test_pictures_after_going_on_stand_at_the_same_steps(tmp_path) -> None:
    trials = prepare([blobs(lr=0.05)])
    whole = Memory()
    train(trials, whole)
    stopped = stop_at(9, trials, tmp_path)
    rest, _ = go_on(trials, stopped)
    assert sorted(rest.pictures[0]) == [step for step in sorted(whole.pictures[0]) if step > 9]


def test_metrics_and_pictures_come_with_evaluations() -> None:
    seen: list[Sequence[float]] = []

    class Keeps(Memory):
        def evaluation(self, evaluation) -> None:
            super().evaluation(evaluation)
            seen.append(evaluation.metrics["accuracy"].tolist())

    memory = Keeps()
    train(prepare([blobs(lr=0.05)]), memory)
    assert seen[-1][0] > 0.8 > seen[0][0]
    last = memory.outcomes[0].last_step
    assert sorted(memory.pictures[0]) == [0, 1, 2, 4, 8, 16, last]
    memory = Memory()
    train(prepare([blobs(picture_ratio=None)]), memory)
    assert not memory.pictures


def test_the_best_and_the_last_network_are_handed_over() -> None:
    config = blobs("sgd", lr=2.0, save_models=True)  # so large that the last is not the best
    memory, _trials = run(config)
    losses = [row[1] for row in memory.curves[0]]
    assert losses[-1] > min(losses)
    problem = Blobs()
    images, labels = (torch.from_numpy(leaf) for leaf in problem.held_out)
    for kind, loss in (("best", min(losses)), ("last", losses[-1])):
        model = problem.model()
        model.load_state_dict(memory.models[0, kind])
        with torch.no_grad():
            again = problem.loss(model.eval()(images), labels).item()
        assert again == pytest.approx(loss, rel=1e-4)
    assert not run(replace(config, save_models=False))[0].models


def test_bf16_is_near_float32() -> None:
    losses = [run(blobs(precision=p))[0].curves[0][-1][1] for p in ("float32", "bf16")]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_step_seconds_are_measured() -> None:
    memory, _ = run(blobs())
    seconds = memory.outcomes[0].step_seconds
    assert seconds is not None
    assert 0 < seconds < 1


def test_model_size_targets_and_facts() -> None:
    small, large = prepare([blobs(options={"width": 2}), blobs(options={"width": 8})])
    assert (small.model_size, large.model_size) == (2, 8)
    assert large.facts["parameters"] == 8 * 9 + 8 + 2 * 8 + 3 * 32 + 3
    relative = [blobs(seed=seed, relative_targets=[0.5]) for seed in (0, 5)]
    assert len({trial.targets for trial in prepare(relative)}) == 1  # of seed 0, for all


def test_identity_holds_what_decides_the_numbers() -> None:
    config = blobs()
    ids = {
        prepare([one])[0].trial_id
        for one in (
            config,
            replace(config, micro_batch_size=4),
            replace(config, precision="bf16"),
            blobs(options={"width": 3}),
        )
    }
    assert len(ids) == 4
    same = [replace(config, device="cpu"), replace(config, picture_ratio=None)]
    assert {prepare([one])[0].trial_id for one in same} == {prepare([config])[0].trial_id}


def test_parameters_are_views_of_one_vector() -> None:
    flat = FlatModule(Blobs().model())
    values = flat.values()
    flat.load(values | {"weights": values["weights"] * 2})
    convolution = next(iter(flat.module.children()))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)  # pyright: ignore
    total = sum(p.detach().double().sum().item() for p in flat.module.parameters())
    assert total == pytest.approx(2 * float(values["weights"].double().sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (blobs(device="cuda"), "device=cuda: torch sees no CUDA device"),
        (blobs(micro_batch_size=0), "micro_batch_size=0: must be a whole number >= 1"),
        (blobs(precision="float16"), "precision=float16: must be one of"),
        (blobs(picture_ratio=1.0), "picture_ratio=1.0: must be a finite number > 1"),
    ],
)
def test_bad_values(config: TrialConfig, line: str) -> None:
    if config.device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError) as caught:
        prepare([config])
    assert str(caught.value).startswith(line)


def test_too_large_a_batch_without_replacement() -> None:
    config = blobs(batch_size=91)
    task = replace(config.task, sampling="without_replacement")  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigError, match="batch_size=91: at most the 90 training examples"):
        prepare([replace(config, task=task)])
