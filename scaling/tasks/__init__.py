"""Tasks: a data distribution and a per-example loss, for a whole stack of trials at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from scaling.config import (
    FiniteRegressionConfig,
    LinearRegressionConfig,
    OwnTaskConfig,
    TaskConfig,
)
from scaling.tasks.streams import Batch, Streams

Params = dict[str, Tensor]  # every leaf [R, ...]


class Task(Protocol):
    """What the training loop asks of a task.

    Trials of a stack stand in tiles of `tile_width` rows; the rows of one tile see the same
    batch (one seed, many learning rates), so a stack holds R = tiles * tile_width rows.
    A task of a user's own whose data come from outside its code may have a `data_hash` as well.
    """

    tile_width: int
    model_size: int
    irreducible_loss: float

    def initial_params(self, seeds: Sequence[int]) -> Params:
        """Parameters at step 0 of the trials with these seeds, leaves [R, ...]."""
        ...

    def streams(self, seeds: Sequence[int], batch_size: int) -> Streams:
        """The data streams of these (distinct) seeds: the same for every learning rate."""
        ...

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """Batch loss [R] and its gradient; the leaves of `batch` are [tiles, B, ...]."""
        ...

    def held_out_loss(self, params: Params) -> Tensor:
        """Held-out loss [R], float64."""
        ...


def make_task(config: TaskConfig, dtype: torch.dtype) -> Task:
    """The task that `config` describes; ConfigError where its values do not fit together."""
    from scaling.tasks.finite_regression import FiniteRegression
    from scaling.tasks.linear_regression import LinearRegression
    from scaling.tasks.own import make_own_task

    if isinstance(config, LinearRegressionConfig):
        return LinearRegression(config, dtype)
    if isinstance(config, FiniteRegressionConfig):
        return FiniteRegression(config, dtype)
    if isinstance(config, OwnTaskConfig):
        return make_own_task(config, dtype)
    raise TypeError(f"no task for {type(config).__name__}")
