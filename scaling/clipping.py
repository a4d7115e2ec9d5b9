"""Gradients clipped by their global norm, each trial of a stack by its own."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6  # as in torch


def clipped(gradients: dict[str, Tensor], clip_norm: float) -> dict[str, Tensor]:
    """g min(1, clip_norm / (|g| + 1e-6)) of each row of the leaves [R, ...].

    |g| is the Euclidean norm over all leaves of the row, in float64 whatever they are: squares of
    float32 overflow from 1e19 on. Each row is what torch.nn.utils.clip_grad_norm_ makes of it alone
    (Pascanu et al. 2013, arXiv:1211.5063, algorithm 1). A row with a number that is not finite
    keeps one.
    """
    rows = torch.cat([leaf.reshape(len(leaf), -1) for leaf in gradients.values()], 1)
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    factors = (clip_norm / (norms + EPS)).clamp(max=1.0)  # [R]
    return {
        key: leaf * factors.to(leaf.dtype).view(-1, *[1] * (leaf.dim() - 1))
        for key, leaf in gradients.items()
    }
