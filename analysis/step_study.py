"""A table of steps to target (published, or somebody's) through the whole chain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.fit.fitting import LIKELIHOOD
from analysis.group_statistics import (
    Settings,
    begin_theory,
    group_statistics,
    measured_frontier,
)
from analysis.groups import column_of
from analysis.measure.step_tables import (
    TableGroup,
    coded,
    complete_table,
    decoded,
    decoded_draws,
    table_groups,
)
from analysis.measure.step_time import NO_CURVES, probe_frame, trial_step_seconds
from analysis.read.steps import NO_TARGET, tidy_steps
from analysis.result import StudyResult, study_result
from analysis.study import Statistics
from scaling.schema import CENSORED, DIVERGED, REACHED, TARGETS


def analyse_steps(
    table: pd.DataFrame,
    *,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    study: str | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    fit_objective: str = LIKELIHOOD,
    jointly: bool = False,
) -> StudyResult:
    """A table of steps to target in, the study's statistics out: no curves, no exact theory.

    table: as analysis.read_steps_csv gives it, or a frame with its columns. targets: those of its
    target losses to take, default all. The others: as in analysis.analyse. Raises AnalysisError
    if nothing can be said.

    >>> table = pd.DataFrame({"batch_size": [8, 32, 128, 512, 2048],
    ...                       "steps": [461, 146, 65.6, 46.8, 41.5]})
    >>> result = analyse_steps(table, n_bootstrap=10)
    >>> round(result.fits[0].critical_batch_size)
    84
    """
    if "group_by" not in table.attrs:
        table = tidy_steps(table, group_by=group_by, tuned=tuned)
    study = study or str(table.attrs.get("study", "steps"))
    left_out = table.attrs.get("left_out", [])
    names = [
        column_of(table, n) for n in (table.attrs["group_by"] if group_by is None else group_by)
    ]
    others = [name for name in (column_of(table, n) for n in tuned) if name in table]
    others = [name for name in others if name != "lr"]
    notes = [] if (table["target_loss"] != NO_TARGET).any() else [_NO_TARGET_NAMED]
    table = _of_targets(table, targets)
    _check_reached(table)
    table, codes = coded(table, others)
    settings = Settings(
        n_bootstrap, seed, fit_objective, ("lr", *others), jointly, with_theory=False
    )
    parts = [
        _statistics(part, codes, study, settings)
        for part in table_groups(table, names, n_bootstrap=n_bootstrap, seed=seed, jointly=jointly)
    ]
    trials = _trials(decoded(complete_table(table), codes), study)
    trials.attrs["left_out"] = left_out
    return study_result(parts, trials, trials, NO_CURVES, names, settings, notes=notes)


def _statistics(
    part: TableGroup, codes: pd.DataFrame | None, study: str, settings: Settings
) -> Statistics:
    """Of one group; codes: what its lrs stand for, see analysis.measure.step_tables."""
    draws = decoded_draws(part.draws, part.rows, codes)
    cells = decoded(part.cells, codes)
    measured = measured_frontier(cells, draws, part.targets, part.group, tuned=settings.tuned)
    trials = _trials(part.rows, study)
    trials = trials.assign(step_seconds=trial_step_seconds(trials, NO_CURVES))
    return group_statistics(
        part.group, trials, measured, [], part.targets, part.rng, settings, probe_frame(()),
        begin_theory(trials, [], part.targets, settings),
    )  # fmt: skip


_NO_TARGET_NAMED = (
    "The table has no target loss (column target_loss), so its only target is shown as 0."
)


def _of_targets(table: pd.DataFrame, targets: Sequence[float] | None) -> pd.DataFrame:
    if targets is None:
        return table
    wanted = sorted({float(target) for target in targets}, reverse=True)
    known = sorted(set(table["target_loss"]), reverse=True)
    for target in wanted:
        if target not in known:
            listed = ", ".join(f"{value:g}" for value in known)
            raise AnalysisError(
                f"targets: the table has no target_loss {target:g}; it has {listed}"
            )
    return table[table["target_loss"].isin(wanted)].reset_index(drop=True)


def _check_reached(table: pd.DataFrame) -> None:
    if (table["outcome"] != REACHED).all():
        states = table["outcome"].value_counts()
        counts = ", ".join(f"{n} {outcome}" for outcome, n in states.sort_index().items())
        raise AnalysisError(
            f"no row of the table reached its target ({counts}); train longer, or choose easier "
            f"targets"
        )


def _trials(table: pd.DataFrame, study: str) -> pd.DataFrame:
    """The table's rows as trials, for what the report says about them."""
    number = pd.Series(range(1, len(table) + 1), table.index).astype(str)
    width = len(str(len(table)))
    unknown = {
        name: np.nan
        for name in ("model_size", "irreducible_loss", "initial_loss", "seconds")
        if name not in table
    }
    outcome = table["outcome"].where(table["outcome"].isin((CENSORED, DIVERGED)), REACHED)
    last = table["steps"].fillna(0.0)
    frame = table.drop(columns=["steps", "steps_lower", "steps_upper"], errors="ignore").assign(
        run_id="row" + number.str.zfill(width), sweep="", study=study, status="FINISHED",
        outcome=outcome, last_step=last, **unknown,
    )  # fmt: skip
    frame["trial_id"] = frame["run_id"]
    frame[TARGETS] = [(target,) for target in table["target_loss"]]
    frame.attrs |= {"left_out": [], "sweeps": []}
    return frame
