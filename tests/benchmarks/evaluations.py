"""Coverage of curves evaluated sparsely: planted S(B) = 80 + 4000/B, read through the whole chain.

A curve falls as 2 / (1 + 3 step/S) and is at the target 0.5 at step S; each seed's S is off by the
noise, or each evaluation by as much (wandering as losses do).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.critical_batch_size import find_critical_batch_size
from analysis.group_statistics import Settings, measure
from analysis.measure.bootstrap import stack_draws
from analysis.measure.cells import read_cells
from analysis.read.curves import tidy_curves

Floats = NDArray[np.float64]

SIZES = 2.0 ** np.arange(1, 11)
MIN_STEPS, MIN_EXAMPLES, TARGET = 80.0, 4000.0, 0.5
TRUTH = {
    "min_steps": MIN_STEPS,
    "min_examples": MIN_EXAMPLES,
    "critical_batch_size": MIN_EXAMPLES / MIN_STEPS,
}
RATIOS, NOISES, SEEDS = (1.05, 1.2, 1.4, 2.0), (0.005, 0.02, 0.05), (3, 5, 8)
KINDS = ("seeds", "evaluations")


def evaluation_steps(last: float, ratio: float) -> Floats:
    """1 and on by `ratio`, whole and increasing, to beyond `last`."""
    steps = [1]
    while steps[-1] < last:
        steps.append(max(round(steps[-1] * ratio), steps[-1] + 1))
    return np.array(steps, float)


def simulate(
    rng: np.random.Generator, ratio: float, noise: float, n_seeds: int, kind: str, stop: bool
) -> pd.DataFrame:
    """Rows batch_size, lr, seed, step, loss; stop: each run ends where it touches the target."""
    rows = []
    for size in SIZES:
        for seed in range(n_seeds):
            off = noise * rng.standard_normal() if kind == "seeds" else 0.0
            to_target = (MIN_STEPS + MIN_EXAMPLES / size) * np.exp(off)
            steps = evaluation_steps(2.2 * to_target, ratio)
            loss = 2 / (1 + 3 * steps / to_target)
            if kind == "evaluations":
                loss = loss * np.exp(_wandering(rng, noise, len(steps)))
            touched = np.flatnonzero(loss <= TARGET)
            end = touched[0] + 1 if stop and len(touched) else len(steps)
            content = {"step": steps[:end].astype(int), "loss": loss[:end]}
            rows.append(pd.DataFrame({"batch_size": size, "lr": 0.1, "seed": seed} | content))
    return pd.concat(rows, ignore_index=True)


def _wandering(rng: np.random.Generator, noise: float, n: int) -> Floats:
    """AR(1) of sd noise, correlation 0.7 between evaluations. [n]"""
    waves = rng.standard_normal(n)
    for i in range(1, n):
        waves[i] = 0.7 * waves[i - 1] + np.sqrt(1 - 0.7**2) * waves[i]
    return noise * waves


def evaluations(n: int, stop: bool = False) -> Iterator[str]:
    """Lines of the table: n studies a row."""
    yield (
        f"{'':<44}covered (%) S_min E_min B_crit   bias of B_crit (%)   width (%)   identified  "
        "inside  not converged"
    )
    for kind in KINDS:
        for ratio in RATIOS:
            for noise in NOISES:
                for n_seeds in SEEDS:
                    rng = np.random.default_rng([n_seeds, round(1000 * noise), round(100 * ratio)])
                    found = [
                        _study(simulate(rng, ratio, noise, n_seeds, kind, stop), i)
                        for i in range(n)
                    ]
                    name = f"noise of {kind} {100 * noise:g} %, ratio {ratio:g}, {n_seeds} seeds"
                    yield _row(name, pd.DataFrame(found))


def _study(frame: pd.DataFrame, seed: int) -> dict[str, float]:
    """What analyse makes of it, without rules, laws and budgets."""
    trials, curves = tidy_curves(frame)
    settings, rng = Settings(400, seed), np.random.default_rng(seed)
    measured = measure({}, trials, read_cells(trials, curves, []), [TARGET], rng, settings)
    points = measured.frontier
    fit = find_critical_batch_size(
        points,
        stack_draws(measured.draws, points["batch_size"].tolist(), 0),
        group={},
        target_loss=TARGET,
        n_bootstrap=400,
        rng=rng,
    )
    low, high = fit.ci95["critical_batch_size"]
    value = fit.critical_batch_size or np.nan
    found = {"identified": fit.identified, "error": np.log(value / TRUTH["critical_batch_size"])}
    found |= {"width": np.log(high / low) if low and high else np.nan}
    found |= {"inside": (low or 0) <= value <= (high or np.inf)}
    found |= {"not_converged": any("converge" in note for note in fit.notes)}
    for name, true in TRUTH.items():
        low, high = fit.ci95[name]
        found[name] = (low is None or low <= true) and (high is None or true <= high)
    return found


def _row(name: str, found: pd.DataFrame) -> str:
    share = [100 * found[key].mean() for key in (*TRUTH, "identified", "inside", "not_converged")]
    bias, width = 100 * found["error"].median(), 100 * found["width"].median()
    return (
        f"{name:<54}{share[0]:6.1f}{share[1]:6.1f}{share[2]:7.1f}{bias:+17.2f}{width:15.1f}"
        f"{share[3]:12.0f}{share[4]:8.0f}{share[5]:12.0f}"
    )
