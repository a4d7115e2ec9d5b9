"""Gaussian batches by their triangular factor: the same sums over examples from far fewer draws.

B examples z ~ N(0, I_p), B >= p, as rows of Z [B, p], have Z = Q T with T [p, p] upper triangular
and a positive diagonal. T and Q are independent. The entries of T are independent,

    T_ii^2 ~ chi^2(B - i + 1), i = 1..p;    T_ij ~ N(0, 1), i < j

(Bartlett 1933; Anderson, An Introduction to Multivariate Statistical Analysis, theorem 7.2.1), and
Q [B, p] is uniform over matrices with orthonormal columns (Muirhead, Aspects of Multivariate
Statistical Theory, theorem 2.1.13). Whatever depends on Z'Z = T'T alone has the distribution that
it has for Z if the p rows of T are taken for its B rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def triangular_factors(
    generator: torch.Generator, n_steps: int, batch_size: int, dimension: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """T of `n_steps` batches with p = D + 1: its first D columns [n_steps, D + 1, D] and its last
    [n_steps, D + 1]."""
    n_rows = dimension + 1
    first = torch.randn((n_steps, n_rows, dimension), generator=generator, dtype=dtype).triu_()
    last = torch.randn((n_steps, n_rows), generator=generator, dtype=dtype)
    freedom = torch.arange(batch_size, batch_size - n_rows, -1, dtype=dtype)
    shape = (freedom / 2).expand(n_steps, n_rows).contiguous()
    # chi^2(k) is twice gamma(k / 2); torch's public samplers take no generator
    gammas = torch._standard_gamma(shape, generator=generator)  # pyright: ignore
    diagonal = gammas.mul_(2).sqrt_()
    first.diagonal(dim1=1, dim2=2).copy_(diagonal[:, :dimension])
    last[:, dimension] = diagonal[:, dimension]
    return first, last


def parts_with_sums_of(
    rows: Tensor, batch_size: int, n_parts: int, generator: torch.Generator
) -> Tensor:
    """Rows [n_parts * m, K] of the k equal parts of a batch, a rest left out, whose factor times a
    matrix are the given rows [p, K]; m = min(b, p) for parts of b examples.

    The batch is N R^-1 rows with N [B, p] standard normal, R'R = N'N and R upper triangular. It
    matters by sums over each part, so that a part of N may be its factor. The rows come times
    sqrt(m / b): their mean over m is the mean over b examples.
    """
    size = batch_size // n_parts
    if size >= len(rows):
        drawn = triangular_factors(generator, n_parts, size, len(rows) - 1, rows.dtype)
        parts = torch.cat([drawn[0], drawn[1].unsqueeze(-1)], -1)
    else:
        shape = (n_parts, size, len(rows))
        parts = torch.randn(shape, generator=generator, dtype=rows.dtype)
    of_part, parts = parts.shape[1], parts.flatten(0, 1)
    shape = (batch_size - n_parts * size, len(rows))
    rest = torch.randn(shape, generator=generator, dtype=rows.dtype)
    root = torch.linalg.cholesky(parts.mT @ parts + rest.mT @ rest, upper=True)
    mixed = torch.linalg.solve_triangular(root, rows, upper=True)
    return parts @ mixed.mul_(math.sqrt(of_part / size))
