"""Streaming linear regression, the task whose frontier is known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scaling.config import LinearRegressionConfig
from scaling.spectrum import power_law
from scaling.tasks import Params, StackedTask
from scaling.tasks.regression import TILE_WIDTH, squared_error_gradients
from scaling.tasks.streams import Batch, Streams


class LinearRegression(StackedTask):
    """x ~ N(0, diag(lambda)), lambda_i = i^-spectrum_exponent; t = w*.x + label_noise * eps.

    Loss (w.x - t)^2, no 1/2. Held-out loss is the exact excess risk
    R = sum_i lambda_i (w_i - w*_i)^2, so the irreducible loss is 0.
    """

    tile_width = TILE_WIDTH
    irreducible_loss = 0.0

    def __init__(self, config: LinearRegressionConfig, dtype: torch.dtype) -> None:
        self.config = config
        self.dtype = dtype
        self.model_size = config.dimension
        self.eigenvalues = torch.from_numpy(power_law(config.dimension, config.spectrum_exponent))
        self._scales = self.eigenvalues.sqrt().to(dtype)

    def initial_params(self, seeds: Sequence[int]) -> Params:
        shape = (len(seeds), self.config.dimension)
        return {"weights": torch.full(shape, self.config.initial_weight, dtype=self.dtype)}

    def streams(self, seeds: Sequence[int], batch_size: int) -> Streams:
        dimension = self.config.dimension

        def draw(generator: torch.Generator, n_steps: int, first_step: int) -> Batch:
            shape = (n_steps, batch_size, dimension)
            inputs = torch.randn(shape, generator=generator, dtype=self.dtype).mul_(self._scales)
            noise = torch.randn(shape[:2], generator=generator, dtype=self.dtype)
            signal = inputs.sum(-1).mul_(self.config.true_weight)
            return inputs, signal.add_(noise, alpha=self.config.label_noise)

        return Streams(seeds, batch_size, batch_size * dimension, draw)

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        losses, gradients = squared_error_gradients(params["weights"], *batch, loss_scale=1.0)
        return losses, {"weights": gradients}

    def held_out_metrics(self, params: Params) -> dict[str, Tensor]:
        error = params["weights"].double() - self.config.true_weight
        return {"loss": (error.square() * self.eigenvalues).sum(-1)}
