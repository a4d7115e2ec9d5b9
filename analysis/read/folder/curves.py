"""The evaluations of a run of a folder: which metric is the loss, and at which steps it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.read.folder.recorded import CLOCKS, TIME, Given, Recorded
from analysis.read.logged import abandoned
from analysis.read.names import suggestion

Floats = NDArray[np.float64]
_HELD_OUT = ("val", "valid", "validation", "eval", "test", "heldout", "dev")


@dataclass(frozen=True)
class Metrics:
    """loss: the metric that is the held-out loss; more: ours -> theirs, train_loss and accuracy;
    clocks: ours -> theirs, metrics that count step or examples."""

    loss: str
    more: Mapping[str, str]
    clocks: Mapping[str, str]


def choose_metrics(
    path: Path, known: Sequence[str], usual: Sequence[str], columns: Mapping[str, str]
) -> Metrics:
    """known: all metrics; usual: the format's names of held-out losses."""
    for ours in ("loss", "train_loss", "accuracy"):
        if ours in columns and columns[ours] not in known:
            raise AnalysisError(
                f"source.columns.{ours}={columns[ours]}: no run of {path} has a metric of this name"
                f"{suggestion(columns[ours], known)}"
            )
    loss = columns.get("loss") or _held_out(path, known, usual)
    more = {ours: columns[ours] for ours in ("train_loss", "accuracy") if ours in columns}
    training = [name for name in known if _bare(name) in ("trainloss", "losstrain")]
    if len(training) == 1 and training[0] != loss:
        more.setdefault("train_loss", training[0])
    clocks = {ours: columns[ours] for ours in ("step", "examples") if ours in columns}
    for ours, theirs in clocks.items():
        if theirs not in known:
            raise AnalysisError(
                f"source.columns.{ours}={theirs}: no run of {path} has a metric of this name"
                f"{suggestion(theirs, known)}"
            )
    return Metrics(loss, more, clocks)


def _held_out(path: Path, known: Sequence[str], usual: Sequence[str]) -> str:
    for name in usual:
        if name in known:
            return name
    forms = {form for word in _HELD_OUT for form in (f"{word}loss", f"loss{word}")}
    called = [name for name in known if _bare(name) in forms]
    if len(called) == 1:
        return called[0]
    metrics = [name for name in known if name not in (*CLOCKS, TIME)]
    problem = f"which of {', '.join(called)}" if called else "which metric"
    raise AnalysisError(
        f"source.columns.loss: {problem} is the held-out loss in {path}? "
        f"There are {', '.join(metrics[:20]) or 'none'}; name it with source.columns.loss=..."
    )


