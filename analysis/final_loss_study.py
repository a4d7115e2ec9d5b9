"""Final losses, one a run, through the whole chain: of a table, or of a study's trials."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.caveats import norm_caveats
from analysis.errors import AnalysisError
from analysis.fit.fitting import LIKELIHOOD
from analysis.group_statistics import Measured, Settings, begin_theory, group_statistics
from analysis.groups import column_of, listed, prefixed
from analysis.measure.final_loss_frontier import (
    below_optimum_caveat,
    final_loss_cells,
    final_loss_draws,
    final_loss_frontier,
)
from analysis.measure.final_losses import SizeLosses, size_losses
from analysis.measure.loss_levels import choose_levels, levels_sentence, read_at
from analysis.measure.step_time import NO_CURVES, probe_frame, trial_step_seconds
from analysis.read.final_losses import tidy_final_losses
from analysis.read.final_runs import final_losses_of_runs
from analysis.read.selection import (
    finished_trials,
    floor_of,
    group_columns_of,
    one_trial_per_seed,
)
from analysis.result import StudyResult, study_result
from analysis.study import Group, Statistics
from analysis.words import Units
from scaling.schema import DIVERGED, FINAL_LOSSES, TARGETS, UNIT, UNITS_PER_EXAMPLE

_ONE_LOSS = (
    "Each run has one loss, at the end of its own schedule: steps to a target are those after which"
    " a run made for that length ends at it. A longer run has a higher loss at those steps, for its"
    " learning rate has not decayed there."
)


class _OfGroup(NamedTuple):
    group: Group
    trials: pd.DataFrame
    sizes: list[SizeLosses]
    rng: np.random.Generator


def analyse_final_losses(
    table: pd.DataFrame,
    *,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    study: str | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    fit_objective: str = LIKELIHOOD,
    jointly: bool = False,
) -> StudyResult:
    """A table of final losses in, the study's statistics out; see analysis.measure.final_losses.

    table: as analysis.read_final_losses_csv gives it, or a frame with its columns. At each batch
    size the least loss over lr at each length D gives L_B(D); where it reaches a target is E(B),
    and S(B) = E(B)/B. targets: losses, default three that most batch sizes reach. The others: as in
    analysis.analyse. Raises AnalysisError if nothing can be said.

    >>> rows = [(size, steps, 1 + (64 + size) / (size * steps) * 10)
    ...         for size in (8, 32, 128, 512) for steps in (10, 20, 40, 80, 160, 320)]
    >>> table = pd.DataFrame(rows, columns=["batch_size", "steps", "loss"]).assign(lr=0.1)
    >>> result = analyse_final_losses(table, targets=[1.5], n_bootstrap=10)
    >>> round(result.fits[0].critical_batch_size)
    64
    """
    if "tokens_per_example" not in table.attrs:
        table = tidy_final_losses(table, group_by=group_by)
    names = [
        column_of(table, n) for n in (table.attrs["group_by"] if group_by is None else group_by)
    ]
    trials = _trials(table, study or str(table.attrs["study"]))
    settings = Settings(n_bootstrap, seed, fit_objective, ("lr",), jointly, with_theory=False)
    result = _analysed(trials, names, targets, settings, _notes(table))
    result.trials.attrs["left_out"] = table.attrs["left_out"]
    return result


def analyse_final_runs(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    fit_objective: str = LIKELIHOOD,
    jointly: bool = False,
) -> StudyResult:
    """The same of runs with curves, of which each counts by its last evaluation alone.

    trials, curves: as analysis.read_study reads them (a trial that ended before its budget does not
    count), or read_mlflow, tidy_curves, read_folder. targets: default those recorded with the
    trials that some batch size reaches, else chosen. Raises AnalysisError if nothing can be said.

    >>> rows = [(f"{size}x{n}", size, step, 1 + (64 + size) / (size * n) * (10 * n / step))
    ...         for size in (8, 32, 128, 512) for n in (10, 20, 40, 80, 160, 320)
    ...         for step in (n / 2, n)]
    >>> frame = pd.DataFrame(rows, columns=["run_id", "batch_size", "step", "loss"]).assign(lr=0.1)
    >>> from analysis.read.curves import tidy_curves
    >>> result = analyse_final_runs(*tidy_curves(frame), targets=[1.5], n_bootstrap=10)
    >>> round(result.fits[0].critical_batch_size)
    64
    """
    notes: list[str] = []
    used = finished_trials(trials, notes)
    if group_by is None:
        names = group_columns_of(trials, used)
    else:
        names = [column_of(used, name) for name in group_by]
    used = final_losses_of_runs(used, curves, notes)
    used = one_trial_per_seed(_numbered_seeds(used, names), names, notes, ("lr", "steps"))
    used.attrs = {}
    if used.groupby([*names, "batch_size"])["steps"].nunique().max() < 2:
        raise AnalysisError(
            "every batch size was trained to one length only; sweep the budget as well, such as "
            "budget.max_steps=null budget.max_examples=1000,4000,16000"
        )
    settings = Settings(n_bootstrap, seed, fit_objective, ("lr",), jointly, with_theory=False)
    norms = norm_caveats(used)
    result = _analysed(
        used, names, targets, settings, [_ONE_LOSS, *notes], norms=norms, about=FINAL_LOSSES
    )
    result.trials.attrs |= trials.attrs
    return result


def _numbered_seeds(trials: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Where no two lengths share a seed, the numbers were made up: anew for each length."""
    keys = [name for name in names if name in trials] + ["batch_size", "lr"]
    if trials.duplicated([*keys, "seed"]).any():
        return trials
    numbers = trials.groupby([*keys, "steps"], dropna=False, sort=False).cumcount()
    return trials.assign(seed=numbers)


