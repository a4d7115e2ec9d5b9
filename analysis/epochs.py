"""How often training has seen its data, where those are a fixed set of known size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd


def examples_in_data(trials: pd.DataFrame) -> pd.Series:
    """Training examples of each trial's data set; NaN on a stream, or where it is not recorded."""
    unknown = pd.Series(np.nan, trials.index)
    found = trials.get("task.data_examples", unknown).astype(float)
    found = found.fillna(trials.get("train_images", unknown).astype(float))
    if "task.labels" not in trials:
        return found
    return trials["task.labels"].map(_length).fillna(found)


def _length(text: Any) -> float:
    try:
        return float(len(json.loads(text)))
    except (TypeError, ValueError):  # drawn, or too long for a param: the store cut it
        return np.nan
