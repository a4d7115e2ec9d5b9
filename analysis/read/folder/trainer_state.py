"""Hugging Face's Trainer: `trainer_state.json`, with the training arguments beside it.

`log_history` mixes what was logged in training (`loss`: the mean since the last log) and in
evaluations (`eval_loss`: held out); `step` counts optimizer updates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from analysis.read.folder.recorded import (
    File,
    Format,
    Given,
    Recorded,
    Settings,
    logged,
    read_json,
)

_CHECKPOINT = "checkpoint-"
_PER_DEVICE, _ACCUMULATED = "per_device_train_batch_size", "gradient_accumulation_steps"


def _recognises(file: File) -> bool:
    return file.head.lstrip()[:1] == b"{" and b'"log_history"' in file.head


def _read(file: File) -> Iterable[Recorded]:
    """The states of the checkpoints of a run repeat each other: the run is their folder."""
    state = read_json(file)
    history = state.get("log_history")
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise file.error("log_history is not a list of what was logged")
    rows = pd.DataFrame(history)
    numbers = {str(name): logged(rows[name]) for name in rows if str(name) != "epoch"}
    numbers = {"train_loss" if name == "loss" else name: v for name, v in numbers.items()
               if name != "train_loss"}  # fmt: skip  # that one is the mean of the whole run
    directory = file.directory
    if directory.rpartition("/")[2].startswith(_CHECKPOINT):
        directory = directory.rpartition("/")[0] or file.path.parent.parent.name
    return [Recorded(directory, file, numbers)]


def _complete(settings: Settings, file: File, given: Given) -> dict[str, Any]:
    """lr, and batch_size: that of a device, times gradient_accumulation_steps and world_size."""
    complete = dict(settings)
    if "lr" not in complete and "learning_rate" in complete:
        complete["lr"] = complete.pop("learning_rate")
    if "batch_size" in complete or _PER_DEVICE not in complete:
        return complete
    size, accumulated = complete.pop(_PER_DEVICE), complete.pop(_ACCUMULATED, 1)
    world_size = complete.pop("world_size", given.world_size)
    if world_size is None:
        raise file.error(
            f"its arguments give {_PER_DEVICE}={size}, but not on how many devices; say "
            "source.world_size=1, or how many there were"
        )
    complete["batch_size"] = int(size) * int(accumulated) * int(world_size)
    return complete


TRAINER_STATE = Format(
    "trainer_state", _recognises, _read, _complete, losses=("eval_loss",), repeats=True
)
