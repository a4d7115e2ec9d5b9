"""Tables of final losses of which the answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from analysis.fit.length_laws import length_laws
from analysis.measure.best_batch_size import best_batch_sizes, length_frame
from analysis.measure.final_losses import size_losses

FLOOR, AMOUNT, EXPONENT = 1.7, 47.9, 0.28  # E_min(L) = (AMOUNT/(L - FLOOR))^(1/EXPONENT)
CRITICAL, RISE = 60.0, 1 / 0.6  # B_crit(L) = CRITICAL (L - FLOOR)^-RISE
LENGTHS = tuple(2.0 ** np.arange(17, 25))
SIZES = tuple(2**k for k in range(3, 12))
# lr*(B, D, N) and B_opt(D) of `with_optimum`
LR_POWERS = {"batch_size": 0.3, "examples": 0.14, "model_size": -0.71}
BEST_SIZE = 0.57


def min_examples(loss: float) -> float:
    return (AMOUNT / (loss - FLOOR)) ** (1 / EXPONENT)


def critical_batch_size(loss: float) -> float:
    return CRITICAL * (loss - FLOOR) ** -RISE


def steps(batch_size: float, loss: float) -> float:
    """S_min + E_min/B."""
    examples = min_examples(loss)
    return examples / critical_batch_size(loss) + examples / batch_size


def final_loss(batch_size: int, n_steps: float) -> float:
    """The loss that takes so many steps."""

    def off(log_excess: float) -> float:
        return float(np.log(steps(batch_size, FLOOR + np.exp(log_excess)) / n_steps))

    log_excess: Any = brentq(off, -8.0, 14.0)
    return FLOOR + float(np.exp(log_excess))


def hyperbolas(
    rng: np.random.Generator,
    *,
    lengths: Sequence[float] = LENGTHS,
    sizes: Sequence[int] = SIZES,
    spacing: float = 2**0.5,
    n_lrs: int = 9,
    n_seeds: int = 4,
    noise: float = 0.002,
) -> pd.DataFrame:
    """S(B) = S_min + E_min/B at every loss; 1 % more loss for a factor e in lr (squared)."""
    rows = []
    for size in map(int, sizes):
        for length in lengths:
            n_steps = round(length / size)
            loss, best = (
                final_loss(size, n_steps),
                3e-3 * (size / 64) ** 0.5 * (length / 1e6) ** -0.2,
            )
            for lr in _lattice(best, spacing, n_lrs):
                at = loss * (1 + 0.01 * np.log(lr / best) ** 2)
                rows += [
                    (size, lr, seed, n_steps, at * (1 + noise * rng.standard_normal()))
                    for seed in range(n_seeds)
                ]
    return _frame(rows, ["batch_size", "lr", "seed", "steps", "loss"])


def with_optimum(
    rng: np.random.Generator, *, noise: float = 0.001, spacing: float = 2**0.5
) -> pd.DataFrame:
    """A best batch size at every length, B_opt ~ D^0.57, and lr* ~ B^0.3 D^0.14 N^-0.71."""
    rows = []
    for model_size in (1e8, 2e8, 4e8, 8e8):
        for length in model_size / 2048 * np.array([10, 20, 40, 80, 160]):
            optimum = 0.12 * length**BEST_SIZE
            base = FLOOR + 400 * model_size**-0.34 + 40 * length**-0.28
            for size in 2 ** np.arange(4, 16):
                n_steps = round(length / size)
                powers = {"batch_size": size, "examples": length, "model_size": model_size}
                best = 10 * np.prod([powers[name] ** k for name, k in LR_POWERS.items()])
                for lr in _lattice(float(best), spacing, 7):
                    bent = 0.004 * np.log(size / optimum) ** 2 + 0.006 * np.log(lr / best) ** 2
                    loss = base * (1 + bent) * (1 + noise * rng.standard_normal())
                    rows.append((model_size, int(size), lr, n_steps, loss))
    return _frame(rows, ["model_size", "batch_size", "lr", "steps", "loss"])


def _lattice(best: float, spacing: float, n: int) -> list[float]:
    """n lrs around the best, which lies between them."""
    middle = round(np.log(best) / np.log(spacing))
    return [float(spacing**i) for i in range(middle - n // 2, middle + n // 2 + 1)]


def _frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=pd.Index(columns))


def laws_of(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table with one seed and several model sizes."""
    lengths, best = [], []
    for model_size, of_size in table.assign(outcome="", seed=0).groupby("model_size"):
        rng = np.random.default_rng(0)
        read = (size_losses(rows, 0, rng) for _, rows in of_size.groupby("batch_size"))
        sizes = [losses for losses in read if losses is not None]
        lengths.append(length_frame(sizes, {"model_size": model_size}))
        best.append(best_batch_sizes(sizes, {"model_size": model_size}))
    return length_laws(pd.concat(lengths), pd.concat(best))
