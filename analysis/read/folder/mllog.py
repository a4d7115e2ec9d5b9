"""MLPerf's logs: lines `:::MLLOG {json}` among whatever else a program printed.

Source: mlcommons/logging, mlperf_logging/mllog/constants.py: global_batch_size,
opt_base_learning_rate, seed; eval_accuracy or eval_loss with samples_count, step_num or epoch_num
in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from analysis.read.folder.recorded import File, Format, Recorded, not_finite_as_inf

_MARK = ":::MLLOG "
_SETTINGS = {"global_batch_size": "batch_size", "opt_base_learning_rate": "lr", "seed": "seed"}
_CLOCKS = {"step_num": "step", "samples_count": "examples", "epoch_num": "epoch"}
_HEAD_BYTES = 1 << 20  # programs print before they log


def _recognises(file: File) -> bool:
    if b"\0" in file.head:
        return False
    with file.path.open("rb") as opened:
        return _MARK.encode() in opened.read(_HEAD_BYTES)


def _read(file: File) -> Iterable[Recorded]:
    """A value before training was measured after no example."""
    rows: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for entry in _entries(file):
        key, value = str(entry.get("key")), entry.get("value")
        if key in _SETTINGS:
            settings.setdefault(_SETTINGS[key], value)
        elif key.startswith("eval_") and isinstance(value, int | float):
            about = entry.get("metadata") or {}
            clock = {ours: about[name] for name, ours in _CLOCKS.items() if name in about}
            if clock:
                rows.append({**clock, key: not_finite_as_inf(value)})
        elif isinstance(value, int | float | str) and key.startswith(("opt_", "submission_")):
            settings.setdefault(key, value)
    table = pd.DataFrame(rows)
    columns = {str(name): table[name].to_numpy(float) for name in table}
    return [Recorded(file.place, file, columns, settings)]


def _entries(file: File) -> Iterator[dict[str, Any]]:
    with file.path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            _, mark, text = line.partition(_MARK)
            if not mark:
                continue
            try:
                yield json.loads(text)
            except ValueError:
                raise file.error(f"line {number} is not JSON after {_MARK.strip()}") from None


MLLOG = Format("mllog", _recognises, _read, losses=("eval_loss",))
