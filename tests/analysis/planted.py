"""Fits with planted laws: what analyse would have found, with known truth and bootstrap draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from analysis.fit.fitting import FitResult
from analysis.measure.bootstrap import FrontierDraws
from analysis.measure.cells import Cell
from analysis.measure.model_sizes import MeasuredGroup


def planted_fit(
    group: dict[str, Any],
    target: float,
    min_steps: float,
    min_examples: float,
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
    n_draws: int = 400,
) -> FitResult:
    """An identified fit: estimates off by `noise` in logs, draws around them as widely."""
    rng = np.random.default_rng(0) if rng is None else rng
    estimate = np.log([min_steps, min_examples]) + noise * rng.standard_normal(2)
    draws = estimate + noise * rng.standard_normal((n_draws, 2))
    steps, examples = np.exp(estimate)
    return FitResult(
        group=group, target_loss=target, min_steps=float(steps), min_examples=float(examples),
        critical_batch_size=float(examples / steps), identified=True,
        batch_sizes=(1, 4, 16, 64, 256), n_batch_sizes=5,
        log_parameters=(float(estimate[0]), float(estimate[1])), draws=draws,
    )  # fmt: skip


def group_curves(
    group: dict[str, Any],
    size: float | None,
    *,
    floor: float = 0.0,
    targets: Sequence[float] = (),
    cells: Sequence[Cell] = (),
    draws: dict[int, FrontierDraws] | None = None,
    flops: float | None = None,
) -> MeasuredGroup:
    return MeasuredGroup(group, floor, list(targets), list(cells), draws or {}, size, flops)


def planted_cells(
    loss: Callable[[int, np.ndarray], np.ndarray],
    batch_sizes: Sequence[int],
    steps: np.ndarray,
    *,
    n_seeds: int = 4,
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
    initial: float = 100.0,
    lr: float = 0.1,
) -> list[Cell]:
    """A cell a batch size at one lr: excess loss(batch_size, steps) times log-normal seed noise.

    steps [T] from 1 on; step 0 with excess `initial` is put before them.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    cells = []
    for size in batch_sizes:
        mean = np.concatenate([[initial], loss(size, steps)])
        level = np.exp(noise * rng.standard_normal((n_seeds, 1)))
        lengths = np.full(n_seeds, len(mean))
        at = np.concatenate([[0.0], steps])
        excess = mean[None, :] * level
        cells.append(Cell((), size, lr, np.arange(n_seeds), at, excess, lengths, 0, int(steps[-1])))
    return cells
