"""Cells of a study: all seeds of one group, batch size and lr, and their steps to target.

Seeds are averaged at common steps (mean of loss minus irreducible loss), the mean curve gets its
decreasing isotonic regression, and the target is crossed between the mean blocks on either side of
it. A first touch of the raw curve would come too early (in simulation with 8 seeds it lowers the
critical batch size by 6 to 10 %, more with fewer seeds).

Runs that stop where they touch the target have no common window that holds the crossing: there the
runs' own crossings are averaged instead (see `read_one_by_one`).

Only lrs with the seeds of their batch size are compared: see `compared`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.curves import Crossings, at_common_steps, read_crossings
from scaling.schema import DIVERGED

Floats = NDArray[np.float64]

SHORTEST_TAIL = 1.5  # curves that end before this many times their first touch stop at the target


@dataclass(frozen=True)
class Cell:
    """The curves of all seeds of one group, batch size, lr and `tuned` (what else was tuned).

    seeds [n_seeds]; steps [T] common evaluation steps; excess [n_seeds, T] loss minus irreducible
    loss, 0 beyond a seed's own end; lengths [n_seeds] how many of `steps` each seed has;
    last_step: the last step common to all seeds; runs: each seed's own steps and excess losses.
    """

    group: tuple[Any, ...]
    batch_size: int
    lr: float
    seeds: NDArray[np.int64]
    steps: Floats
    excess: Floats
    lengths: NDArray[np.int64]
    n_diverged: int
    last_step: float
    tuned: tuple[Any, ...] = ()
    runs: tuple[tuple[Floats, Floats], ...] = ()

    def crossings(self, levels: Sequence[float]) -> Crossings:
        """Of the seed-mean curve. [K] each."""
        steps, mean = self.mean_curve()
        return Crossings(*(part[0] for part in read_crossings(steps, mean[None, :], levels)))

    def own_crossings(self, levels: Sequence[float]) -> Crossings:
        """Of each seed's own curve, read alone. [n_seeds, K] each."""
        read = [read_crossings(steps, excess[None, :], levels) for steps, excess in self.runs]
        return Crossings(*(np.concatenate(part) for part in zip(*read, strict=True)))

    def mean_curve(self) -> tuple[Floats, Floats]:
        """Steps [T'] and seed-mean excess loss [T'] of the window common to all seeds."""
        window = int(self.lengths.min())
        return self.steps[:window], self.excess[:, :window].mean(axis=0)

    def resample(self, counts: NDArray) -> tuple[Floats, NDArray]:
        """Weighted mean curves [n, T] and their window lengths [n].

        counts [n, n_seeds]: how often each seed stands in each resample. A resample's window is
        common to the seeds in it; a resample without any seed of this cell has length 0.
        """
        total = counts.sum(axis=1)
        weights = counts / np.maximum(total, 1)[:, None]
        longest = self.excess.shape[1]
        lengths = np.where(counts > 0, self.lengths[None, :], longest).min(axis=1)
        return weights @ self.excess, np.where(total > 0, lengths, 0)


def compared(cells: Sequence[Cell]) -> list[Cell]:
    """Those that may be the best of their batch size: with more than half of the most seeds there.

    The least over many lrs of which some have one seed is a lucky seed's: a search tries most lrs
    with few seeds, and only the best and their neighbours with all of them.
    """
    most: dict[int, int] = {}
    for cell in cells:
        most[cell.batch_size] = max(most.get(cell.batch_size, 0), len(cell.seeds))
    return [cell for cell in cells if 2 * len(cell.seeds) > most[cell.batch_size]]