def _bare(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def curves_of(
    runs: Mapping[str, Sequence[Recorded]],
    metrics: Metrics,
    batch_sizes: Mapping[str, float],
    given: Given,
    repeats: bool,
) -> pd.DataFrame:
    """run_id, step, loss, and what else of `metrics` was logged there.

    runs: what each file says of each. Points that a run gave up when it was resumed do not count
    (see logged.abandoned); of a step that was logged twice the newer value does.
    """
    names = list(runs)
    files = [[one for one in runs[name] if len(one)] for name in names]
    if repeats:
        files = [[max(of, key=lambda one: np.nanmax(one.columns["step"]))] for of in files]
    rows = [_rows(i, one, metrics) for i, of in enumerate(files) for one in of]
    points = pd.concat(rows, ignore_index=True)
    curve = _newest(points[points["loss"].notna()], files, metrics.loss)
    for ours in metrics.more:
        known = points[["run", "clock", ours]].dropna()
        known = known.drop_duplicates(["run", "clock"], keep="last")
        curve = curve.drop(columns=ours).merge(known, how="left", on=["run", "clock"])
    sizes = np.array([batch_sizes[name] for name in names])[curve["run"]]
    curve["step"] = _steps(curve, sizes, given, files)
    curve["run_id"] = np.array(names, object)[curve["run"]]
    return curve[["run_id", "step", "loss", *metrics.more]]


def _rows(run: int, one: Recorded, metrics: Metrics) -> pd.DataFrame:
    """Of one file; `kind`: which of CLOCKS `clock` is. Rows without a clock are left out."""
    columns, nothing = one.columns, np.full(len(one), np.nan)
    clock, kind = _clock(one, metrics)
    rows = {
        "run": np.full(len(one), run), "clock": clock, "kind": kind,
        TIME: columns.get(TIME, nothing), "loss": columns.get(metrics.loss, nothing),
        **{ours: columns.get(theirs, nothing) for ours, theirs in metrics.more.items()},
    }  # fmt: skip
    known = ~np.isnan(clock)
    return pd.DataFrame({name: column[known] for name, column in rows.items()})


def _clock(one: Recorded, metrics: Metrics) -> tuple[Floats, NDArray[np.int64]]:
    columns = one.columns
    clock, kind = np.full(len(one), np.nan), np.zeros(len(one), np.int64)
    for ours, theirs in metrics.clocks.items():
        counted = columns.get(theirs, clock)
        if "step" in columns:  # logged beside the loss, perhaps in a row of its own
            known = ~np.isnan(counted)
            beside = dict(zip(columns["step"][known], counted[known], strict=True))
            counted = np.array([beside.get(step, np.nan) for step in columns["step"]])
        return counted, np.full(len(one), CLOCKS.index(ours))
    for number, name in enumerate(CLOCKS):
        if name in columns:
            chosen = np.isnan(clock) & ~np.isnan(columns[name])
            clock[chosen], kind[chosen] = columns[name][chosen], number
    return clock, kind


def _newest(points: pd.DataFrame, files: Sequence[Sequence[Recorded]], loss: str) -> pd.DataFrame:
    points = points.reset_index(drop=True)
    untimed = points[TIME].isna().groupby(points["run"]).transform("any")
    _check_files(points[untimed], files, loss)
    points["order"] = points[TIME].where(~untimed, np.arange(len(points), dtype=float))
    gone = abandoned(points["run"], points["order"], points["clock"])
    points = points[~gone].sort_values("order", kind="stable")
    points = points.drop_duplicates(["run", "clock"], keep="last")
    return points.sort_values(["run", "clock"], ignore_index=True)


def _check_files(points: pd.DataFrame, files: Sequence[Sequence[Recorded]], loss: str) -> None:
    """Raise AnalysisError where several files say different things of a step, of unknown times."""
    several = np.array([len(of) > 1 for of in files])[points["run"]]
    known = points[several].drop_duplicates(["run", "clock", "loss"])
    twice = known[known.duplicated(["run", "clock"])]
    if len(twice):
        run, clock = int(twice["run"].iloc[0]), twice["clock"].iloc[0]
        names = " and ".join(one.file.path.name for one in files[run][:2])
        raise files[run][1].file.error(
            f"run {files[run][0].run} stands in {names} with different values of {loss} at "
            f"{clock:g}; keep one of the files"
        )


def _steps(
    curve: pd.DataFrame, sizes: Floats, given: Given, files: Sequence[Sequence[Recorded]]
) -> Floats:
    """Optimizer updates done."""
    clock, kind = curve["clock"].to_numpy(), np.array(CLOCKS)[curve["kind"]]
    steps = np.where(kind == "examples", clock / sizes, clock)
    of_epochs = kind == "epoch"
    if of_epochs.any():
        if given.examples_per_epoch is None:
            raise files[int(curve["run"][of_epochs].iloc[0])][0].file.error(
                "has epochs, but neither steps nor examples; say source.examples_per_epoch=..., "
                "the size of the training set"
            )
        steps = np.where(of_epochs, clock * np.ceil(given.examples_per_epoch / sizes), steps)
    return steps
