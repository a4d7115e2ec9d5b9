"""Studies of streaming regression whose learning rates the real search finds, trained in numpy.

The default study (conf/study/linear_regression.yaml) many times over: each trial is exact
mini-batch SGD on the data stream of its study, seed and batch size, which all its lrs share. Many
studies go through the search's rounds together, and a round trains all its trials of one batch size
in one computation. Axes: S streams, L trials of a stream, D inputs, M rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.problem import RegressionProblem
from scaling.schema import CENSORED, DIVERGED, REACHED
from sweeps.search.cells import CellCurves, Curve
from sweeps.search.decide import decide
from sweeps.search.observations import Observed
from sweeps.search.settings import FrontierSettings, Lattice
from tests.analysis.simulated import trial_row
from tests.benchmarks.frontier_search import (
    BASE,
    BATCH_SIZES,
    DIVERGENCE_FACTOR,
    LR_RANGE,
    MAX_EXAMPLES,
    MAX_STEPS,
    PROBLEM,
    RATIO,
    TAIL_FACTOR,
    TARGETS,
    evaluation_steps,
)

Floats = NDArray[np.float64]
Stream = tuple[int, int]  # study, seed

LATTICE = Lattice(BASE, RATIO)
SETTINGS = FrontierSettings(
    lr_base=None, lr_ratio=RATIO, lr_range=LR_RANGE, stride=8, cap_factor=2.0, search_seeds=1,
    give_up_after=16, tune_for="all",
)  # fmt: skip
LOSSES = tuple(share * PROBLEM.initial_risk for share in TARGETS)
_ROWS_AT_ONCE = 512  # of a stream, drawn together


@dataclass
class Trial:
    """One lr on one stream, as far as it was trained. end: where its tail ends, once it touched."""

    lr: float
    error: NDArray[np.float32]  # w - w*, [D]
    steps: list[int] = field(default_factory=lambda: [0])
    losses: list[float] = field(default_factory=lambda: [PROBLEM.initial_risk])
    end: float = np.inf
    diverged_step: float = np.inf

    def up_to(self, cap: int, budget: int) -> tuple[Observed, Curve]:
        """What a trial with this cap leaves: the rules of scaling.outcome and
        sweeps.search.sweep."""
        n = int(np.searchsorted(self.steps, cap, side="right"))
        last = self.steps[n - 1]
        diverged = self.diverged_step <= cap
        ended = diverged or last < cap or cap >= budget
        failed = diverged and min(self.losses[:n]) > LOSSES[-1]
        return Observed(last, ended, failed), (self.steps[:n], self.losses[:n])

    def needs(self, cap: int) -> bool:
        return np.isinf(self.diverged_step) and self.steps[-1] < min(cap, self.end)


def rows_of_batch(
    problem: RegressionProblem, batch_size: int, n_steps: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x [n_steps, M, D] and label noise [n_steps, M] of batches; sums over M are a batch's sums.

    A batch of B > D inputs enters SGD only by X'X and X'e. X'X is Wishart: L^(1/2) A A' L^(1/2)
    with A lower triangular, A_ii^2 ~ chi2(B - i + 1), A_ij ~ N(0, 1) (Bartlett 1933); given it, X'e
    is N(0, sigma^2 X'X), so that the rows of A' L^(1/2) with fresh noise give both, exactly.
    """
    scale = np.sqrt(problem.eigenvalues).astype(np.float32)
    dimension = len(scale)
    shared = batch_size > dimension
    n_rows = min(batch_size, dimension)
    x = rng.standard_normal((n_steps, n_rows, dimension), np.float32)
    if shared:
        x, each = np.triu(x), np.arange(dimension)
        x[:, each, each] = np.sqrt(rng.chisquare(batch_size - each, (n_steps, dimension)))
    noise = np.float32(problem.label_noise) * rng.standard_normal((n_steps, n_rows), np.float32)
    return x * scale, noise


def train(batch_size: int, asked: Sequence[tuple[Stream, Trial, int]]) -> None:
    """Every trial on its stream from where it is up to its cap, an evaluation step, all in one
    computation."""
    by_stream: dict[Stream, list[tuple[Trial, int]]] = {}
    for stream, trial, cap in asked:
        if trial.needs(cap):
            by_stream.setdefault(stream, []).append((trial, cap))
    if by_stream:
        _Launch(batch_size, by_stream).run()


