"""Exports of Weights & Biases: CSV of a panel, CSV of the table of runs, parquet of a history.

A panel has a column a run and metric, `<run> - <metric>`, beside its least and greatest value
(`__MIN`, `__MAX`). The table of runs has a row a run: its settings, and last values of metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from analysis.read.csv_files import read_csv
from analysis.read.folder.recorded import (
    TIME,
    Columns,
    File,
    Format,
    Recorded,
    header,
    logged,
    read_table_of_runs,
)
from analysis.read.parquet_files import read_parquet

_BETWEEN = " - "
_EXTREMES = ("__MIN", "__MAX")
_STEPS = ("trainer/global_step", "train/global_step", "global_step")  # of Lightning, Hugging Face
_CALLS = "_step"  # counts calls of wandb.log, unless they name a step


def _is_panel(file: File) -> bool:
    names = header(file)
    return len(names) > 1 and names[0] == "Step" and any(_BETWEEN in name for name in names[1:])


def _read_panel(file: File) -> Iterator[Recorded]:
    frame = read_csv(file.path)
    step = logged(frame["Step"])
    metrics: dict[str, Columns] = {}
    for name in frame.columns[1:]:
        run, between, metric = str(name).rpartition(_BETWEEN)
        if between and not metric.endswith(_EXTREMES):
            metrics.setdefault(run, {})[metric] = logged(frame[name])
    for run, columns in metrics.items():
        yield Recorded(run, file, {"step": step, **columns})


def _is_table(file: File) -> bool:
    names = header(file)
    return "Name" in names and bool({"State", "Created", "Sweep"} & set(names))


def _is_history(file: File) -> bool:
    if not file.head.startswith(b"PAR1"):
        return False
    import pyarrow.parquet as pq

    try:
        return _CALLS in pq.read_schema(file.path).names
    except (ValueError, OSError):
        return False


def _read_history(file: File) -> Iterable[Recorded]:
    frame = read_parquet(file.path)
    counter = next((name for name in _STEPS if name in frame), _CALLS)
    columns = {"step": logged(frame[counter])}
    if "_timestamp" in frame:
        columns[TIME] = logged(frame["_timestamp"])
    for name in map(str, frame.columns):
        if not name.startswith("_") and name not in _STEPS:
            columns[name] = logged(frame[name])
    return [Recorded(file.place, file, columns)]


PANEL = Format("wandb_panel", _is_panel, _read_panel)
TABLE = Format("wandb_table", _is_table, partial(read_table_of_runs, name="Name"))
HISTORY = Format("wandb_history", _is_history, _read_history)
