"""A table of steps to target (published, or somebody's own) through the whole chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.fit.fitting import LIKELIHOOD
from analysis.group_statistics import Settings, group_statistics, measured_frontier
from analysis.groups import column_of
from analysis.measure.bootstrap import FrontierDraws
from analysis.measure.step_tables import complete_table, draw_table, group_tables, table_cells
from analysis.measure.step_time import probe_frame, trial_step_seconds
from analysis.read.steps import NO_TARGET, tidy_steps
from analysis.result import StudyResult, study_result
from scaling.schema import CENSORED, DIVERGED, REACHED, TARGETS

UNTIMED = pd.DataFrame(
    {name: pd.Series(dtype=float) for name in ("run_id", "step", "loss", "train_loss", "examples")}
).astype({"run_id": object})


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
    tuned = [column_of(table, name) for name in tuned]
    wanted_groups = table.attrs["group_by"] if group_by is None else group_by
    names = [column_of(table, name) for name in wanted_groups]
    notes = [] if (table["target_loss"] != NO_TARGET).any() else [_NO_TARGET_NAMED]
    table, wanted = _of_targets(table, targets)
    if (table["outcome"] != REACHED).all():
        states = table["outcome"].value_counts()
        counts = ", ".join(f"{n} {outcome}" for outcome, n in states.sort_index().items())
        raise AnalysisError(
            f"no row of the table reached its target ({counts}); train longer, or name easier ones"
        )
    others = [name for name in tuned if name != "lr" and name in table]
    coded, settings = _coded(table, others)
    asked = Settings(n_bootstrap, seed, fit_objective, ("lr", *others), jointly, with_theory=False)
    parts = []
    for index, (group, own) in enumerate(group_tables(complete_table(coded), names)):
        of_group = [target for target in wanted if target in set(own["target_loss"])]
        rng = np.random.default_rng([seed, index])
        draws = _decoded_draws(
            draw_table(own, of_group, n_bootstrap, rng, jointly=jointly), own, settings
        )
        rows = _decoded(table_cells(own, names), settings)
        measured = measured_frontier(rows, draws, of_group, dict(group), tuned=("lr", *others))
        trials = _trials(own, study or str(table.attrs.get("study", "steps")))
        trials = trials.assign(step_seconds=trial_step_seconds(trials, UNTIMED))
        parts.append(
            group_statistics(
                dict(group), trials, measured, [], of_group, rng, asked, probe_frame(())
            )
        )
    everything = _trials(_decoded(complete_table(coded), settings), study or table.attrs["study"])
    everything.attrs["left_out"] = table.attrs.get("left_out", [])
    return study_result(parts, everything, everything, UNTIMED, names, asked, notes=notes)


_NO_TARGET_NAMED = (
    "The table names no target loss: its one target stands as 0 here. Name the column with "
    "source.columns.target_loss=..."
)


def _of_targets(
    table: pd.DataFrame, targets: Sequence[float] | None
) -> tuple[pd.DataFrame, list[float]]:
    there = sorted(set(table["target_loss"]), reverse=True)
    if targets is None:
        return table, there
    wanted = sorted({float(target) for target in targets}, reverse=True)
    for target in wanted:
        if target not in there:
            listed = ", ".join(f"{value:g}" for value in there)
            raise AnalysisError(
                f"targets: the table has no target_loss {target:g}; it has {listed}"
            )
    attrs = table.attrs
    table = table[table["target_loss"].isin(wanted)].reset_index(drop=True)
    table.attrs |= attrs
    return table, wanted


def _coded(table: pd.DataFrame, others: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """With further tuned columns, a number for each setting in place of lr, and the settings."""
    if not others:
        return table, None
    keys = [*(["lr"] if "lr" in table else []), *others]
    codes = 1.0 + table.groupby(keys, dropna=False, sort=True).ngroup()
    settings = table.assign(code=codes)[["code", *keys]].drop_duplicates("code").set_index("code")
    if "lr" not in settings:
        settings.insert(0, "lr", np.nan)
    return table.drop(columns=others).assign(lr=codes), settings


def _decoded(frame: pd.DataFrame, settings: pd.DataFrame | None) -> pd.DataFrame:
    if settings is None:
        return frame
    found = settings.loc[frame["lr"]].reset_index(drop=True)
    frame = frame.reset_index(drop=True)
    place = list(frame.columns).index("lr")
    return pd.concat([frame.iloc[:, :place], found, frame.iloc[:, place + 1 :]], axis=1)


def _decoded_draws(
    draws: dict[int, FrontierDraws], table: pd.DataFrame, settings: pd.DataFrame | None
) -> dict[int, FrontierDraws]:
    """With the lr of the best setting in place of its number."""
    if settings is None:
        return draws
    found = {}
    for size, drawn in draws.items():
        codes = sorted(table.loc[table["batch_size"] == size, "lr"].unique())
        lrs = settings.loc[codes, "lr"].to_numpy(float)
        best = np.where(drawn.best >= 0, lrs[drawn.best], np.nan)
        found[size] = replace(drawn, lr=best, lrs=lrs)
    return found


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
