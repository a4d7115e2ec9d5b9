"""What one file of a folder says of one run: its evaluations, its settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import AnalysisError, first_line
from analysis.read.csv_files import read_csv

HEAD_BYTES = 1 << 13  # that tell a format; kept, of every file of the folder
CLOCKS = ("step", "examples", "epoch")  # optimizer updates done, examples seen, epochs done
_BROKEN = ("nan", "inf", "-inf", "infinity", "-infinity")
TIME = "time"  # seconds; where it is known, it says which of two points of one step is newer


@dataclass(frozen=True)
class File:
    """A file of the folder. place: its path below the folder, with slashes and no suffix."""

    path: Path
    place: str

    @cached_property
    def head(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    @property
    def directory(self) -> str:
        """The name of a run that has a directory of its own."""
        return self.place.rpartition("/")[0] or self.path.parent.name

    def error(self, text: str) -> AnalysisError:
        return AnalysisError(f"source.path={self.path}: {text}")


Columns = dict[str, NDArray[np.float64]]


@dataclass
class Recorded:
    """columns: by name, a value an evaluation (all of one length): one of CLOCKS, perhaps TIME, and
    metrics by their names there (NaN: not logged; infinite: logged as what is no finite number).
    settings: by their names there. A table of runs has settings alone."""

    run: str
    file: File
    columns: Columns = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Of evaluations."""
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True)
class Given:
    """What the options of the source say of the runs."""

    examples_per_epoch: float | None = None
    world_size: int | None = None


Settings = Mapping[str, Any]


def unchanged(settings: Settings, file: File, given: Given) -> dict[str, Any]:
    return dict(settings)


@dataclass(frozen=True)
class Format:
    """recognises: by content. read: a file's runs. complete: the settings of a run, under our names
    where this format's own names are known to mean the same. losses: names of held-out losses.
    repeats: files of one run repeat each other, and the one that goes furthest counts."""

    name: str
    recognises: Callable[[File], bool]
    read: Callable[[File], Iterable[Recorded]]
    complete: Callable[[Settings, File, Given], dict[str, Any]] = unchanged
    losses: tuple[str, ...] = ()
    repeats: bool = False


def logged(values: pd.Series) -> NDArray[np.float64]:
    """Numbers as they were logged: what is not finite is infinite, what is no number missing.

    >>> logged(pd.Series(["1.5", "nan", "", None, "-inf"])).tolist()
    [1.5, inf, nan, nan, inf]
    """
    numbers = np.array(pd.to_numeric(values, errors="coerce"), float)  # a copy
    numbers[np.isinf(numbers)] = np.inf
    missing = np.isnan(numbers)
    if missing.any() and not pd.api.types.is_numeric_dtype(values):
        text = values[missing].astype("string").str.strip().str.lower()
        numbers[missing] = np.where(text.isin(_BROKEN).fillna(False), np.inf, np.nan)
    return numbers


def not_finite_as_inf(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def read_json(file: File) -> Any:
    try:
        return json.loads(file.path.read_bytes())
    except (ValueError, OSError) as error:
        raise file.error(f"is not JSON ({first_line(error)})") from None


def read_table_of_runs(file: File, name: str) -> Iterator[Recorded]:
    """A row a run, called as the column `name` says: settings, and last values of metrics."""
    for row in read_csv(file.path).to_dict("records"):
        settings = {str(k): v for k, v in row.items() if k != name and not pd.isna(v)}
        yield Recorded(str(row[name]), file, settings=settings)


def header(file: File) -> list[str]:
    """The cells of the first line, or of its beginning, without quotation marks."""
    line = file.head.partition(b"\n")[0].decode("utf-8-sig", "ignore")
    return [cell.strip().strip('"') for cell in re.split(r"[,;\t]", line.strip())]
