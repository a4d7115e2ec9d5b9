"""L2 penalty against decoupled weight decay: how far apart their weights are along the run.

The penalty lambda~ |w|^2 (weight_decay of sgd, momentum, rmsprop, adam is 2 lambda~) and the decay
w <- (1 - lambda) w (weight_decay of sgdw, momentumw, rmspropw, adamw is lambda/lr) are compared
where lambda = 2 lr lambda~, that is at equal weight_decay, and under momentum mu also where
lambda = 2 lr lambda~/(1 - mu). Source: Loshchilov & Hutter 2019, arXiv:1711.05101, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.read.selection import question_params
from analysis.study import Study
from analysis.topics.topic import Finding, Frames, Part, Topic

EQUAL, WITH_MOMENTUM = "2 lr λ~", "2 lr λ~/(1 - μ)"  # the decoupled lambda of a pair
PAIR = ["optimizer", "decay", "weight_decay", "batch_size", "lr", "seed"]
COLUMNS = [*PAIR, "step", "gap"]
_DECOUPLED = {"sgd": "sgdw", "momentum": "momentumw", "rmsprop": "rmspropw", "adam": "adamw"}
_NAME, _AMOUNT, _MU = "optimizer.name", "optimizer.weight_decay", "optimizer.momentum"


def weight_decay_gaps(study: Study) -> pd.DataFrame:
    """COLUMNS: |w - w'| / max |w| at every common evaluation of a pair of trials.

    w has the penalty, w' decays apart; the pair is alike in every other param, batch size, lr and
    seed, and so in its batches; max over the run of w. weight_decay: of w. decay: EQUAL or
    WITH_MOMENTUM, the latter without momentum the same pair as the former. Only trials whose
    weights are recorded (weight_1, ..); no rows where there is no pair.
    """
    weights = [name for name in study.curves if str(name).startswith("weight_")]
    empty = pd.DataFrame(columns=COLUMNS)
    if not weights or not {_NAME, _AMOUNT} <= set(study.trials):
        return empty
    paths = {
        str(run): rows.set_index("step")[weights]
        for run, rows in study.curves.dropna(subset=weights).groupby("run_id")
    }
    same = [name for name in question_params(study.trials) if name not in (_NAME, _AMOUNT)]
    same = [name for name in same if study.trials[name].map(str).nunique() > 1]
    of_name = {str(name): rows for name, rows in study.trials.groupby(_NAME)}
    frames = []
    for name, other in _DECOUPLED.items():
        for _, trial in of_name.get(name, study.trials.iloc[:0]).iterrows():
            partners = of_name.get(other, study.trials.iloc[:0])
            for key in ("batch_size", "lr", "seed", *same):
                partners = partners[partners[key].map(str) == str(trial[key])]
            frames += _of_pairs(trial, partners, paths)
    return pd.concat(frames, ignore_index=True) if frames else empty


def _of_pairs(
    one: pd.Series, partners: pd.DataFrame, paths: dict[str, pd.DataFrame]
) -> list[pd.DataFrame]:
    mu = one.get(_MU, np.nan)
    factors = {EQUAL: 1.0, WITH_MOMENTUM: 1.0 if pd.isna(mu) else 1 - float(mu)}
    frames = []
    for decay, factor in factors.items():
        fitting = np.isclose(partners[_AMOUNT].astype(float) * factor, one[_AMOUNT], rtol=1e-9)
        for _, other in partners[fitting].iterrows():
            if one["run_id"] in paths and other["run_id"] in paths and one[_AMOUNT] > 0:
                gap = _gap(paths[one["run_id"]], paths[other["run_id"]])
                values = (
                    one[_NAME],
                    decay,
                    one[_AMOUNT],
                    one["batch_size"],
                    one["lr"],
                    one["seed"],
                )
                pair: dict[str, Any] = dict(zip(PAIR, values, strict=True))
                frames.append(gap.assign(**pair)[COLUMNS])
    return frames


def _gap(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """step, gap of two paths [evaluations, D] by step."""
    steps = one.index.intersection(other.index)
    apart = np.linalg.norm(one.loc[steps].to_numpy() - other.loc[steps].to_numpy(), axis=1)
    longest = np.linalg.norm(one.to_numpy(), axis=1).max()
    return pd.DataFrame({"step": steps, "gap": apart / longest})


def gap_findings(
    study: Study, frames: Frames, decay: str, which: Literal["max", "last"]
) -> Sequence[Finding]:
    """Of each pair its greatest gap along the run, or the one at the last evaluation.

    Raises AnalysisError where there is no such pair.
    """
    gaps = weight_decay_gaps(study)
    gaps = gaps[gaps["decay"] == decay].sort_values("step")
    if gaps.empty:
        needed = "a trial with a penalty and one with decoupled decay that are alike otherwise"
        raise AnalysisError(f"it needs {needed}, with their weights recorded")
    gap_of = gaps.groupby(PAIR)["gap"].agg(which)  # in the order of PAIR's values
    one_seed, one_lr = gaps["seed"].nunique() == 1, gaps["lr"].nunique() == 1
    findings = []
    for (optimizer, _, amount, size, lr, seed), gap in gap_of.items():  # pyright: ignore[reportGeneralTypeIssues]
        what = f"{optimizer}, weight_decay {amount:g}, batch size {size}"
        what += "" if one_lr else f", lr {lr:g}"
        what += "" if one_seed else f", seed {seed}"
        findings.append(Finding(what, float(gap)))
    return findings


def drawings(part: Part) -> Iterator[Drawing]:
    """Nothing where no two trials differ in how their weights decay."""
    gaps = part.frames.get("weight_decay_gaps")
    if gaps is None or not (gaps["gap"] > 0).any():
        return
    largest = int(gaps["batch_size"].max())
    yield Drawing(
        "weight_decay_gap",
        f"L2 penalty against decoupled weight decay, batch size {largest:,}",
        "Distance between the weights of two trials that see the same batches, one with the "
        "penalty λ~|w|², one with w ← (1 - λ)w, over the greatest length of the former. A line "
        "per pair. With sgd only rounding remains; with momentum and 1/(1 - μ) the paths differ, "
        "but not where they end. Gaps of 0 are left out.",
        partial(plot_weight_decay_gap, gaps[gaps["batch_size"] == largest]),
        "weight_decay_gaps",
        gaps,
    )


def plot_weight_decay_gap(gaps: pd.DataFrame) -> Figure:
    """gaps: weight_decay_gaps of one batch size."""
    moved = gaps[(gaps["decay"] == WITH_MOMENTUM) & (gaps["optimizer"] == "momentum")]
    shown = pd.concat([gaps[gaps["decay"] == EQUAL], moved])
    shown = shown[(shown["gap"] > 0) & (shown["step"] > 0)]
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        kinds = list(shown.groupby(["optimizer", "decay"], sort=False))
        colors = style.target_colors(len(kinds))
        for i, (((optimizer, decay), rows), color) in enumerate(zip(kinds, colors, strict=True)):
            label = f"{optimizer}, λ = {decay}"
            for _, pair in rows.groupby(PAIR):
                ax.plot(
                    pair["step"], pair["gap"], color=color, lw=1.2, label=label,
                    ls=style.LINES[i % len(style.LINES)],
                )  # fmt: skip
                label = None
        style.log_axis(ax, "x", "steps (optimizer updates)")
        ax.set_yscale("log")
        ax.set_ylabel("distance of the weights / greatest length")
        style.legend_below(figure, ax, 2)
    return figure


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    gaps = weight_decay_gaps(study)
    return {"weight_decay_gaps": gaps} if len(gaps) else {}


TOPIC = Topic(
    "weight_decay",
    frames=_frames,
    drawings=drawings,
    quantities={
        "weight_decay_path_gap": partial(gap_findings, decay=EQUAL, which="max"),
        "weight_decay_last_gap": partial(gap_findings, decay=EQUAL, which="last"),
        "weight_decay_fixed_point_gap": partial(gap_findings, decay=WITH_MOMENTUM, which="last"),
    },
)
