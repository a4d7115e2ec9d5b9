"""From trials and their curves to a study's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import norm_caveats
from analysis.early_stop import early_stop_caveats
from analysis.errors import AnalysisError
from analysis.fit.fitting import LIKELIHOOD, OBJECTIVES
from analysis.group_statistics import Settings, begin_theory, group_statistics, measure
from analysis.groups import column_of, prefixed
from analysis.measure.cells import Cell, read_cells
from analysis.measure.step_time import probe_frame, trial_step_seconds
from analysis.measure.targets import choose_targets, targets_sentence
from analysis.read.recorded_rules import with_reference_values
from analysis.read.selection import (
    finished_trials,
    floor_of,
    group_columns_of,
    named_groups,
    one_trial_per_seed,
    targets_of,
)
from analysis.result import StudyResult, study_result
from analysis.study import Group, Statistics
from scaling.schema import BATCH_SIZES, REPORT


def analyse(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    with_theory: bool = True,
    fit_objective: str = LIKELIHOOD,
    tuned: Sequence[str] | None = None,
    jointly: bool = False,
) -> StudyResult:
    """Frames of trials and evaluations in, the study's statistics out.

    trials, curves: as analysis.read reads them; only finished trials are used. targets: absolute
    held-out losses, default those recorded with the trials, else chosen from the curves
    (analysis.measure.targets). group_by: params that tell groups apart, default every param that
    varies besides batch_size, the tuned ones and seed. tuned: what the frontier is minimised over,
    lr and other columns of trials, by default lr and what the study's search tuned. The same seed
    gives the same bootstrap. fit_objective: one of fitting.OBJECTIVES. jointly: resample the seeds
    together for all batch sizes, where they share initialisation or targets. Raises AnalysisError
    if nothing can be said: no finished trials, all diverged, a target outside (irreducible loss,
    initial loss), trials that differ in a param not grouped by.

    >>> steps = [1, 2, 4, 8, 16, 32, 64, 128]
    >>> frame = pd.DataFrame([
    ...     {"batch_size": size, "lr": 0.1, "step": step, "loss": (1 + 8 / size) / step}
    ...     for size in (1, 4, 16, 64) for step in steps
    ... ])
    >>> from analysis.read.curves import tidy_curves
    >>> result = analyse(*tidy_curves(frame), targets=[0.1], n_bootstrap=10)
    >>> result.frontier["steps"].round(1).tolist()
    [90.0, 30.0, 15.0, 11.3]
    """
    if fit_objective not in OBJECTIVES:
        raise AnalysisError(
            f"fit.objective={fit_objective}: must be one of {', '.join(OBJECTIVES)}"
        )
    notes: list[str] = []
    trials = with_reference_values(trials)
    used, names, tuned = _compared_trials(trials, group_by, tuned, notes)
    curves = curves[curves["run_id"].isin(used["run_id"])]
    used = used.assign(step_seconds=trial_step_seconds(used, curves))
    cells: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in read_cells(used, curves, names, tuned):
        cells.setdefault(cell.group, []).append(cell)
    if targets is None and not any(used["targets"]):
        targets = _chosen_targets(used, cells, notes)
    settings = Settings(n_bootstrap, seed, fit_objective, tuple(tuned), jointly, with_theory)
    parts: list[Statistics] = []
    probes = probe_frame(trials.attrs.get("probes", ()))
    for index, (key, of_group) in enumerate(cells.items()):
        group = dict(zip(names, key, strict=True))
        rows = _rows_of(used, group)
        if targets is None and not any(rows["targets"]) and len(cells) > 1:
            notes.append(prefixed(group, "left out: its trials have no target."))
            continue
        wanted = targets_of(rows, targets, group)
        rng = np.random.default_rng([seed, index])
        theory = begin_theory(rows, of_group, wanted, settings)
        measured = measure(group, rows, of_group, wanted, rng, settings)
        part = group_statistics(
            group, rows, measured, of_group, wanted, rng, settings, probes, theory
        )
        stopped = early_stop_caveats(rows, curves, measured.frontier, measured.one_by_one)
        part.caveats += [(group, caveat) for caveat in stopped]
        parts.append(part)
    if not parts:
        raise AnalysisError("targets: no trial has a target; give targets=[..]")
    return study_result(
        parts, used, named_groups(trials, names), curves, names, settings,
        about=about_of(trials), notes=notes, norms=norm_caveats(used),
    )  # fmt: skip


def _compared_trials(
    trials: pd.DataFrame,
    group_by: Sequence[str] | None,
    tuned: Sequence[str] | None,
    notes: list[str],
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The trials that count, and the columns of group_by and tuned as trials call them."""
    used = finished_trials(trials, notes)
    if tuned is None:
        tuned = ["lr", *(name for name in trials.attrs.get("tuned", ()) if name in trials)]
    tuned = [column_of(used, name) for name in tuned]
    if group_by is None:
        names = group_columns_of(trials, used, tuned)
    else:
        names = [column_of(used, name) for name in group_by]
    used = one_trial_per_seed(used, names, notes, tuned)
    # pandas copies attrs with every selection; the tags of all sweeps are not needed there
    used.attrs = {key: used.attrs[key] for key in ("left_out",) if key in used.attrs}
    return used, names, tuned


def _rows_of(trials: pd.DataFrame, group: Group) -> pd.DataFrame:
    same = [trials[name].to_numpy(object) == value for name, value in group.items()]
    return trials[np.logical_and.reduce(same)] if same else trials


def about_of(trials: pd.DataFrame) -> str:
    """What the newest sweep of the study says that its report is about."""
    sweeps = trials.attrs.get("sweeps") or [{}]
    return sweeps[0].get(REPORT, BATCH_SIZES)


def _chosen_targets(
    trials: pd.DataFrame, cells: dict[tuple[Any, ...], list[Cell]], notes: list[str]
) -> list[float]:
    """The same levels for every group, so that groups can be compared."""
    floor, start = floor_of(trials), float(trials["initial_loss"].min())
    below = np.inf if np.isnan(start) else start - floor
    chosen = choose_targets([cell for of_group in cells.values() for cell in of_group], below)
    known = trials["irreducible_loss"].notna().all()
    targets = [target + floor for target in chosen if target > 0 or not known]
    if not targets:
        raise AnalysisError(
            "targets: the curves reach no common level (they hardly fall, or have one evaluation "
            "each); give targets=[...]"
        )
    notes.append(targets_sentence(targets))
    return targets