def read_cells(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    group_by: Sequence[str],
    tuned: Sequence[str] = ("lr",),
) -> list[Cell]:
    """The cells of a study, in the order of group, batch size, lr, then the other tuned columns.

    trials: the finished trials, unique in group, batch_size, tuned columns and seed; curves: their
    evaluations (run_id, step, loss). Trials without any evaluation are taken as diverged at step 0.
    """
    ordered = curves.sort_values(["run_id", "step"], kind="stable")
    run_ids, starts = np.unique(ordered["run_id"].to_numpy(str), return_index=True)
    step = np.split(ordered["step"].to_numpy(np.float64), starts[1:])
    loss = np.split(ordered["loss"].to_numpy(np.float64), starts[1:])
    curve_of = {run_id: (step[i], loss[i]) for i, run_id in enumerate(run_ids)}
    others = [name for name in tuned if name != "lr"]
    keys = [*group_by, "batch_size", "lr", *others]
    return [
        _read_cell(key if isinstance(key, tuple) else (key,), len(group_by), rows, curve_of)
        for key, rows in trials.groupby(keys, dropna=False, sort=True)
    ]


def read_one_by_one(cells: Sequence[Cell], level: float) -> bool:
    """Whether the runs stop at this level, so that each is read alone: see mean_of_crossings.

    True if, of the cells in which every seed touched the level, most have a seed that ends before
    SHORTEST_TAIL times the seeds' (geometric mean) first touch. A single run is read alone anyway,
    and where others have more seeds it is one that a search only compared: it may end early.
    """
    short = []
    for cell in cells:
        if cell.n_diverged or len(cell.runs) < 2:
            continue
        touch = [steps[np.flatnonzero(excess <= level)[:1]] for steps, excess in cell.runs]
        if not all(len(steps) and steps[0] > 0 for steps in touch):
            continue
        middle = np.exp(np.mean(np.log([steps[0] for steps in touch])))
        short.append(min(steps[-1] for steps, _ in cell.runs) < SHORTEST_TAIL * middle)
    return 2 * sum(short) > len(short)


def mean_of_crossings(of_seeds: Crossings, weights: Floats) -> Crossings:
    """Geometric means over the seeds of their own crossings. own [n_seeds] each; [n] each.

    weights [n, n_seeds]: how often each seed counts (not all 0). With a seed that did not reach
    the level, a lower bound: the mean with that seed at its end. With a seed that met it at its
    first evaluation, an upper bound. With both, nothing is known.
    """
    right, left = ~np.isnan(of_seeds.lower) & np.isnan(of_seeds.steps), np.isnan(of_seeds.lower)
    at = np.where(right, of_seeds.lower, np.where(left, of_seeds.upper, of_seeds.steps))
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    with np.errstate(divide="ignore"):  # met at step 0
        mean = np.exp(share @ np.log(at))
    some_right, some_left = weights @ right > 0, weights @ left > 0
    steps = np.where(some_right | some_left, np.nan, mean)
    bounds = [
        np.exp(share @ np.log(np.where(right | left, 1.0, part)))
        for part in (of_seeds.lower, of_seeds.upper)
    ]
    lower = np.where(some_left, np.nan, np.where(some_right, mean, bounds[0]))
    upper = np.where(some_right, np.nan, np.where(some_left, mean, bounds[1]))
    return Crossings(steps, lower, upper)


def _read_cell(
    key: tuple[Any, ...],
    n_group: int,
    rows: pd.DataFrame,
    curve_of: Mapping[str, tuple[Floats, Floats]],
) -> Cell:
    nothing = (np.empty(0), np.empty(0))
    read = [curve_of.get(str(run_id), nothing) for run_id in rows["run_id"]]
    floors = rows["irreducible_loss"].fillna(0.0).to_numpy(float)
    read = [(steps, loss - floor) for (steps, loss), floor in zip(read, floors, strict=True)]
    shared, excess, lengths = at_common_steps(read)
    last = min((float(steps[-1]) if len(steps) else -1.0) for steps, _ in read)
    return Cell(
        group=key[:n_group],
        batch_size=int(key[n_group]),
        lr=float(key[n_group + 1]),
        seeds=rows["seed"].to_numpy(np.int64),
        steps=shared,
        excess=excess,
        lengths=lengths,
        n_diverged=int((rows["outcome"] == DIVERGED).sum()),
        last_step=int(last) if last.is_integer() else last,
        tuned=key[n_group + 2 :],
        runs=tuple(read),
    )
