"""Runs with curves as a table of final losses: what each ends with, at its budget's end."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from scaling.schema import DIVERGED

_BUDGET = ("budget.max_steps", "budget.max_examples")  # of our trials


def final_losses_of_runs(
    trials: pd.DataFrame, curves: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """The trials whose loss is final, each with its length and its last evaluation.

    trials, curves: as analysis.read.read_study reads them. Added columns: steps, examples (of the
    budget; of runs that name none, of the last evaluation), loss (infinite where the run diverged).
    What ended before its budget, without having diverged, is left out; `notes` gets a sentence.
    Diverged runs without a budget are left out, too: for which length they were is not known.
    Raises AnalysisError if none is left.
    """
    points = curves.dropna(subset="loss").sort_values("step", kind="stable")
    last = points.groupby("run_id")[["step", "loss"]].last()
    known = trials.drop(columns=[name for name in ("step", "loss") if name in trials])
    known = known.join(last, on="run_id")
    budget, diverged = _budget_steps(known), (known["outcome"] == DIVERGED).to_numpy()
    ended = known["step"].to_numpy(float)
    early = ~diverged & (ended < budget)
    lost = diverged & np.isnan(budget)
    for which, text in (
        (early, "Trials left out because they ended before their budget: their loss is not final"),
        (lost, "Diverged runs left out because it is not known how long they were to be"),
    ):
        if which.any():
            notes.append(f"{text}: {int(which.sum())}.")
    steps = np.where(np.isnan(budget), ended, budget)
    known["loss"] = np.where(diverged, np.inf, known["loss"])
    known = known.drop(columns="step").assign(
        steps=steps, examples=steps * known["batch_size"].to_numpy(float)
    )
    kept = known[~early & ~lost]
    if kept.empty:
        raise AnalysisError(
            "no trial was trained to the end of its budget; run the sweep to its end first"
        )
    return kept


def _budget_steps(trials: pd.DataFrame) -> np.ndarray:
    """Optimizer steps of each trial's budget, whichever limit comes first; NaN: none is known."""
    limits = [
        pd.to_numeric(trials[name], errors="coerce").to_numpy(float)
        if name in trials
        else np.full(len(trials), np.nan)
        for name in _BUDGET
    ]
    return np.fmin(limits[0], limits[1] // trials["batch_size"].to_numpy(float))
