"""Own problems that are not what a task needs: one line with what came, and its shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scaling.config import ConfigError
from scaling.tasks.problem_check import check_problem

INPUTS, TARGETS = torch.ones(8, 3), torch.arange(8.0)
DATA = TensorDataset(INPUTS, TARGETS)


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
    "dataset": ({"held_out": DATA}, "held_out is a TensorDataset; it must be a tuple of tensors"),
    "tensor": ({"train": INPUTS}, r"train is Tensor\[8, 3\]; it must be a tuple of tensors"),
    "array": ({"held_out": np.ones(4)}, r"held_out is ndarray\[4\]; it must be a tuple"),
    "texts": ({"train": (INPUTS, ["a"] * 8)}, r"train\[1\] is a list of str, str, str, str; train"),
    "number": ({"train": (INPUTS, 3)}, r"train\[1\] is a single number; train must be"),
    "class": ({"model": lambda: nn.Linear}, "model.. makes a type; it must make a torch.nn.Module"),
    "dict": (
        {"model": lambda: Keyed(3, 1)},
        r"makes a dict of logits, hidden of inputs of Tensor\[2, 3\]; it must make one tensor",
    ),
    "tuple": ({"model": lambda: Twofold(3, 1)}, "makes a tuple of Tensor, Tensor of inputs of"),
    "width": (
        {"model": lambda: nn.Linear(4, 1)},
        r"the network, given inputs of Tensor\[2, 3\], raised RuntimeError: mat1 and mat2 shapes",
    ),
    "unreduced": (
        {"loss": lambda outputs, targets: (outputs[:, 0] - targets) ** 2},
        r"loss makes Tensor\[2\] of Tensor\[2, 1\], Tensor\[2\]; it must make one number, the mean",
    ),
    "float": ({"loss": lambda outputs, targets: 0.5}, "loss makes a float of"),
    "classes": (
        {"loss": nn.functional.cross_entropy, "train": (INPUTS, torch.ones(8, 5).long())},
        r"loss, given Tensor\[2, 1\], Tensor\[2, 5\], raised RuntimeError",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_says_what_came_and_what_is_needed(name: str) -> None:
    changed, says = MISTAKES[name]
    with pytest.raises(ConfigError, match=rf"^task.path=m.P: .*{says}") as caught:
        check_problem(Good(**changed), "m.P", torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_drawn_for_the_check(dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    check_problem(Good(), "m.P", dtype)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))
