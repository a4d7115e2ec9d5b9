"""What a task gives where the noise scale of its gradients is measured."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from scaling.config import TrialConfig
from scaling.limits import ConfigError
from scaling.tasks.streams import Batch
from scaling.tasks.task import Params, Task

Moments = dict[str, Tensor]  # trace and square, each [R] float64


class NoiseTask(Task, Protocol):
    """A task whose gradients can be taken apart.

    distinct_examples: how many there are where no example comes twice in a batch, else None.
    no_example_gradients: why a single example has none, where that is so.
    """

    @property
    def distinct_examples(self) -> int | None: ...

    def part_gradients(self, params: Params, batch: Batch, n_parts: int) -> Tensor:
        """Gradients [R, k, P] of k equal parts of the batch, a rest left out; changes nothing."""
        ...

    def fresh_examples(self, generator: torch.Generator, n_examples: int) -> Batch:
        """Training examples drawn with replacement, leaves [n, ...]."""
        ...

    def curvature_root(self, gradients: Tensor) -> Tensor | None:
        """Vectors [.., K] with the squared norm g'Hg of gradients [.., P]; None: H is not known."""
        ...

    def exact_moments(self, params: Params) -> dict[str, Moments] | None:
        """tr Sigma and |G|^2 of `simple`, tr(H Sigma) and G'HG of `noise`, where they are known."""
        ...


def noise_task(task: Task, config: TrialConfig) -> NoiseTask:
    """The same task; ConfigError where it cannot give what the configuration asks to measure."""
    key, wanted = "noise_scale.measure", config.noise_scale.measure
    if not hasattr(task, "part_gradients"):
        allowed = f"the task {config.task.name} gives no gradients of parts of a batch; leave none"
        raise ConfigError(key, wanted, allowed)
    refusal = getattr(task, "no_example_gradients", None)
    if refusal and wanted in ("examples", "both"):
        raise ConfigError(key, wanted, f"{refusal}; use parts")
    return task  # pyright: ignore[reportReturnType]
