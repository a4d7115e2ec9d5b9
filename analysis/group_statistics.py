"""One group of a study: its frontier, fits and theory, and what a reader has to know of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.beside import beside
from analysis.caveats import Caveat, trial_caveats, value_edge_caveats
from analysis.fit.critical_batch_size import exact_critical_batch_size, find_critical_batch_sizes
from analysis.fit.fit_caveats import fit_caveats
from analysis.fit.fitting import LIKELIHOOD
from analysis.measure.bootstrap import FrontierDraws, draw_frontier
from analysis.measure.cell_frame import cell_frame
from analysis.measure.cells import Cell, compared, read_one_by_one
from analysis.measure.frontier import frontier_frame, frontier_is_given, hardest_reached
from analysis.measure.model_sizes import MeasuredGroup, flops_per_example, the_one
from analysis.measure.step_time import of_group, read_step_time
from analysis.read.selection import floor_of
from analysis.study import Statistics
from analysis.theory.trials import (
    Streaming,
    exact_curves,
    exact_theory,
    stability_frame,
    theory_of,
)

_THEORY_STEPS = 20_000  # at least this many steps of the recursion, whatever the trials' budget


@dataclass(frozen=True)
class Settings:
    """What is asked of every group alike; the arguments of analysis.analyse."""

    n_bootstrap: int
    seed: int
    objective: str = LIKELIHOOD
    tuned: Sequence[str] = ("lr",)
    jointly: bool = False
    with_theory: bool = True


@dataclass
class Measured:
    """Cells of one group, their bootstrap by batch size, and the frontier; given: see there.

    one_by_one: the targets at which runs stop, so that each run was read alone. of_final_losses:
    no curves were read, but what runs of several lengths end with.
    """

    rows: pd.DataFrame
    draws: dict[int, FrontierDraws]
    frontier: pd.DataFrame
    given: bool
    one_by_one: list[float] = field(default_factory=list)
    of_final_losses: bool = False


def measure(
    group: dict[str, Any],
    trials: pd.DataFrame,
    cells: list[Cell],
    targets: list[float],
    rng: np.random.Generator,
    settings: Settings,
) -> Measured:
    floor = floor_of(trials)
    levels = [target - floor for target in targets]
    one_by_one = [read_one_by_one(cells, level) for level in levels]
    draws = _draw(compared(cells), levels, one_by_one, rng, settings)
    rows = cell_frame(cells, targets, floor, list(group), settings.tuned)
    measured = measured_frontier(rows, draws, targets, group, settings.tuned)
    return replace(
        measured, one_by_one=[t for t, one in zip(targets, one_by_one, strict=True) if one]
    )


def measured_frontier(
    rows: pd.DataFrame,
    draws: dict[int, FrontierDraws],
    targets: list[float],
    group: dict[str, Any],
    tuned: Sequence[str],
) -> Measured:
    """One setting at each batch size was chosen before: it is the frontier, with no grid's edge."""
    given = frontier_is_given(rows)
    frontier = frontier_frame(rows, draws, targets, group, given=given, tuned=tuned)
    return Measured(rows, draws, frontier, given)


def begin_theory(
    trials: pd.DataFrame, cells: list[Cell], targets: list[float], settings: Settings
) -> Callable[[], pd.DataFrame]:
    """The exact frontiers of one group, computed beside what follows where there are any."""
    max_steps = max(_THEORY_STEPS, int(trials["last_step"].max()))
    known = trials if settings.with_theory else trials.iloc[:0]
    theory = partial(exact_theory, known, targets, max_steps, _evaluations(cells))
    return beside(theory) if len(known) and isinstance(theory_of(known), Streaming) else theory


