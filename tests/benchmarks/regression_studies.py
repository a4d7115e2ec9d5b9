"""Regression studies by real mini-batch SGD in numpy, with lrs a factor 1.1 apart around the best.

All seeds and lrs of a batch size run together, so that a whole study takes seconds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.theory.exact_frontier import continuous_lr_frontier
from scaling.problem import RegressionProblem
from scaling.schema import CENSORED, DIVERGED, REACHED
from tests.analysis.simulated import evaluation_steps, stop_after_touch, trial_row

Floats = NDArray[np.float64]

SIZES = [2**k for k in range(12)]
SHARES = (0.1, 0.03)  # of the initial risk
RATIO, REACH = 1.1, 5  # of the lr grid: so many lrs to either side of the best ones


def exact_frontier(problem: RegressionProblem) -> pd.DataFrame:
    """The exact S(B) over every lr; see theory.continuous_lr_frontier."""
    targets = [share * problem.initial_risk for share in SHARES]
    return continuous_lr_frontier(problem, SIZES, targets, 100_000)


def simulate(
    problem: RegressionProblem, exact: pd.DataFrame, n_seeds: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames `trials` and `curves` of one study, each trial run on to twice its first touch."""
    targets = sorted(exact["target_loss"].unique(), reverse=True)
    rows, runs = [], []
    for size in SIZES:
        best = exact[exact["batch_size"] == size]
        first, last = np.log(best["lr"].min()), np.log(best["lr"].max())
        count = int(np.ceil((last - first) / np.log(RATIO))) + 2 * REACH + 1
        lrs = np.exp(first + np.log(RATIO) * (np.arange(count) - REACH))
        steps = evaluation_steps(int(4 * best["steps"].max()) + 4)
        risks = _sgd(problem, size, lrs, steps, n_seeds, rng)
        for seed in range(n_seeds):
            for lr, loss in zip(lrs, risks[seed], strict=True):
                row = trial_row(problem, size, float(lr), seed, targets)
                finite = int(np.isfinite(loss).argmin()) if np.isnan(loss).any() else len(loss)
                end = min(finite, stop_after_touch(steps, loss[:finite], targets[-1]))
                reached = bool((loss[:end] <= targets[-1]).any())
                diverged = end == finite < len(loss)
                row["outcome"] = DIVERGED if diverged else REACHED if reached else CENSORED
                row["last_step"] = int(steps[end - 1])
                rows.append(row)
                content = {"run_id": row["run_id"], "step": steps[:end], "loss": loss[:end]}
                runs.append(pd.DataFrame(content))
    return pd.DataFrame(rows), pd.concat(runs, ignore_index=True)


def _sgd(
    problem: RegressionProblem,
    batch_size: int,
    lrs: Floats,
    steps: NDArray[np.int64],
    n_seeds: int,
    rng: np.random.Generator,
) -> Floats:
    """Excess risk [n_seeds, n_lrs, T]; the lrs of a seed share its data stream. NaN: exploded."""
    scale = np.sqrt(problem.eigenvalues).astype(np.float32)
    error = np.tile(problem.initial_error, (n_seeds, len(lrs), 1)).astype(np.float32)
    rate = (2 * lrs / batch_size).astype(np.float32)[:, None]
    found = np.full((n_seeds, len(lrs), len(steps)), np.nan)
    position = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(int(steps[-1]) + 1):
            if step == steps[position]:
                risk = error.astype(float) ** 2 @ problem.eigenvalues
                found[:, :, position] = np.where(risk < 1e6 * problem.initial_risk, risk, np.nan)
                position += 1
            x = rng.standard_normal((n_seeds, batch_size, len(scale)), np.float32) * scale
            noise = rng.standard_normal((n_seeds, 1, batch_size), np.float32)
            residual = error @ x.transpose(0, 2, 1) - np.float32(problem.label_noise) * noise
            error = error - rate * (residual @ x)
    return found
