"""What the training loop asks of a task, for a whole stack of trials at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from scaling.config import TrialConfig
from scaling.limits import ConfigError
from scaling.tasks.streams import Batch, Streams

Params = dict[str, Tensor]  # every leaf [R, ...]
Moments = dict[str, Tensor]  # trace and square, each [R] float64


def optimized(params: Params) -> list[str]:
    """The leaves that have a gradient."""
    return [key for key in params if not key.startswith("buffers")]


class Task(Protocol):
    """What the training loop asks of a task.

    Trials of a stack stand in tiles of `tile_width` rows; the rows of one tile see the same
    batch (one seed, many learning rates), so a stack holds R = tiles * tile_width rows. A stack is
    padded to `least_tiles` tiles, and holds at most `most_rows` trials (None: any number).
    `facts` is logged with every trial, `files` (name -> text) are kept with it.

    A task may also say `draws`: whether it draws from the global generators (True where it does not
    say), which are then seeded for every step by the seed of the first row (scaling.draws). Rows
    that must draw alike in any stack draw from their own streams, or train alone (most_rows = 1).
    """

    tile_width: int
    least_tiles: int
    model_size: int
    irreducible_loss: float

    @property
    def most_rows(self) -> int | None: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    @property
    def files(self) -> dict[str, str]: ...

    def initial_params(self, seeds: Sequence[int]) -> Params:
        """Parameters at step 0 of the trials with these seeds, leaves [R, ...]."""
        ...

    def streams(self, seeds: Sequence[int], batch_size: int) -> Streams:
        """The data streams of these (distinct) seeds: the same for every learning rate."""
        ...

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """Batch loss [R] and its gradient; the leaves of `batch` are [tiles, B, ...].

        Leaves named `buffers..` have no gradient and are not optimized; they may change in place,
        and need not be finite.
        """
        ...

    def held_out_metrics(self, params: Params) -> dict[str, Tensor]:
        """Held-out `loss` and whatever else is measured with it, each [R] float64."""
        ...

    def pictures(self, params: Params) -> list[np.ndarray] | None:
        """A picture of what each row does, uint8 [H, W, 3]; None where there is none."""
        ...

    def exported(self, params: Params, row: int) -> dict[str, Tensor] | None:
        """The state_dict of one row's network, on the CPU; None where there is none."""
        ...


class StackedTask:
    """Defaults of tasks whose trials train together by the thousand."""

    least_tiles = 2
    most_rows: int | None = None
    draws = False

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    @property
    def files(self) -> dict[str, str]:
        return {}

    def pictures(self, params: Params) -> list[np.ndarray] | None:
        return None

    def exported(self, params: Params, row: int) -> dict[str, Tensor] | None:
        return None


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
        allowed = (
            f"the task {config.task.name} has no gradients of parts of a batch; set it to none"
        )
        raise ConfigError(key, wanted, allowed)
    refusal = getattr(task, "no_example_gradients", None)
    if refusal and wanted in ("examples", "both"):
        raise ConfigError(key, wanted, f"{refusal}; use parts")
    return task  # pyright: ignore[reportReturnType]
