"""Own problems that are not what a task needs: one line with what came, and its shape."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from scaling.config import TrialConfig
from scaling.draws import seed_draws
from scaling.limits import ConfigError
from scaling.tasks.config import CustomTaskConfig
from scaling.tasks.make import make_task
from scaling.tasks.problem_check import check_network
from scaling.tasks.supervised import SupervisedTask
from scaling.tasks.task import Task

INPUTS, TARGETS = torch.ones(8, 3), torch.arange(8.0)
DATA = TensorDataset(INPUTS, TARGETS)


BATCHES = {"train": None, "n_train": 8, "content_hash": "1"}


class Unnumbered(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(DATA)


class Good:
    def __init__(self, **changed: Any) -> None:
        self.train: Any = (INPUTS, TARGETS)
        self.held_out: Any = (INPUTS.numpy(), TARGETS.tolist())
        vars(self).update(changed)

    def model(self) -> Any:
        return nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1), nn.Dropout(0.5))

    def loss(self, outputs: Any, targets: torch.Tensor) -> Any:
        return (outputs[:, 0] - targets).square().mean()


class Keyed(nn.Linear):
    def forward(self, input: torch.Tensor) -> Any:
        return {"logits": super().forward(input), "hidden": input}


class Twofold(nn.Linear):
    def forward(self, input: torch.Tensor) -> Any:
        return super().forward(input), input


MISTAKES = {
    "loader": (
        {"train": DataLoader(DATA)},
        "train is a DataLoader; it must be a tuple of tensors or arrays, .inputs, targets.",
    ),
    "unsaid": ({"held_out": DATA}, "content_hash=None: is required where held_out is not given as"),
    "stream": (
        {"train": Unnumbered(), "content_hash": "1"},
        "the problem's train=Unnumbered: has no examples by number, which a trial draws; give a",
    ),
    "empty": ({"train": TensorDataset(INPUTS[:0]), "content_hash": "1"}, "train=0 examples: must"),
    "uncounted": (
        {"train": None, "batch": lambda indices, generator: (INPUTS,), "content_hash": "1"},
        "the problem's n_train=None: without train the problem requires batch.... and n_train, a",
    ),
    "too_many": (
        {**BATCHES, "batch": lambda indices, generator: (INPUTS, TARGETS)},
        r"the problem's batch, part 0=\[8, 3\]: every part must be a tensor of the 2 examples that",
    ),
    "batch_text": (
        {**BATCHES, "batch": lambda indices, generator: (INPUTS[indices], ["a", "b"])},
        "the problem's batch, part 1.0=str: every part must be a tensor of the 2 examples that",
    ),
    "nested_text": (
        {"train": ({"x": INPUTS, "y": ["a"] * 8}, TARGETS)},
        r"train\[0\]\['y'\] is a list of str, str, str, str; train must be a tuple of tensors or",
    ),
    "nested_length": (
        {"train": ((INPUTS, INPUTS[:4]), TARGETS)},
        "=lengths 8, 4, 8: its parts",
    ),
    "tensor": ({"train": INPUTS}, r"train is Tensor\[8, 3\]; it must be a tuple of tensors"),
    "array": ({"held_out": np.ones(4)}, r"held_out is ndarray\[4\]; it must be a tuple"),
    "texts": ({"train": (INPUTS, ["a"] * 8)}, r"train\[1\] is a list of str, str, str, str; train"),
    "number": ({"train": (INPUTS, 3)}, r"train\[1\] is a single number; train must be"),
    "class": ({"model": lambda: nn.Linear}, "model..=a type: must make a torch.nn.Module"),
    "dict": (
        {"model": lambda: Keyed(3, 1)},
        r"returns a dict of logits, hidden for inputs of Tensor\[2, 3\], not one tensor, and loss",
    ),
    "tuple": ({"model": lambda: Twofold(3, 1)}, "returns a tuple of Tensor, Tensor for inputs of"),
    "width": (
        {"model": lambda: nn.Linear(4, 1)},
        r"the network, given inputs of Tensor\[2, 3\], raised RuntimeError: mat1 and mat2 shapes",
    ),
    "unreduced": (
        {"loss": lambda outputs, targets: (outputs[:, 0] - targets) ** 2},
        r"loss returns Tensor\[2\] for Tensor\[2, 1\], Tensor\[2\]; it must return one number",
    ),
    "float": ({"loss": lambda outputs, targets: 0.5}, "loss returns a float for"),
    "classes": (
        {"loss": nn.functional.cross_entropy, "train": (INPUTS, torch.ones(8, 5).long())},
        r"loss, given Tensor\[2, 1\], Tensor\[2, 5\], raised RuntimeError",
    ),
}


class Odd(Good):
    """One of MISTAKES or of USABLE, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__(**({**USABLE, **{key: one[0] for key, one in MISTAKES.items()}}[name]))


def task_of(name: str, precision: Any = "float32") -> Task:
    task = CustomTaskConfig(path=f"{__name__}.Odd", options={"name": name})
    return make_task(TrialConfig(task=task, batch_size=4, precision=precision))


SHARED = nn.Linear(3, 1)
USABLE: dict[str, dict[str, Any]] = {
    "good": {},
    "shared": {"model": lambda: SHARED},
    "dict that its loss takes": {
        "model": lambda: Keyed(3, 1),
        "loss": lambda outputs, targets: (outputs["logits"][:, 0] - targets).square().mean(),
    },
}


@pytest.mark.parametrize("name", MISTAKES)
def test_says_what_came_and_what_is_needed(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{MISTAKES[name][1]}") as caught:
        task_of(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", USABLE)
def test_what_can_be_trained_is_not_refused(name: str, precision: str) -> None:
    task = task_of(name, precision)
    params = task.initial_params([0])
    assert task.held_out_metrics(params)["loss"].shape == (1,)


def test_nothing_is_drawn_for_the_check() -> None:
    task = task_of("good")
    assert isinstance(task, SupervisedTask)
    seed_draws(3)
    check_network(task, "m.P")
    drawn = torch.rand(3), random.random()
    seed_draws(3)
    assert torch.equal(drawn[0], torch.rand(3))
    assert drawn[1] == random.random()


def test_a_network_that_was_loaded_once_stays_as_it_was() -> None:
    task_of("shared", "float64")
    assert SHARED.weight.dtype == torch.float32
    assert SHARED.training
