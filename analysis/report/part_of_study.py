"""The part of a study that a prediction speaks of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.read.selection import NONE
from analysis.study import Study
from analysis.topics.topic import Frames
from scaling.schema import current_name


def chosen(trials: pd.DataFrame, where: Mapping[str, Any] | None) -> NDArray[np.bool_]:
    """Which trials [n] have these params; a list stands for any of its values.

    None: trials that do not have the param.
    """
    keep = np.ones(len(trials), dtype=bool)
    for param, wanted in (where or {}).items():
        values = wanted if isinstance(wanted, list) else [wanted]
        allowed = [_plain(current_name(param, value)) for value in values]
        known = trials[param].map(_plain) if param in trials else pd.Series(NONE, trials.index)
        keep &= known.isin(allowed).to_numpy()
    return keep


def restricted(
    study: Study, frames: Frames, where: Mapping[str, Any] | None
) -> tuple[Study, dict[str, pd.DataFrame]]:
    """The study and its frames as these trials alone are part of it.

    Trials and curves are theirs; of fits and every frame those groups are kept that have such a
    trial. Nothing is fitted again: a `where` on batch_size, lr or seed, which tell no groups apart,
    leaves fits and frontier as they are.
    """
    trials = study.trials[chosen(study.trials, where)]
    curves = study.curves[study.curves["run_id"].isin(trials["run_id"])]
    groups = {_key(row) for row in trials.reindex(columns=study.group_by).to_numpy(object)}

    def kept(frame: pd.DataFrame) -> pd.DataFrame:
        if not study.group_by or not set(study.group_by) <= set(frame.columns):
            return frame
        rows = [_key(row) in groups for row in frame[study.group_by].to_numpy(object)]
        return frame[np.array(rows, dtype=bool)]

    names = ("cells", "frontier", "theory", "stability", "exact_curves")
    changes: dict[str, Any] = {name: kept(getattr(study, name)) for name in names}
    changes["fits"] = [
        fit
        for fit in study.fits
        if _key([fit.group.get(name) for name in study.group_by]) in groups
    ]
    part = replace(study, trials=trials, curves=curves, **changes)
    return part, {name: kept(frame) for name, frame in frames.items()}


def _key(values: Sequence[Any] | NDArray[Any]) -> tuple[Any, ...]:
    return tuple(_plain(value) for value in values)


def _plain(value: Any) -> Any:
    """A param as MLflow holds it: lists as JSON text, numbers as numbers."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list | tuple):
        return json.dumps([_plain(item) for item in value])
    if isinstance(value, bool | str):
        return value
    return NONE if value is None or np.isnan(value) else float(value)