class _Launch:
    """Arrays [S, L] of the trials of one batch size; places without a trial have lr 0."""

    def __init__(self, batch_size: int, by_stream: dict[Stream, list[tuple[Trial, int]]]) -> None:
        self.batch_size, self.trials = batch_size, by_stream
        self.streams = list(by_stream)
        shape = (len(self.streams), max(map(len, by_stream.values())))
        self.lr, self.end = np.zeros(shape), np.full(shape, np.inf)
        self.start, self.cap = np.zeros(shape, int), np.zeros(shape, int)
        self.error = np.zeros((*shape, len(PROBLEM.eigenvalues)), np.float32)
        for s, own in enumerate(by_stream.values()):
            for i, (trial, cap) in enumerate(own):
                self.lr[s, i], self.end[s, i], self.error[s, i] = trial.lr, trial.end, trial.error
                self.start[s, i], self.cap[s, i] = trial.steps[-1], cap
        self.running = self.cap > 0
        self.risks: list[tuple[int, Floats, NDArray[np.bool_]]] = []

    def run(self) -> None:
        n_rows = min(self.batch_size, len(PROBLEM.eigenvalues))
        block = max(1, _ROWS_AT_ONCE // n_rows)
        step, last = int(self.start[self.running].min()), int(self.cap.max())
        wanted = set(evaluation_steps(last).tolist())
        live = np.arange(len(self.streams))
        rate, error = self._rates(live, step), self.error[live]
        while step < last and len(live):  # NaN and inf of exploded trials stay in their places
            x, noise = self._rows(live, step // block, block)
            for at in range(step % block, block):
                residual = error @ x[at].transpose(0, 2, 1) - noise[at][:, None]
                error -= rate * (residual @ x[at])
                step += 1
                if step in wanted:
                    self._evaluate(live, step, error)
                    rate = self._rates(live, step)
                    if step >= last:
                        break
            self.error[live] = error
            live = live[self.running[live].any(axis=1)]
            rate, error = self._rates(live, step), self.error[live]
        self._hand_back()

    def _rates(self, live: NDArray, step: int) -> NDArray[np.float32]:
        moving = self.running[live] & (self.start[live] <= step)
        rate = np.where(moving, 2 * self.lr[live] / self.batch_size, 0.0)
        return rate[:, :, None].astype(np.float32)

    def _rows(
        self, live: NDArray, block: int, n_steps: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[n_steps, S, M, D] and [n_steps, S, M] of the live streams: the same in every launch."""
        drawn = []
        for s in live:
            seed = [*self.streams[s], self.batch_size, block]
            rng = np.random.Generator(np.random.SFC64(seed))
            drawn.append(rows_of_batch(PROBLEM, self.batch_size, n_steps, rng))
        x, noise = zip(*drawn, strict=True)
        return np.stack(x, axis=1), np.stack(noise, axis=1)

    def _evaluate(self, live: NDArray, step: int, error: NDArray[np.float32]) -> None:
        seen = np.zeros(self.lr.shape, bool)
        seen[live] = self.running[live] & (self.start[live] < step)
        risk = np.full(self.lr.shape, np.nan)
        risk[live] = error.astype(float) ** 2 @ PROBLEM.eigenvalues
        self.risks.append((step, risk, seen))
        touched = seen & (risk <= LOSSES[-1]) & np.isinf(self.end)
        self.end[touched] = TAIL_FACTOR * step
        exploded = seen & ~_is_sound(risk)
        self.running[exploded | (seen & (step >= np.minimum(self.end, self.cap)))] = False

    def _hand_back(self) -> None:
        for s, own in enumerate(self.trials.values()):
            for i, (trial, _) in enumerate(own):
                rows = [(step, float(risk[s, i])) for step, risk, seen in self.risks if seen[s, i]]
                finite = [row for row in rows if np.isfinite(row[1])]
                trial.steps += [step for step, _ in finite]
                trial.losses += [loss for _, loss in finite]
                over = [step for step, risk in rows if not _is_sound(risk)]
                trial.diverged_step = over[0] if over else np.inf
                trial.end, trial.error = float(self.end[s, i]), self.error[s, i].copy()


def _is_sound(risk: Any) -> Any:
    return risk <= DIVERGENCE_FACTOR * PROBLEM.initial_risk


@dataclass
class _Study:
    """A search with the first n_seeds streams of study `number`."""

    number: int
    n_seeds: int
    cells: dict[int, CellCurves] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.options = SETTINGS.search(LATTICE, tuple(range(self.n_seeds)))
        for size in BATCH_SIZES:
            budget = min(MAX_STEPS, MAX_EXAMPLES // size)
            self.cells[size] = CellCurves(LOSSES, 0.0, budget)

    def ask(self) -> Iterable[tuple[int, int, int, int]]:
        """batch size, index, seed and cap of the next round's trials."""
        for size, cell in self.cells.items():
            if size in self.done:
                continue
            trials = decide(cell.observations, self.options).trials
            if not trials:
                self.done.add(size)
            schedule = evaluation_steps(cell.budget)
            for (index, seed), cap in trials.items():
                yield size, index, seed, int(schedule[np.searchsorted(schedule, cap)])


def search_studies(
    numbers: Sequence[int], seed_counts: Sequence[int]
) -> dict[tuple[int, int], pd.DataFrame]:
    """(study, number of seeds) -> a row an evaluation: batch_size, index, seed, step, loss, failed.

    The studies of one number share their streams, and so the trials that several ask for.
    """
    studies = [_Study(number, n_seeds) for number in numbers for n_seeds in seed_counts]
    pool: dict[tuple[int, int, int, int], Trial] = {}
    while True:
        asked = [(study, *one) for study in studies for one in study.ask()]
        if not asked:
            return {(study.number, study.n_seeds): _evaluations(study) for study in studies}
        caps: dict[tuple[int, int, int, int], int] = {}
        for study, size, index, seed, cap in asked:
            key = size, study.number, seed, index
            caps[key] = max(cap, caps.get(key, 0))
            if key not in pool:
                pool[key] = Trial(LATTICE.lr(index), PROBLEM.initial_error.astype(np.float32))
        for size in BATCH_SIZES:
            own = [(key[1:3], pool[key], cap) for key, cap in caps.items() if key[0] == size]
            train(size, own)
        for study, size, index, seed, cap in asked:
            cell = study.cells[size]
            trial = pool[size, study.number, seed, index]
            cell.take(index, seed, *trial.up_to(cap, cell.budget))


def _evaluations(study: _Study) -> pd.DataFrame:
    found = [
        (size, *trial, cell.trials[trial].diverged, *curve)
        for size, cell in study.cells.items()
        for trial, curve in cell.curves.items()
    ]
    lengths = [len(row[-1]) for row in found]
    columns = zip(("batch_size", "index", "seed", "failed"), zip(*found, strict=True), strict=False)
    table = {name: np.repeat(np.array(column), lengths) for name, column in columns}
    table["step"] = np.concatenate([row[-2] for row in found])
    table["loss"] = np.concatenate([row[-1] for row in found])
    return pd.DataFrame(table)


def frames_of(evaluations: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`trials` and `curves` of one study, as the analysis reads them."""
    rows, curves = [], []
    for key, own in evaluations.groupby(["batch_size", "index", "seed"], sort=False):
        size, index, seed = cast(tuple[int, int, int], key)
        row = trial_row(PROBLEM, size, LATTICE.lr(index), seed, LOSSES)
        reached = bool((own["loss"] <= LOSSES[-1]).any())
        row["outcome"] = DIVERGED if own["failed"].any() else REACHED if reached else CENSORED
        row |= {"last_step": int(own["step"].iloc[-1]), "tail_factor": TAIL_FACTOR}
        rows.append(row)
        curves.append(own[["step", "loss"]].assign(run_id=row["run_id"]))
    table = pd.concat(curves, ignore_index=True)
    size_of = {row["run_id"]: row["batch_size"] for row in rows}
    table["train_loss"] = table["loss"] + PROBLEM.label_noise**2
    table["examples"] = table["step"] * table["run_id"].map(size_of)
    return pd.DataFrame(rows), table