def _analysed(
    trials: pd.DataFrame,
    names: list[str],
    targets: Sequence[float] | None,
    settings: Settings,
    notes: list[str],
    **given: Any,
) -> StudyResult:
    """trials: with steps (their length), loss and outcome. given: of study_result."""
    groups = list(_groups(trials, names, settings))
    if not any(part.sizes for part in groups):
        raise AnalysisError("all runs of the table diverged; add runs of smaller lr")
    levels = _levels(groups, targets, notes)
    parts = []
    for part, own in zip(groups, levels, strict=True):
        if own and part.sizes:
            parts.append(_statistics(part, own, settings))
        else:
            notes.append(prefixed(part.group, "left out: it reaches no common loss."))
    reached = [part.frontier["steps"].notna().any() for part in parts]
    if targets is not None and not any(reached):
        losses = np.concatenate([size.loss for part in groups for size in part.sizes])
        named = ", ".join(f"{target:g}" for target in levels[0])
        raise AnalysisError(
            f"targets=[{named}]: no batch size gets there between its shortest and its longest "
            f"runs, which end with losses from {losses.min():.4g} to {losses.max():.4g}"
        )
    if not parts:
        raise AnalysisError(
            "targets: no loss lies between the shortest and the longest runs of any batch size; "
            "give targets=[...], or add longer runs"
        )
    return study_result(parts, trials, trials, NO_CURVES, names, settings, notes=notes, **given)


def _levels(
    groups: Sequence[_OfGroup], targets: Sequence[float] | None, notes: list[str]
) -> list[list[float]]:
    """The targets of each group, largest first: those named, else those recorded with its trials
    that some batch size reaches, else chosen for all groups."""
    if targets is not None:
        return [sorted({float(target) for target in targets}, reverse=True)] * len(groups)
    recorded = [_recorded(part, notes) for part in groups]
    if any(recorded):
        return recorded
    chosen = choose_levels([part.sizes for part in groups])
    notes.append(levels_sentence([own for own in chosen if own] or [[]]))
    return chosen


def _recorded(part: _OfGroup, notes: list[str]) -> list[float]:
    targets = sorted({t for of_trial in part.trials[TARGETS] for t in of_trial}, reverse=True)
    reached = [t for t in targets if any(read_at(losses, t) for losses in part.sizes)]
    if len(reached) < len(targets):
        missed = listed([f"{t:.4g}" for t in targets if t not in reached])
        text = f"No batch size ends at {missed} between its shortest and its longest runs."
        notes.append(prefixed(part.group, text))
    return reached


