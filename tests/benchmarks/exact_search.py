"""Holds the search against full lattices of exact curves: sgd and momentum, several spectra.

Called by tests.benchmarks.frontier_search. A cell's curve at an lr is its exact expected risk, or
that risk times log-normal noise of each seed, evaluated and read as trials are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.fit.fitting import fit_hyperbola
from analysis.theory.streaming import exact_risk
from scaling.config import EvaluationConfig
from scaling.problem import RegressionProblem
from scaling.schedules import next_evaluation
from sweeps.search.observations import SearchOptions
from sweeps.search.settings import Lattice
from tests.analysis.simulated import noisy_curves
from tests.sweeps.simulated_cells import SimulatedCell, fewest_of, search

BATCH_SIZES = (1, 4, 16, 64, 256, 1024, 4096)
MOMENTA, EXPONENTS = (0.0, 0.9, 0.95, 0.99), (1.0, 1.5, 2.0)
TARGETS, TAIL_FACTOR, MAX_STEPS, MAX_EXAMPLES = (0.1, 0.03, 0.01), 3.0, 24000, 500000
LATTICE, EXPLODED = Lattice(0.1, 1.09), 1000.0
NOISES, SEEDS = (0.0, 0.02, 0.05), (1, 8)
SMALLEST_LR, STABLE_LR = 0.005, 1.4  # of sgd; the one times 1 - momentum, the other 1 + momentum


@dataclass(frozen=True)
class Frontier:
    """Exact risks [n_lrs, T] by batch size, at the indices of a lattice and at steps [T]."""

    problem: RegressionProblem
    indices: range
    steps: dict[int, np.ndarray]
    risks: dict[int, np.ndarray]

    def cells(self, noise: float, n_seeds: int) -> list[SimulatedCell]:
        """Of each batch size, with log-normal noise of this standard deviation."""
        targets = tuple(target * self.problem.initial_risk for target in TARGETS)
        return [
            SimulatedCell(self.steps[size], dict(curves), targets, TAIL_FACTOR)
            for size in self.risks
            for curves in [self._curves(size, noise, n_seeds)]
        ]

    def _curves(
        self, size: int, noise: float, n_seeds: int
    ) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for seed in range(n_seeds):
            rng = np.random.default_rng([size, seed])
            curves = noisy_curves(self.risks[size], noise, rng) if noise else self.risks[size]
            yield from (((k, seed), one) for k, one in zip(self.indices, curves, strict=True))


def exact_frontier(exponent: float, momentum: float, indices: range | None = None) -> Frontier:
    problem = RegressionProblem.power_law(64, exponent)
    if indices is None:
        indices = LATTICE.within(SMALLEST_LR * (1 - momentum), STABLE_LR * (1 + momentum))
    lrs = np.array([LATTICE.lr(index) for index in indices])
    steps, risks = {}, {}
    for size in BATCH_SIZES:
        steps[size] = evaluation_steps(min(MAX_STEPS, MAX_EXAMPLES // size))
        risk = exact_risk(problem, size, lrs, int(steps[size][-1]), momentum)
        with np.errstate(invalid="ignore"):
            sound = np.logical_and.accumulate(risk < EXPLODED * problem.initial_risk, axis=1)
        risks[size] = np.where(sound, risk, np.nan)[:, steps[size]]
    return Frontier(problem, indices, steps, risks)


def evaluation_steps(last: int, evaluation: EvaluationConfig | None = None) -> np.ndarray:
    steps = [0]
    while steps[-1] < last:
        steps.append(min(last, next_evaluation(evaluation or EvaluationConfig(), steps[-1])))
    return np.array(steps)


@dataclass(frozen=True)
class Found:
    """errors: log of the steps found over the lattice's fewest, of every cell and target that the
    lattice reaches (inf: not found). knee_error: of B_crit as fitted to the steps found, over that
    as fitted to the lattice's, minus 1, at the target where it is largest. shares [n_cells]: of the
    lattice's steps; share: of all cells in which the lattice reaches every target (others are
    cheap: the lattice has no cap there)."""

    errors: np.ndarray
    knee_error: float
    share: float
    shares: np.ndarray
    rounds: int

    def __str__(self) -> str:
        wrong = int((self.errors > np.log(1.01)).sum())
        worst = np.expm1(self.errors.max())
        return (
            f"{worst:+9.1%} {wrong:6d} of {len(self.errors)} {self.knee_error:+7.1%} "
            f"{self.share:9.1%} {self.shares.max():9.1%} {self.rounds:7d}"
        )


def found(frontier: Frontier, noise: float, n_seeds: int) -> Found:
    """What the search finds, and what it costs against a lattice that stops at the same cap."""
    cells, seeds = frontier.cells(noise, n_seeds), tuple(range(n_seeds))
    options = SearchOptions(frontier.indices[0], frontier.indices[-1], 0, seeds)
    states, rounds = search(cells, options)
    steps = np.array([[state.steps or np.inf for state in of_cell] for of_cell in states])
    of_lattice = [fewest_of(cell, options) for cell in cells]
    fewest, whole = np.array([one for one, _ in of_lattice]), np.array([n for _, n in of_lattice])
    trained, known = np.array([cell.trained_steps for cell in cells]), np.isfinite(fewest)
    share = trained[known[:, -1]].sum() / whole[known[:, -1]].sum()
    errors = np.log(steps[known] / fewest[known])
    return Found(errors, knee_error(steps, fewest), float(share), trained / whole, rounds)


def knee_error(steps: np.ndarray, fewest: np.ndarray) -> float:
    """steps, fewest [n_cells, n_targets], inf: not reached."""
    of_search, of_lattice = (
        np.diff(fit_hyperbola(BATCH_SIZES, np.where(np.isfinite(one), one, np.nan).T))[:, 0]
        for one in (steps, fewest)
    )
    errors = np.expm1(of_search - of_lattice)
    return float(errors[np.abs(errors).argmax()])


def compare_exact() -> None:
    """Prints, for each frontier, the worst cell, how many are more than 1 % above the lattice's
    best, the error of B_crit, the share of the lattice's steps (of all cells, and the most of one),
    and the rounds."""
    print("spectrum momentum noise seeds     worst  above 1 %  B_crit     share      most  rounds")
    for exponent in EXPONENTS:
        for momentum in MOMENTA:
            frontier = exact_frontier(exponent, momentum)
            for noise in NOISES:
                for n_seeds in SEEDS:
                    result = found(frontier, noise, n_seeds)
                    setting = f"{exponent:8g} {momentum:8g} {noise:5g} {n_seeds:5d}"
                    print(f"{setting} {result}", flush=True)
