"""Studies without training: curves from the exact recursion with noise, and real numpy SGD.

Frames as analysis.read.runs makes them, so that the statistics can be tested against a known
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.theory.streaming import exact_risk
from scaling.problem import RegressionProblem
from scaling.schema import CENSORED, DIVERGED, REACHED

Floats = NDArray[np.float64]


def evaluation_steps(last: int, ratio: float = 1.05) -> NDArray[np.int64]:
    """0, 1, 2, .. at first every step, then growing by `ratio`, up to and with `last`."""
    steps = [0]
    while steps[-1] < last:
        steps.append(min(last, max(steps[-1] + 1, int(steps[-1] * ratio))))
    return np.array(steps, np.int64)


def stop_after_touch(steps: NDArray, loss: Floats, target: float, tail: float = 2.0) -> int:
    """How many evaluations a trial has that goes on to tail times its first touch of the target."""
    touched = np.flatnonzero(loss <= target)
    if not len(touched):
        return len(steps)
    return int(np.searchsorted(steps, tail * max(steps[touched[0]], 1), side="left")) + 1


def noisy_curves(risk: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Exact risks [n_lrs, T] times log-normal AR(1) noise of mean 1; none at step 0."""
    waves = np.zeros(risk.shape)
    for i in range(1, risk.shape[1]):
        fresh = rng.standard_normal(len(risk))
        waves[:, i] = fresh if i == 1 else 0.9 * waves[:, i - 1] + np.sqrt(1 - 0.9**2) * fresh
    later = np.arange(risk.shape[1]) > 0
    return risk * np.exp(noise * waves - noise**2 / 2 * later)


def exact_curves(
    problem: RegressionProblem, batch_size: int, lrs: Floats, steps: NDArray[np.int64]
) -> Floats:
    """Exact risk [n_lrs, T] at `steps`, NaN from the first exploded value on."""
    with np.errstate(over="ignore", invalid="ignore"):
        risk = exact_risk(problem, batch_size, lrs, int(steps[-1]))
    exploded = np.logical_or.accumulate(~(risk < 1e6 * problem.initial_risk), axis=1)
    return np.where(exploded, np.nan, risk)[:, steps]


def sgd_curves(
    problem: RegressionProblem,
    batch_size: int,
    lrs: Floats,
    steps: NDArray[np.int64],
    seed: int,
) -> Floats:
    """Real mini-batch SGD, all lrs on the same stream of one seed. Excess risk [n_lrs, T].

    A curve is NaN from the first non-finite or exploded value on.
    """
    rng = np.random.default_rng([seed, batch_size])
    error = np.tile(problem.initial_error, (len(lrs), 1))  # w - w*
    scale = np.sqrt(problem.eigenvalues)
    wanted = np.full((len(lrs), len(steps)), np.nan)
    position = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(int(steps[-1]) + 1):
            if step == steps[position]:
                risk = error**2 @ problem.eigenvalues
                wanted[:, position] = np.where(risk < 1e6 * problem.initial_risk, risk, np.nan)
                position += 1
            x = rng.standard_normal((batch_size, len(scale))) * scale
            residual = error @ x.T - problem.label_noise * rng.standard_normal(batch_size)
            error = error - (2 * lrs[:, None] / batch_size) * (residual @ x)
    return wanted


def trial_row(
    problem: RegressionProblem, batch_size: int, lr: float, seed: int, targets: Sequence[float]
) -> dict[str, Any]:
    """One row of `trials` without its outcome."""
    name = f"{batch_size}-{lr:.6g}-{seed}-{len(problem.eigenvalues)}-{problem.label_noise:g}"
    return {
        "run_id": name,
        "trial_id": name,
        "study": "simulated",
        "sweep": "simulated",
        "status": "FINISHED",
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "model_size": float(len(problem.eigenvalues)),
        "irreducible_loss": 0.0,
        "initial_loss": problem.initial_risk,
        "targets": tuple(targets),
        "seconds": 0.1,
        "task.name": "linear_regression",
        "task.dimension": len(problem.eigenvalues),
        "task.spectrum_exponent": 1.0,
        "task.label_noise": problem.label_noise,
        "task.true_weight": 1.0,
        "task.initial_weight": 0.0,
        "optimizer.name": "sgd",
        "schedule.name": "constant",
        "tail_factor": 2.0,
    }


def simulate_study(
    problem: RegressionProblem,
    batch_sizes: Sequence[int],
    lrs: Sequence[float] | Floats,
    seeds: Sequence[int],
    targets: Sequence[float],
    *,
    max_steps: int,
    noise: float | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames `trials` and `curves` of a grid; noise None: real SGD, else noisy exact curves."""
    steps, grid = evaluation_steps(max_steps), np.asarray(lrs, float)
    rows, runs, all_steps, all_loss = [], [], [], []
    for batch_size in batch_sizes:
        exact = None if noise is None else exact_curves(problem, batch_size, grid, steps)
        for trial_seed in seeds:
            rng = np.random.default_rng([seed, trial_seed, batch_size])
            if noise is None or exact is None:
                losses = sgd_curves(problem, batch_size, grid, steps, seed * 1000 + trial_seed)
            else:
                losses = noisy_curves(exact, noise, rng)
            for lr, loss in zip(grid, losses, strict=True):
                row = trial_row(problem, batch_size, float(lr), trial_seed, targets)
                finite = int(np.isfinite(loss).argmin()) if np.isnan(loss).any() else len(loss)
                end = min(finite, stop_after_touch(steps, loss[:finite], targets[-1]))
                diverged = end == finite < len(loss)
                reached = bool((loss[:end] <= targets[-1]).any())
                row["outcome"] = DIVERGED if diverged else REACHED if reached else CENSORED
                row["last_step"] = int(steps[end - 1])
                rows.append(row)
                runs.append(np.full(end, row["run_id"], dtype=object))
                all_steps.append(steps[:end])
                all_loss.append(loss[:end])
    curves = pd.DataFrame(
        {
            "run_id": np.concatenate(runs),
            "step": np.concatenate(all_steps),
            "loss": np.concatenate(all_loss),
        }
    )
    size_of = {row["run_id"]: row["batch_size"] for row in rows}
    curves["train_loss"] = curves["loss"] + problem.label_noise**2
    curves["examples"] = curves["step"] * curves["run_id"].map(size_of)
    return pd.DataFrame(rows), curves
