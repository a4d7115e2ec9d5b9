"""How often training has seen its data, where those are a fixed set of known size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from analysis.theory.trials import were_given
from scaling.schema import TRAIN_EXAMPLES


def examples_in_data(trials: pd.DataFrame) -> pd.Series:
    """Training examples of each trial's data set; NaN on a stream, or where it is not known.

    As recorded, else the number of labels, else that of the images. What was recorded before
    schema.TRAIN_EXAMPLES may lack labels that were too long: then task.data_examples is a default
    that nothing used, so it counts only if the data drawn with it have the recorded initial loss.
    """
    unknown = pd.Series(np.nan, trials.index)
    n_examples = trials.get(TRAIN_EXAMPLES, unknown).astype(float)
    n_examples = n_examples.fillna(trials.get("train_images", unknown).astype(float))
    if "task.labels" in trials:
        n_examples = n_examples.fillna(trials["task.labels"].map(_length))
    if "task.data_examples" not in trials:
        return n_examples
    used = trials["task.data_examples"].astype(float)
    if "task.labels" in trials:
        used = used.where(trials["task.labels"].isna())
    return n_examples.fillna(used.where(~were_given(trials)))


def _length(text: Any) -> float:
    try:
        return float(len(json.loads(text)))
    except (TypeError, ValueError):  # drawn, or the store cut the text
        return np.nan
