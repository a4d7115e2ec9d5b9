"""Holds the search over lr and momentum against full grids of exact curves.

Called by tests.benchmarks.frontier_search. The grid has every lr of the lattice between SMALLEST_LR
(1 - momentum) and STABLE_LR (1 + momentum), at every momentum and seed; its trials stop at
cap_factor times its own fewest steps.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from sweeps.search.observations import SearchOptions
from tests.benchmarks.exact_search import (
    BATCH_SIZES,
    LATTICE,
    SMALLEST_LR,
    STABLE_LR,
    Frontier,
    exact_frontier,
)
from tests.sweeps.simulated_cells import SimulatedCell, fewest_of
from tests.sweeps.simulated_tuned import SimulatedTuned, search_tuned

MOMENTA = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
EXPONENTS, NOISES, SEEDS, STARTS = (1.0, 1.5, 2.0), (0.0, 0.02), (1, 8), (3, 0)
LARGEST = max(MOMENTA)
INDICES = LATTICE.within(SMALLEST_LR * (1 - LARGEST), STABLE_LR * (1 + LARGEST))


@dataclass(frozen=True)
class Grid:
    """fewest: of every cell and target; momenta: where; steps: what the grid trains, by cell."""

    fewest: np.ndarray
    momenta: np.ndarray
    steps: np.ndarray


def cells_of(frontiers: list[Frontier], noise: float, n_seeds: int, start: int) -> list:
    """A cell of each batch size, its points the momenta."""
    by_momentum = [frontier.cells(noise, n_seeds) for frontier in frontiers]
    return [
        SimulatedTuned({(place,): one for place, one in enumerate(of_size)}, (start,))
        for of_size in zip(*by_momentum, strict=True)
    ]


def full_grid(cells: list[SimulatedTuned], seeds: tuple[int, ...]) -> Grid:
    fewest, momenta, cost = [], [], []
    for cell in cells:
        own = [fewest_of(one, _options(seeds, place)) for (place,), one in cell.at.items()]
        of_target = np.array([steps for steps, _ in own])  # [momenta, targets]
        fewest.append(of_target.min(axis=0))
        momenta.append(of_target.argmin(axis=0))
        cost.append(_trained(cell, 2.0 * fewest[-1][-1]))
    return Grid(np.array(fewest), np.array(momenta), np.array(cost))


def _trained(cell: SimulatedTuned, cap: float) -> int:
    """Steps of the whole grid, every trial up to the cap."""
    total = 0
    for (place,), one in cell.at.items():
        allowed = _options((0,), place)
        for index, seed in one.curves:
            if allowed.lowest <= index <= allowed.highest:
                trial = SimulatedCell(one.steps, one.curves, one.targets, one.tail_factor)
                total += trial.outcome((index, seed), min(cap, float(one.steps[-1])))[2]
    return total


def _options(seeds: tuple[int, ...], place: int) -> SearchOptions:
    """Of the lrs that a grid of this momentum has."""
    momentum = MOMENTA[place]
    allowed = LATTICE.within(SMALLEST_LR * (1 - momentum), STABLE_LR * (1 + momentum))
    return SearchOptions(allowed[0], allowed[-1], 0, seeds)


def found(cells: list[SimulatedTuned], grid: Grid, seeds: tuple[int, ...]) -> str:
    options = SearchOptions(INDICES[0], INDICES[-1], 0, seeds)
    decisions, rounds = search_tuned(cells, options)
    steps = np.array([[one.steps or np.inf for one in last.states] for last in decisions])
    known = np.isfinite(grid.fewest)
    errors = np.log(steps[known] / grid.fewest[known])
    reached = known.all(axis=1)
    trained = np.array([cell.trained_steps for cell in cells])
    share, most = trained[reached].sum() / grid.steps[reached].sum(), (trained / grid.steps).max()
    opened = np.mean([len(cell.opened) for cell in cells]) / len(MOMENTA)
    return (
        f"{np.expm1(errors.max()):+9.1%} {int((errors > np.log(1.01)).sum()):6d} of {known.sum()} "
        f"{share:9.1%} {most:9.1%} {opened:9.0%} {rounds:7d}"
    )


def compare_tuned() -> None:
    """Prints, for each frontier and momentum to start at: the worst cell, how many are more than
    1 % above the grid's best, the share of the grid's steps (of all cells, the most of one) and of
    the momenta, and the rounds."""
    print("spectrum noise seeds start   worst  above 1 %     share      most    momenta  rounds")
    for exponent in EXPONENTS:
        frontiers = [exact_frontier(exponent, momentum, INDICES) for momentum in MOMENTA]
        for noise in NOISES:
            for n_seeds in SEEDS:
                seeds = tuple(range(n_seeds))
                grid = full_grid(cells_of(frontiers, noise, n_seeds, 0), seeds)
                for start in STARTS:
                    cells = cells_of(frontiers, noise, n_seeds, start)
                    setting = f"{exponent:8g} {noise:5g} {n_seeds:5d} {MOMENTA[start]:5g}"
                    print(f"{setting} {found(cells, grid, seeds)}", flush=True)
                if noise == 0 and n_seeds == 1:
                    _print_best(grid)


def _print_best(grid: Grid) -> None:
    for size, momenta in zip(BATCH_SIZES, grid.momenta, strict=True):
        best = ", ".join(f"{MOMENTA[place]:g}" for place in momenta)
        print(f"  best momentum at batch size {size}: {best}", file=sys.stderr)