def check_tuned(tuned: Sequence[str]) -> None:
    """Refuse what a table of final losses is not minimised over."""
    if others := [name for name in tuned if name != "lr"]:
        raise AnalysisError(
            f"tuned: {others[0]} cannot be tuned in a table of final losses, only lr; keep the "
            "rows of its best value, or tell its values apart with group_by=[...]"
        )


def _notes(table: pd.DataFrame) -> list[str]:
    holds = Units.of(_with_units(table)).sentence
    return [_ONE_LOSS, holds] if holds else [_ONE_LOSS]


def _with_units(table: pd.DataFrame) -> pd.DataFrame:
    """With the columns by which the report tells tokens, where the table counts them."""
    per_example = table.attrs["tokens_per_example"]
    return (
        table.assign(**{UNIT: "tokens", UNITS_PER_EXAMPLE: per_example}) if per_example else table
    )


def _groups(trials: pd.DataFrame, names: list[str], settings: Settings) -> Iterator[_OfGroup]:
    keyed: Any = trials.groupby(names, dropna=False, sort=True) if names else [((), trials)]
    for index, (key, rows) in enumerate(keyed):
        rng = np.random.default_rng([settings.seed, index])
        sizes = list(_sizes(rows, settings, rng))
        yield _OfGroup(dict(zip(names, key, strict=True)), rows, sizes, rng)


def _sizes(
    rows: pd.DataFrame, settings: Settings, rng: np.random.Generator
) -> Iterator[SizeLosses]:
    """Each batch size with its own random stream, unless its seeds are resampled jointly."""
    of_size = rows.groupby("batch_size", sort=True)
    seeds = np.unique(rows["seed"]) if settings.jointly else None
    children = rng.spawn(len(of_size))
    if settings.jointly:
        children = [copy.deepcopy(children[0]) for _ in children]
    for (_, runs), child in zip(of_size, children, strict=True):
        losses = size_losses(runs, settings.n_bootstrap, child, seeds)
        if losses is not None:
            yield losses


def _statistics(part: _OfGroup, targets: list[float], settings: Settings) -> Statistics:
    floor = floor_of(part.trials)
    levels = [target - floor for target in targets]
    draws = {losses.batch_size: final_loss_draws(losses, levels, floor) for losses in part.sizes}
    measured = Measured(
        final_loss_cells(part.sizes, targets, part.group, floor),
        draws,
        final_loss_frontier(part.sizes, draws, targets, part.group, floor),
        given=False,
        of_final_losses=True,
    )
    trials = part.trials.assign(step_seconds=trial_step_seconds(part.trials, NO_CURVES))
    statistics = group_statistics(
        part.group, trials, measured, [], targets, part.rng, settings, probe_frame(()),
        begin_theory(trials, [], targets, settings),
    )  # fmt: skip
    for target in targets:
        of_target = measured.frontier[measured.frontier["target_loss"] == target]
        if caveat := below_optimum_caveat(of_target):
            statistics.caveats.append((part.group, caveat))
    statistics.measured = [
        replace(of_group, final_losses=part.sizes) for of_group in statistics.measured
    ]
    return statistics


def _trials(table: pd.DataFrame, study: str) -> pd.DataFrame:
    """The table's rows as trials, for what the report says about them."""
    width = len(str(len(table)))
    number = pd.Series(range(1, len(table) + 1), table.index).astype(str).str.zfill(width)
    unknown = {
        name: np.nan
        for name in ("model_size", "irreducible_loss", "initial_loss", "seconds")
        if name not in table
    }
    outcome = table["outcome"].astype(object).where(table["outcome"] == DIVERGED, None)
    frame = _with_units(table).drop(columns="examples").assign(
        run_id="row" + number, trial_id="row" + number, sweep="", study=study, status="FINISHED",
        outcome=outcome, last_step=table["steps"], **unknown,
    )  # fmt: skip
    frame[TARGETS] = [()] * len(frame)
    frame.attrs = {"left_out": [], "sweeps": []}
    return frame