def group_statistics(
    group: dict[str, Any],
    trials: pd.DataFrame,
    measured: Measured,
    cells: list[Cell],
    targets: list[float],
    rng: np.random.Generator,
    settings: Settings,
    probes: pd.DataFrame,
    exact_frontiers: Callable[[], pd.DataFrame],
) -> Statistics:
    """Theory, fits and caveats of one group; cells are empty where a table was given.

    exact_frontiers: of begin_theory.
    """
    frontier, names = measured.frontier, list(group)
    known = trials if settings.with_theory else trials.iloc[:0]
    stability, exact = _beyond_targets(known, frontier, cells)
    first = measured.rows[measured.rows["target_loss"] == targets[0]]
    fits = find_critical_batch_sizes(
        frontier,
        measured.draws,
        targets,
        group=group,
        n_bootstrap=settings.n_bootstrap,
        rng=rng,
        objective=settings.objective,
    )
    theory = exact_frontiers()
    of_final_losses = measured.of_final_losses
    caveats: list[Caveat | str] = [*trial_caveats(first, len(theory) > 0, of_final_losses)]
    caveats += value_edge_caveats(frontier)
    for fit, target in zip(fits, targets, strict=True):
        fit.exact = exact_critical_batch_size(theory[theory["target_loss"] == target], fit)
        rows = frontier[frontier["target_loss"] == target]
        caveats += fit_caveats(fit, rows, of_final_losses)
    return Statistics(
        cells=measured.rows,
        frontier=frontier,
        theory=theory.assign(**group)[[*names, *theory.columns]],
        stability=stability.assign(**group)[[*names, *stability.columns]],
        exact_curves=exact.assign(**group)[[*names, *exact.columns]],
        fits=fits,
        measured=[_measured_group(group, trials, measured, cells, targets, settings, probes)],
        caveats=[(group, caveat) for caveat in caveats],
    )


def _measured_group(
    group: dict[str, Any],
    trials: pd.DataFrame,
    measured: Measured,
    cells: list[Cell],
    targets: list[float],
    settings: Settings,
    probes: pd.DataFrame,
) -> MeasuredGroup:
    size = the_one(trials["model_size"])
    timed = of_group(trials, probes, group)
    return MeasuredGroup(
        group=group,
        floor=floor_of(trials),
        targets=targets,
        cells=compared(cells),
        draws=measured.draws,
        model_size=size,
        flops_per_example=the_one(flops_per_example(trials)[0]),
        frontier=measured.frontier,
        optimizer=str(trials["optimizer.name"].iloc[0]) if "optimizer.name" in trials else "sgd",
        time=read_step_time(timed, group, size, settings.n_bootstrap, [settings.seed]),
    )


def _beyond_targets(
    trials: pd.DataFrame, frontier: pd.DataFrame, cells: list[Cell]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The largest stable lrs, and the expected curves at the best lr of each batch size."""
    theory = theory_of(trials) if len(trials) else None
    best = hardest_reached(frontier, ["batch_size"]) if theory else frontier.iloc[:0]
    steps: set[int] = set()
    for cell in cells if theory else ():
        if cell.lr in best.loc[best["batch_size"] == cell.batch_size, "lr"].to_numpy():
            steps.update(cell.steps.astype(int).tolist())
    sizes = sorted({cell.batch_size for cell in cells})
    return stability_frame(theory, sizes), exact_curves(theory, best, sorted(steps))


def _evaluations(cells: list[Cell]) -> NDArray | None:
    """The steps at which any of the trials was evaluated; None: there are no curves."""
    return np.unique(np.concatenate([cell.steps for cell in cells])) if cells else None


def _draw(
    cells: list[Cell],
    levels: list[float],
    one_by_one: list[bool],
    rng: np.random.Generator,
    settings: Settings,
) -> dict[int, FrontierDraws]:
    """The bootstrap of every batch size, each with its own random stream unless jointly."""
    of_size: dict[int, list[Cell]] = {}
    for cell in cells:
        of_size.setdefault(cell.batch_size, []).append(cell)
    children = rng.spawn(len(of_size))
    jointly = settings.jointly
    seeds = np.unique(np.concatenate([cell.seeds for cell in cells])) if jointly else None
    if jointly:
        children = [copy.deepcopy(children[0]) for _ in children]
    return {
        size: draw_frontier(tried, levels, settings.n_bootstrap, child, seeds, one_by_one)
        for (size, tried), child in zip(of_size.items(), children, strict=True)
    }
