"""What a reader of a study's numbers has to know: one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.fitting import FitResult
from scaling.schema import CENSORED, DIVERGED

_FINE_RATIO = 1.25  # in simulation, lr grids up to this ratio cost B_crit less than 5 %
NO_NORM = "Networks were not normalised."
_FEW_STEPS = 10  # a target reached in fewer steps is resolved badly


def group_label(group: Mapping[str, Any]) -> str:
    """ "task.dimension=64, optimizer.name=sgd: " or nothing."""
    named = ", ".join(f"{name}={value}" for name, value in group.items())
    return f"{named}: " if named else ""


def trial_caveats(cells: pd.DataFrame, exact: bool = False) -> list[str]:
    """Seeds, batch sizes, lr spacing and divergence of one group; cells of one of its targets."""
    found = []
    sizes, seeds = cells["batch_size"].nunique(), cells["n_seeds"]
    if sizes == 1:
        found.append("There is only one batch size, so nothing can be said about scaling.")
    if seeds.max() == 1:
        found.append(
            "Each cell has one seed: crossings of a single noisy curve scatter and can come early, "
            "and intervals come from the residuals of the fit."
        )
    elif seeds.min() < 3:
        found.append("Some cells have fewer than 3 seeds, so their intervals are approximate.")
    if seeds.min() != seeds.max():
        found.append(f"Cells have between {seeds.min()} and {seeds.max()} seeds.")
    n_lrs = cells.groupby("batch_size")["lr"].nunique()
    if n_lrs.min() != n_lrs.max():
        found.append(
            f"Batch sizes were tuned over {n_lrs.min()} to {n_lrs.max()} lrs; the least of more "
            "trials is lower, so give each batch size the same number."
        )
    ratio = _lr_ratio(cells)
    if ratio > _FINE_RATIO and not exact:  # the exact values say what this grid costs
        found.append(
            f"Tried lrs lie a factor {ratio:.2f} apart: against a continuous lr the critical batch "
            "size comes out low (by 6 to 10 % at a factor 1.41, by 17 to 22 % at 2)."
        )
    mixed = int(((cells["n_diverged"] > 0) & (cells["n_diverged"] < seeds)).sum())
    if mixed:
        found.append(
            f"In {mixed} of {len(cells)} cells only some seeds diverged; such a cell counts as "
            "diverged."
        )
    return found


def norm_caveats(trials: pd.DataFrame) -> list[str]:
    """Which normalisation the trials had, and from where its statistics came."""
    if "model.norm" not in trials:
        return []
    found = []
    for norm, rows in trials.groupby("model.norm"):
        if norm != "batch":
            found.append(f"Networks were normalised by {norm}." if norm == "group" else NO_NORM)
            continue
        ghost = "model.ghost_batch_size" in rows and rows["model.ghost_batch_size"].notna().all()
        of = "ghost batches of a stated size" if ghost else "the whole batch"
        how = (
            "recomputed on training examples before each evaluation"
            if rows["evaluation.recompute_statistics"].all()
            else "moving averages, which lag behind and make large batches look slow"
        )
        end = "" if ghost else ", so that the loss itself depends on the batch size"
        found.append(f"Batch normalisation is over {of}{end}; its statistics are {how}.")
    return found


def fit_caveats(fit: FitResult, frontier: pd.DataFrame) -> list[str]:
    """Points left out, what is not identified and what the fit hides; frontier rows of the fit."""
    found = []
    at = f"At target loss {fit.target_loss:.4g}"
    for outcome, why in (
        (CENSORED, "did not reach it within the trials' budget"),
        (DIVERGED, "diverged at every lr"),
    ):
        rows = frontier[frontier["outcome"] == outcome]
        if len(rows):
            found.append(f"{at}, {_sizes(rows)} {why}: left out of the fit.")
    rows = frontier[frontier["lr_at_edge"].astype(bool)]
    if len(rows):
        found.append(
            f"{at}, the best lr of {_sizes(rows)} is the smallest or largest that was tried, so "
            "it is marked and left out of the fit: extend the lrs there."
        )
    if not fit.identified:
        bound = ""
        if fit.at_least is not None:
            bound = f", it is at least {fit.at_least:,.0f}"
        if fit.at_most is not None:
            bound = f", it is at most {fit.at_most:,.0f}"
        found.append(f"{at}, the critical batch size is not identified{bound}: {fit.reason}.")
    if fit.identified and fit.min_steps is not None and fit.min_steps < _FEW_STEPS:
        found.append(
            f"{at}, the fewest steps are {fit.min_steps:.2g}: choose a lower target, so that they "
            f"are at least {_FEW_STEPS}."
        )
    if fit.preferred_form not in (None, "hyperbola"):
        form = next(form for form in fit.forms if form["form"] == fit.preferred_form)
        value = form["critical_batch_size"]
        says = "which has no critical batch size" if value is None else f"B_crit {value:.3g} there"
        found.append(f"{at}, the data prefer the form {fit.preferred_form} (AICc; {says}).")
    return found


def recommendation_caveats(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Recommended batch sizes beyond the sampled ones."""
    return [
        f"At target loss {row['target_loss']:.4g}, the {row['name']} batch size "
        f"{row['batch_size']} lies outside the sampled batch sizes: its steps are extrapolated, "
        "and its lr is that of the nearest one."
        for row in rows
        if row["extrapolated"]
    ]


def _lr_ratio(cells: pd.DataFrame) -> float:
    """Largest over batch sizes of the median ratio between neighbouring lrs; 1 with single lrs."""
    lrs = [np.unique(rows["lr"]) for _, rows in cells.groupby("batch_size")]
    return max((float(np.median(lr[1:] / lr[:-1])) for lr in lrs if len(lr) > 1), default=1.0)


def _sizes(rows: pd.DataFrame) -> str:
    sizes = ", ".join(str(size) for size in rows["batch_size"])
    return f"batch size {sizes}" if len(rows) == 1 else f"batch sizes {sizes}"
