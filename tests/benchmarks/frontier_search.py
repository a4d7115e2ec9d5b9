"""Holds the search for the frontier against a full grid, on real SGD whose every trial is known.

    python -m tests.benchmarks.frontier_search [batch_size ...]

trains the linear_regression study's problem in numpy at every lr of the lattice (ratio 1.09, its
published range and targets, 8 seeds), then lets the search choose among these trials. Prints for
each batch size and target: the steps that the search ends with, those of the grid's best, how far
apart they are; then the share of the grid's steps, and the rounds. Both have the same seeds, tail
and cap: the grid's trials stop at cap_factor times the grid's own fewest steps.
"""

from __future__ import annotations

import sys

import numpy as np

from scaling.config import EvaluationConfig
from scaling.schedules import next_evaluation
from scaling.schema import REACHED
from scaling.spectrum import RegressionProblem
from sweeps.frontier_search import SearchOptions
from tests.analysis.simulated import sgd_curves
from tests.sweeps.simulated_cells import SimulatedCell, search

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
TARGETS, TAIL_FACTOR, MAX_STEPS, MAX_EXAMPLES = (0.1, 0.03, 0.01), 3.0, 24000, 500000
BASE, RATIO, LR_RANGE, N_SEEDS = 0.1, 1.09, (0.005, 1.32), 8
DIVERGENCE_FACTOR = 1000.0
PROBLEM = RegressionProblem.power_law(64)


def lattice() -> range:
    """Indices of the lrs in LR_RANGE."""
    low, high = (np.log(lr / BASE) / np.log(RATIO) for lr in LR_RANGE)
    return range(int(np.ceil(low)), int(np.floor(high)) + 1)


def evaluation_steps(last: int) -> np.ndarray:
    steps = [0]
    while steps[-1] < last:
        steps.append(min(last, next_evaluation(EvaluationConfig(), steps[-1])))
    return np.array(steps)


def train_everything(batch_size: int) -> SimulatedCell:
    """The cell of a batch size, with all its trials."""
    steps = evaluation_steps(min(MAX_STEPS, MAX_EXAMPLES // batch_size))
    lrs = BASE * RATIO ** np.array(lattice(), float)
    by_seed = [sgd_curves(PROBLEM, batch_size, lrs, steps, seed) for seed in range(N_SEEDS)]
    return cell_of(steps, np.stack(by_seed))


def cell_of(steps: np.ndarray, loss: np.ndarray) -> SimulatedCell:
    """loss [n_seeds, n_lrs, T], NaN from divergence on."""
    initial = PROBLEM.initial_risk
    loss = np.where(loss <= DIVERGENCE_FACTOR * initial, loss, np.nan)
    curves = {
        (index, seed): loss[seed, position]
        for seed in range(len(loss))
        for position, index in enumerate(lattice())
    }
    targets = tuple(target * initial for target in TARGETS)
    return SimulatedCell(steps, curves, targets, TAIL_FACTOR)


def grid(cell: SimulatedCell, options: SearchOptions) -> tuple[list[float], int]:
    """Fewest steps of the full grid at each target (inf: not reached), and the steps it trains."""
    full = SimulatedCell(cell.steps, cell.curves, cell.targets, cell.tail_factor)
    for trial in full.curves:
        full.train(trial, int(cell.steps[-1]))
    fewest = _fewest(full, options)
    cap = options.cap_factor * fewest[-1]
    capped = SimulatedCell(cell.steps, cell.curves, cell.targets, cell.tail_factor)
    for trial in capped.curves:
        capped.train(trial, int(min(cap, cell.steps[-1])))
    return _fewest(capped, options), capped.trained_steps


def _fewest(cell: SimulatedCell, options: SearchOptions) -> list[float]:
    trials = cell.known.trials
    alive = [
        cell.known.read(index, options.seeds)
        for index in lattice()
        if not any(trials[index, seed].diverged for seed in options.seeds)
    ]
    return [
        min(
            (one[target].steps for one in alive if one[target].outcome == REACHED),
            default=float("inf"),
        )
        for target in range(len(cell.targets))
    ]


def compare(cells: dict[int, SimulatedCell], options: SearchOptions) -> None:
    states, rounds = search(list(cells.values()), options)
    trained, whole, worst = 0, 0, 0.0
    print("    B   target: search / grid (apart), why the search ended     share   trials")
    for (batch_size, cell), found in zip(cells.items(), states, strict=True):
        fewest, cost = grid(cell, options)
        parts = []
        for target, state, least in zip(TARGETS, found, fewest, strict=True):
            apart = (state.steps or np.inf) / least - 1 if np.isfinite(least) else np.nan
            worst = max(worst, abs(apart)) if np.isfinite(least) else worst
            parts.append(f"{target:g}: {state.steps or np.nan:.1f} / {least:.1f} ({apart:+.1%})")
        print(
            f"{batch_size:5d}   {'; '.join(parts)}; {', '.join(s.reason for s in found)}; "
            f"{cell.trained_steps / cost:.1%}   {len(cell.asked)}"
        )
        trained, whole = trained + cell.trained_steps, whole + cost
    print(f"share of the grid's {whole:,} steps: {trained / whole:.1%}, in {rounds} rounds")
    print(f"furthest from the grid: {worst:.1%}")


def search_options(**changes: object) -> SearchOptions:
    indices = lattice()
    given = {"lowest": indices[0], "highest": indices[-1], "start": 0, "seeds": range(N_SEEDS)}
    values = given | changes
    values["seeds"] = tuple(values["seeds"])  # pyright: ignore[reportArgumentType]
    return SearchOptions(**values)  # pyright: ignore[reportArgumentType]


def main() -> None:
    batch_sizes = [int(one) for one in sys.argv[1:]] or BATCH_SIZES
    cells = {}
    for batch_size in batch_sizes:
        print(f"training all {len(lattice()) * N_SEEDS} trials of B = {batch_size}", flush=True)
        cells[batch_size] = train_everything(batch_size)
    compare(cells, search_options())


if __name__ == "__main__":
    main()
