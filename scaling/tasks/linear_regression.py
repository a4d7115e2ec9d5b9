"""Streaming linear regression, the task whose frontier is known exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scaling.problem import power_law
from scaling.tasks.bartlett import parts_with_sums_of, triangular_factors
from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.streams import Batch, Streams
from scaling.tasks.task import Moments, Params, StackedTask

# Rows of a tile. The product with a tile always has this many columns: matrix kernels choose
# their order of summation by shape, and a trial's bits must not depend on its neighbours.
TILE_WIDTH = 16
FACTORED_FROM = 2  # batches of this many examples a dimension are drawn as triangular factors


class LinearRegression(StackedTask):
    """x ~ N(0, diag(lambda)), lambda_i = i^-spectrum_exponent; t = w*.x + label_noise * eps.

    Loss (w.x - t)^2, no 1/2. Held-out loss is the exact excess risk
    R = sum_i lambda_i (w_i - w*_i)^2, so the irreducible loss is 0.

    The loss of a batch and its gradient depend on its examples z = (x_i / sqrt(lambda_i), eps) by
    Z'Z alone: with r = w - w*, the loss is |X r - sigma e|^2 / B and the gradient 2/B X'(X r -
    sigma e). From B = 2 D on the D + 1 rows of its triangular factor (scaling.tasks.bartlett)
    stand for a batch, times sqrt((D + 1) / B) so that their mean is the mean over B examples. Both
    are exact in distribution, for every spectrum and label noise.
    """

    tile_width = TILE_WIDTH
    irreducible_loss = 0.0
    distinct_examples = None

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
        factored, dimension = self.factored(batch_size), self.config.dimension

        def draw(generator: torch.Generator, n_steps: int, first_step: int) -> Batch:
            if factored:
                return self._draw_factors(generator, n_steps, batch_size)
            return self._draw(generator, (n_steps, batch_size))

        n_rows = dimension + 1 if factored else batch_size
        return Streams(seeds, batch_size, n_rows * dimension, draw)

    def factored(self, batch_size: int) -> bool:
        """Whether batches of this size are drawn as their triangular factors."""
        return batch_size >= FACTORED_FROM * self.config.dimension

    def _draw(self, generator: torch.Generator, shape: tuple[int, ...]) -> Batch:
        whole = (*shape, self.config.dimension)
        inputs = torch.randn(whole, generator=generator, dtype=self.dtype)
        return self._labelled(inputs, torch.randn(shape, generator=generator, dtype=self.dtype))

    def _draw_factors(self, generator: torch.Generator, n_steps: int, batch_size: int) -> Batch:
        """Rows that stand for batches: inputs [n_steps, D + 1, D], labels [n_steps, D + 1]."""
        dimension = self.config.dimension
        factors = triangular_factors(generator, n_steps, batch_size, dimension, self.dtype)
        scale = math.sqrt((dimension + 1) / batch_size)
        return self._labelled(*(leaf.mul_(scale) for leaf in factors))

    def _labelled(self, inputs: Tensor, noise: Tensor) -> Batch:
        """x and t of standard normal inputs [.., D] and noise [..]; changes the inputs."""
        inputs.mul_(self._scales)
        signal = inputs.sum(-1).mul_(self.config.true_weight)
        return inputs, signal.add_(noise, alpha=self.config.label_noise)

    def parts_of(
        self, batch: Batch, batch_size: int, n_parts: int, generators: Sequence[torch.Generator]
    ) -> Batch:
        """A batch as `part_gradients` takes it. Where it was drawn as its factor: rows of k parts
        with the same sums over the batch, fixed by one generator a tile."""
        if not self.factored(batch_size):
            return batch
        rows = torch.cat([batch[0], batch[1].unsqueeze(-1)], -1)  # [tiles, D + 1, D + 1]
        rows *= math.sqrt(batch_size / rows.shape[1])
        pairs = zip(rows, generators, strict=True)  # one by one: bits of their own
        parts = torch.stack([parts_with_sums_of(r, batch_size, n_parts, g) for r, g in pairs])
        return parts[..., :-1], parts[..., -1]

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        losses, gradients = squared_error_gradients(params["weights"], *batch, loss_scale=1.0)
        return losses, {"weights": gradients}

    def held_out_metrics(self, params: Params) -> dict[str, Tensor]:
        error = params["weights"].double() - self.config.true_weight
        return {"loss": (error.square() * self.eigenvalues).sum(-1)}

    def fresh_examples(self, generator: torch.Generator, n_examples: int) -> Batch:
        return self._draw(generator, (n_examples,))

    def part_gradients(self, params: Params, batch: Batch, n_parts: int) -> Tensor:
        inputs, labels = batch
        return squared_error_part_gradients(params["weights"], inputs, labels, 1.0, n_parts)

    def curvature(self) -> Tensor:
        """The diagonal [D] of H = 2 diag(lambda)."""
        return 2 * self.eigenvalues

    def curvature_root(self, gradients: Tensor) -> Tensor:
        """H = 2 diag(lambda)."""
        return gradients.double() * (2 * self.eigenvalues).sqrt()

    def exact_moments(self, params: Params) -> dict[str, Moments]:
        """With L = diag(lambda), D = w - w*, R = D'LD: |G|^2 = 4|LD|^2, tr Sigma = 4[(R + sigma^2)
        tr L + |LD|^2]; with the Hessian 2L, G'HG = 8 D'L^3 D and tr(H Sigma) = 8[(R + sigma^2)
        tr L^2 + D'L^3 D]: fourth moments of a Gaussian.
        """
        lam = self.eigenvalues
        error = params["weights"].double() - self.config.true_weight
        level = (error.square() * lam).sum(-1) + self.config.label_noise**2
        first, third = (4 * (error.square() * lam**n).sum(-1) for n in (2, 3))
        return {
            "simple": {"trace": 4 * level * lam.sum() + first, "square": first},
            "noise": {"trace": 8 * level * lam.square().sum() + 2 * third, "square": 2 * third},
        }


def squared_error_gradients(
    weights: Tensor, inputs: Tensor, labels: Tensor, loss_scale: float
) -> tuple[Tensor, Tensor]:
    """Batch loss [R] and gradient [R, D] of loss_scale * mean_j (w.x_j - t_j)^2.

    weights [R, D], inputs [tiles, B, D], labels [tiles, B]; R = tiles * TILE_WIDTH. The gradient
    is (2 loss_scale / B) sum_j (w.x_j - t_j) x_j.
    """
    tiles, batch_size, dimension = inputs.shape
    tiled = weights.view(tiles, TILE_WIDTH, dimension)
    residuals = torch.bmm(inputs, tiled.mT).sub_(labels.unsqueeze(-1))  # [tiles, B, TILE_WIDTH]
    gradients = torch.bmm(residuals.mT, inputs).mul_(2 * loss_scale / batch_size)
    losses = residuals.square_().mean(1)
    if loss_scale != 1:
        losses.mul_(loss_scale)
    return losses.view(-1), gradients.view(-1, dimension)


def squared_error_part_gradients(
    weights: Tensor, inputs: Tensor, labels: Tensor, loss_scale: float, n_parts: int
) -> Tensor:
    """Gradients [R, k, D] of the same loss on k equal parts of the batch; a rest is left out."""
    tiles, size = inputs.shape[0], inputs.shape[1] // n_parts
    parts = inputs[:, : n_parts * size].unflatten(1, (n_parts, size))  # [tiles, k, b, D]
    goals = labels[:, : n_parts * size].unflatten(1, (n_parts, size))
    tiled = weights.unflatten(0, (tiles, TILE_WIDTH))
    repeated = tiled.mT[:, None].expand(-1, n_parts, -1, -1)  # [tiles, k, D, TILE_WIDTH]
    residuals = parts @ repeated - goals[..., None]
    gradients = (residuals.mT @ parts) * (2 * loss_scale / size)  # [tiles, k, TILE_WIDTH, D]
    return gradients.transpose(1, 2).flatten(0, 1)
