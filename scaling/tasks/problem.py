"""What a custom problem has to have: data, a network and a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from torch import Tensor, nn


class Problem(Protocol):
    """Data, model and loss. Tensors or arrays; the first of each tuple is what the model takes.

    Optional: irreducible_loss (0), model_size (number of trained parameters), facts (a dict that is
    logged with every trial), files (name -> text, kept with every trial), metrics(outputs,
    *targets) -> {name: mean over the examples given}, picture(inputs, outputs, *targets) -> uint8
    [H, W, 3] of some held-out examples; sample(model, inputs) -> what a picture takes in place of
    outputs.

    Model, loss and constructor may draw (dropout, augmentation) from the global generators of
    torch, numpy and Python: these are seeded for every step (scaling.draws), and for every
    evaluation alike. A network with a generator of its own, or state outside buffers, is refused.
    Parameters with requires_grad=False at the start stay as they are, but for what forward does.
    """

    train: tuple[Any, ...]
    held_out: tuple[Any, ...]

    def model(self) -> nn.Module:
        """A new network with random weights, drawn from torch's default generator."""
        ...

    @property
    def loss(self) -> Callable[..., Tensor]:
        """loss(outputs, *targets): mean over the examples given."""
        ...


def is_problem(candidate: object) -> bool:
    """It has what a Problem must have."""
    return all(hasattr(candidate, name) for name in ("train", "held_out", "model", "loss"))


def as_problem(candidate: object) -> Problem:
    return cast(Problem, candidate)
