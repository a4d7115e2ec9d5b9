"""Which batch size should one use? Three named ones for every identified fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import Caveat
from analysis.fit.fit_result import FitResult
from analysis.groups import select
from analysis.measure.best_lr import lr_at
from analysis.measure.frontier import usable
from analysis.study import Group, Study
from analysis.topics.topic import Frames, Topic

FAST, FEWEST_STEPS = "fast", "fewest_steps"  # names of recommendations: by the clock, or by steps
RECOMMENDED = {"economical": 0.2, "balanced": 1.0, "fast": 5.0}  # times B_crit
RECOMMENDATION_COLUMNS = [
    "target_loss", "name", "batch_size", "steps", "steps_low", "steps_high", "examples",
    "examples_low", "examples_high", "lr", "lr_low", "lr_high", "extrapolated",
]  # fmt: skip


def recommend(
    fit: FitResult, frontier: pd.DataFrame, tuned: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Economical (B_crit/5), balanced (B_crit) and fast (5 B_crit) batch sizes of a fit.

    By the hyperbola they cost 20 % more examples than E_min, twice both minima, and 20 % more steps
    than S_min. Batch sizes are rounded to whole examples; steps and examples with 95 % intervals at
    that batch size are read from the points (FitResult.log_steps_at), not from the hyperbola, which
    is too high at the knee; lr from the frontier (lr_at), clamped where `extrapolated`; what else
    is tuned (columns of the frontier) at the nearest batch size. No rows for a fit that is not
    identified.
    """
    if fit.critical_batch_size is None:
        return []
    points = usable(frontier)
    rows = []
    for name, times in RECOMMENDED.items():
        size = max(1, round(times * fit.critical_batch_size))
        names = ("steps", "steps_low", "steps_high")
        steps = dict(zip(names, fit.steps_interval_at(size), strict=True))
        row: dict[str, Any] = {**fit.group, "target_loss": fit.target_loss, "name": name}
        row |= {"batch_size": size}
        row |= steps
        row |= {key.replace("steps", "examples"): size * row[key] for key in steps}
        lr = lr_at(points, size)
        row |= {"lr": lr.lr, "lr_low": lr.lr_low, "lr_high": lr.lr_high, "extrapolated": lr.clamped}
        nearest = (np.log(points["batch_size"]) - np.log(size)).abs().idxmin()
        row |= {name: points.loc[nearest, name] for name in tuned}
        rows.append(row)
    return rows


def timed_advice(
    advice: Sequence[Mapping[str, Any]],
    frontier: pd.DataFrame,
    choices: pd.DataFrame,
    tuned: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Recommendations of one group with the fast batch size by the clock.

    advice: rows of recommendations.recommend; frontier, choices: of the group. Where steps to the
    target were timed at two batch sizes or more, "fast" is the fastest measured one, with what was
    measured there; otherwise the row is called "fewest_steps": nothing else is known of it.
    """
    fastest = choices[(choices["name"] == "fastest") & (choices["n_timed"] > 1)]
    size_of = dict(zip(fastest["target_loss"], fastest["batch_size"], strict=True))
    rows = []
    for row in advice:
        if row["name"] == FAST:
            target = row["target_loss"]
            if target in size_of:
                of_target = frontier[frontier["target_loss"] == target]
                points = of_target.set_index("batch_size", drop=False)
                row = {**row, **_as_measured(points.loc[size_of[target]], tuned)}
            else:
                row = {**row, "name": FEWEST_STEPS}
        rows.append(dict(row))
    return rows


def _as_measured(point: pd.Series, tuned: Sequence[str]) -> dict[str, Any]:
    size = int(point["batch_size"])
    row: dict[str, Any] = {"batch_size": size, "extrapolated": False}
    row |= {name: point[name] for name in tuned}
    for end in ("", "_low", "_high"):
        row |= {f"steps{end}": float(point[f"steps{end}"]), f"lr{end}": float(point[f"lr{end}"])}
        row[f"examples{end}"] = size * row[f"steps{end}"]
    return row


def recommendation_caveats(
    rows: Iterable[Mapping[Any, Any]], fits: Sequence[FitResult]
) -> list[Caveat]:
    """Recommended batch sizes beyond those that the fit could use; fits: of the same group."""
    text = (
        "Outside the batch sizes that the fit could use, so that steps are extrapolated and the lr "
        "is that of the nearest one"
    )
    used = {fit.target_loss: fit.batch_sizes for fit in fits}
    return [
        Caveat(
            text,
            f"the {row['name'].replace('_', ' ')} batch size {row['batch_size']:,} "
            f"at target loss {row['target_loss']:.4g} "
            f"({min(used[row['target_loss']]):,} to {max(used[row['target_loss']]):,} were used)",
            "answer",
        )
        for row in rows
        if row["extrapolated"]
    ]


def caveats(study: Study, frames: Frames) -> list[tuple[Group | None, Caveat | str]]:
    every: list[tuple[Group | None, Caveat | str]] = []
    for group in study.groups:
        rows = select(frames["recommendations"], group).to_dict("records")
        of_group = recommendation_caveats(rows, study.fits_of(group))
        every += [(group, caveat) for caveat in of_group]
    return every


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    rows, tuned = [], study.tuned[1:]
    for group in study.groups:
        frontier = select(study.frontier, group)
        advice = []
        for fit in study.fits_of(group):
            advice += recommend(fit, study.frontier_of(fit), tuned)
        choices = select(earlier["batch_size_choices"], group)
        rows += timed_advice(advice, frontier, choices, tuned)
    columns = pd.Index([*study.group_by, *RECOMMENDATION_COLUMNS, *tuned])
    return {"recommendations": pd.DataFrame(rows, columns=columns)}


TOPIC = Topic("recommendations", frames=_frames, caveats=caveats)
