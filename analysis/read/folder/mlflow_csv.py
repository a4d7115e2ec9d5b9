"""CSV files that MLflow's pages download: the table of runs, and the points of a chart."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from analysis.read.csv_files import read_csv
from analysis.read.folder.recorded import (
    TIME,
    File,
    Format,
    Recorded,
    header,
    logged,
    read_table_of_runs,
)

_POINTS = ("run_id", "key", "value", "step", "timestamp")
_TABLE = ("Run ID", "Name", "Source Type")


def _is_points(file: File) -> bool:
    return set(_POINTS) <= set(header(file))


def _read_points(file: File) -> Iterator[Recorded]:
    frame = read_csv(file.path)
    for run, of_run in frame.groupby("run_id", sort=False):
        columns = {"step": logged(of_run["step"]), TIME: logged(of_run["timestamp"]) / 1000}
        values = logged(of_run["value"])
        for key in of_run["key"].unique():
            columns[str(key)] = np.where(of_run["key"] == key, values, np.nan)
        yield Recorded(str(run), file, columns)


def _is_table(file: File) -> bool:
    return set(_TABLE) <= set(header(file))


POINTS = Format("mlflow_points", _is_points, _read_points)
TABLE = Format("mlflow_table", _is_table, partial(read_table_of_runs, name="Run ID"))
