"""The evaluations of a run of a folder: which metric is the loss, and at which steps it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.folder.recorded import CLOCKS, TIME, Given, Recorded
from analysis.read.logged import abandoned
from analysis.read.names import suggestion

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


def curve_of(
    files: Sequence[Recorded], metrics: Metrics, batch_size: float, given: Given, repeats: bool
) -> pd.DataFrame:
    """step, loss, and what else of `metrics` was logged there, of one run.

    files: what each says of it. Points that a run gave up when it was resumed do not count (see
    logged.abandoned); of a step that was logged twice the newer value does.
    """
    if repeats:
        files = [max(files, key=lambda one: one.rows["step"].max())]
    frames = [_timed(one, metrics) for one in files]
    losses = [_points(frame, metrics.loss, one) for frame, one in zip(frames, files, strict=True)]
    curve = _newest(pd.concat(losses), files, metrics.loss)
    for ours, theirs in metrics.more.items():
        points = [frame[["clock", theirs]].dropna() for frame in frames if theirs in frame]
        if points:
            values = pd.concat(points).drop_duplicates("clock", keep="last")
            curve[ours] = curve["clock"].map(values.set_index("clock")[theirs])
    curve["step"] = _steps(curve, batch_size, given, files[0])
    return curve.drop(columns=["clock", "kind", TIME]).rename(columns={metrics.loss: "loss"})


def _timed(one: Recorded, metrics: Metrics) -> pd.DataFrame:
    """The rows with `clock`, and `kind`: which of CLOCKS it is."""
    rows = one.rows
    kind = next((ours for ours in ("step", "examples") if ours in metrics.clocks), None)
    if kind is not None:
        theirs = metrics.clocks[kind]
        if theirs not in rows:
            return rows.iloc[:0].assign(clock=0.0, kind=kind)
        clock = rows[theirs]
        if "step" in rows:  # logged beside the loss, perhaps in a row of its own
            beside = rows[["step", theirs]].dropna().drop_duplicates("step", keep="last")
            clock = rows["step"].map(beside.set_index("step")[theirs])
        return rows.assign(clock=clock, kind=kind)
    rows = rows.assign(clock=np.nan, kind="")
    for kind in CLOCKS:
        if kind in rows:
            chosen = rows["clock"].isna() & rows[kind].notna()
            rows["clock"] = rows["clock"].where(~chosen, rows[kind])
            rows["kind"] = rows["kind"].where(~chosen, kind)
    return rows


def _points(rows: pd.DataFrame, loss: str, one: Recorded) -> pd.DataFrame:
    if loss not in rows:
        rows = rows.assign(**{loss: np.nan})
    points = rows[rows[loss].notna() & rows["clock"].notna()]
    order = points[TIME] if TIME in points else pd.Series(np.nan, points.index)
    return pd.DataFrame(
        {"clock": points["clock"], "kind": points["kind"], TIME: order, loss: points[loss]}
    ).astype({"clock": float})


def _newest(points: pd.DataFrame, files: Sequence[Recorded], loss: str) -> pd.DataFrame:
    points = points.reset_index(drop=True)
    if points[TIME].isna().any():
        known = points.drop_duplicates(["clock", loss])
        twice = known["clock"].duplicated()
        if len(files) > 1 and twice.any():
            names = " and ".join(one.file.path.name for one in files[:2])
            raise files[1].file.error(
                f"run {files[0].run} stands in {names} with different values of {loss} at "
                f"{known.loc[twice, 'clock'].iloc[0]:g}; keep one of the files"
            )
        order = points.index.to_numpy()
    else:
        order = points[TIME].to_numpy()
    gone = abandoned(np.zeros(len(points)), order, points["clock"])
    points = points.assign(order=order)[~gone].sort_values("order", kind="stable")
    points = points.drop_duplicates("clock", keep="last").sort_values("clock")
    return points.drop(columns="order").reset_index(drop=True)


def _steps(curve: pd.DataFrame, batch_size: float, given: Given, one: Recorded) -> pd.Series:
    """Optimizer updates done."""
    steps, kind = curve["clock"], curve["kind"]
    steps = steps.where(kind != "examples", steps / batch_size)
    if (kind == "epoch").any():
        if given.examples_per_epoch is None:
            raise one.file.error(
                "has epochs, but neither steps nor examples; say source.examples_per_epoch=..., "
                "the size of the training set"
            )
        per_epoch = np.ceil(given.examples_per_epoch / batch_size)
        steps = steps.where(kind != "epoch", curve["clock"] * per_epoch)
    return steps
