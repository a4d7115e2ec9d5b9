"""What one batch tells of a network before it trains: whether it draws, whether it can stack."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor, nn

from scaling.draws import TRAINING, kept_draws, position, seed_draws
from scaling.limits import ConfigError
from scaling.tasks.flat import WEIGHTS
from scaling.tasks.streams import Batch
from scaling.tasks.task import Params

SAME_GRADIENT = 1e-4  # relative difference that rounding stays below


class Probed(Protocol):
    """A task whose network can be run by itself (scaling.tasks.supervised)."""

    @property
    def network_name(self) -> str: ...

    @property
    def replaces_buffers(self) -> bool: ...

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]: ...

    def evaluating(self, params: Params, row: int) -> AbstractContextManager[nn.Module]: ...

    def outputs(self, module: nn.Module, batch: Batch) -> Any: ...


def draws_numbers(task: Probed, params: Params, batch: Batch) -> bool:
    """Whether a training step or an evaluation of one row draws from a global generator.

    The batch's gradient is computed twice with one seed. ConfigError where the two differ: what no
    seed repeats cannot be resumed after an interruption.
    """
    drew, gradients = False, []
    with kept_draws():
        for _ in range(2):
            seed_draws(TRAINING, 0)
            before = position()
            copies = {key: leaf.clone() for key, leaf in params.items()}
            gradients.append(task.losses_and_gradients(copies, batch)[1][WEIGHTS].clone())
            drew |= position() != before
        with task.evaluating(params, 0) as module:
            before = position()
            task.outputs(module, batch)
            drew |= position() != before
    first, second = gradients
    if (first - second).norm() > SAME_GRADIENT * first.norm():
        allowed = (
            "gives a different gradient for the same batch, weights and seed: it must draw from "
            "global generators (torch.rand without generator=) and keep what changes in buffers"
        )
        raise ConfigError("the problem's model", task.network_name, allowed)
    return drew


def no_stack(task: Probed, params: Params, batch: Batch) -> str | None:
    """Why a network that draws no numbers cannot train in a stack, if so; params and batch: of two
    rows."""
    if task.replaces_buffers:
        return "as it replaces its buffers by new tensors"
    try:
        with kept_draws():
            task.losses_and_gradients(params, batch)
    except RuntimeError as error:  # what torch.func raises for what it has no rule for
        return f"as torch.func cannot compute it ({str(error).strip().splitlines()[0]})"
    return None
