"""What both regression tasks share: the gradient of squared error for a stack of linear models."""

from __future__ import annotations

import torch
from torch import Tensor

# Rows of a tile. The product with a tile always has this many columns: matrix kernels choose
# their order of summation by shape, and a trial's bits must not depend on its neighbours.
TILE_WIDTH = 16


def squared_error_gradients(
    weights: Tensor, inputs: Tensor, labels: Tensor, loss_scale: float
) -> tuple[Tensor, Tensor]:
    """Batch loss [R] and gradient [R, D] of loss_scale * mean_j (w.x_j - t_j)^2.

    weights [R, D], inputs [tiles, B, D], labels [tiles, B]; R = tiles * TILE_WIDTH. The gradient
    is (2 loss_scale / B) sum_j (w.x_j - t_j) x_j.
    """
    tiled = weights.unflatten(0, (inputs.shape[0], TILE_WIDTH))
    residuals = torch.bmm(inputs, tiled.mT) - labels[:, :, None]  # [tiles, B, TILE_WIDTH]
    gradients = torch.bmm(residuals.mT, inputs) * (2 * loss_scale / inputs.shape[1])
    losses = residuals.square().mean(1) * loss_scale
    return losses.flatten(), gradients.flatten(0, 1)


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
