"""Which files of a folder are runs, of which format, and what they say of each run."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.errors import AnalysisError
from analysis.read.folder.formats import FORMATS, TABLES, format_of
from analysis.read.folder.recorded import File, Format, Recorded

AUTO = "auto"
_SHOWN, _LISTED = 5, 12  # values, settings


@dataclass
class Folder:
    """What was found. runs: name -> what files say of it, in their order; settings: by run."""

    path: Path
    format: Format
    n_files: int
    n_unread: int
    runs: dict[str, list[Recorded]]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        names = {str(n): None for of in self.runs.values() for one in of for n in one.columns}
        return list(names)

    def lines(self) -> list[str]:
        """What was understood, for the user."""
        values: dict[str, list[str]] = defaultdict(list)
        for of_run in self.settings.values():
            for name, value in of_run.items():
                values[name].append(str(value))
        differing, same = [], []
        for name, of_runs in sorted(values.items()):
            distinct = sorted(set(of_runs), key=_numbers_first)
            listed = ", ".join(distinct[:_SHOWN]) + ", .." * (len(distinct) > _SHOWN)
            lacking = len(self.runs) - len(of_runs)
            text = f"{name}: {listed}" + f" (missing in {lacking})" * bool(lacking)
            (differing if len(distinct) > 1 or lacking else same).append(text)
        return [
            f"{self.path}: {len(self.runs)} runs of format {self.format.name} in {self.n_files} "
            f"files; {self.n_unread} other files",
            f"runs: {', '.join(list(self.runs)[:_SHOWN])}{', ..' * (len(self.runs) > _SHOWN)}",
            f"metrics: {', '.join(self.metrics)}",
            "settings that differ:" if differing else "settings that differ: none",
            *(f"  {text}" for text in differing),
            f"settings that do not: {'; '.join(same[:_LISTED]) or 'none'}"
            + f"; and {len(same) - _LISTED} more" * (len(same) > _LISTED),
        ]


def _numbers_first(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def find_runs(path: str | Path, format: str = AUTO) -> Folder:
    root = Path(path)
    if not root.exists():
        raise AnalysisError(f"source.path={path}: there is no such folder")
    names = [one.name for one in FORMATS]
    if format not in (AUTO, *names):
        raise AnalysisError(f"source.format={format}: must be {AUTO} or one of {', '.join(names)}")
    files = _files(root)
    by_format: dict[str, list[File]] = defaultdict(list)
    for file in files:
        if (one := _format_of(file, format)) is not None:
            by_format[one.name].append(file)
    tables = [file for one in TABLES for file in by_format.pop(one.name, [])]
    chosen = _the_one(by_format, tables, root, len(files))
    runs: dict[str, list[Recorded]] = {}
    for file in by_format[chosen.name]:
        for recorded in chosen.read(file):
            runs.setdefault(recorded.run, []).append(recorded)
    runs = {run: of for run, of in runs.items() if any(map(len, of))}
    if not runs:
        raise AnalysisError(f"source.path={path}: its files ({chosen.name}) hold no evaluation")
    for file in tables:
        for recorded in next(one for one in TABLES if one.recognises(file)).read(file):
            if recorded.run in runs:
                runs[recorded.run].append(recorded)
    n_read = len(by_format[chosen.name]) + len(tables)
    return Folder(root, chosen, n_read, len(files) - n_read, runs)


def _files(root: Path) -> list[File]:
    if root.is_file():
        return [File(root, root.stem)]
    found = []
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not name.startswith(".") and path.stat().st_size:
                place = path.relative_to(root).as_posix()
                found.append(File(path, place.removesuffix(path.suffix)))
    return found


def _format_of(file: File, wanted: str) -> Format | None:
    try:
        if wanted == AUTO:
            return format_of(file)
        known = [one for one in FORMATS if one.name == wanted or one in TABLES]
        return next((one for one in known if one.recognises(file)), None)
    except OSError as error:
        raise file.error(f"cannot be read ({error.strerror or error})") from None


def _the_one(
    by_format: Mapping[str, list[File]], tables: list[File], root: Path, n_files: int
) -> Format:
    if len(by_format) > 1:
        found = "; ".join(
            f"{name}: {of[0].path.relative_to(root) if root.is_dir() else of[0].path}"
            for name, of in by_format.items()
        )
        raise AnalysisError(
            f"source.path={root}: holds runs of several formats ({found}); read one of them, "
            f"source.format={next(iter(by_format))}"
        )
    if not by_format and tables:
        raise AnalysisError(
            f"source.path={tables[0].path}: is a table of last values, without curves; put the "
            "runs' histories beside it, or give it to source=final_losses, if each run has its own "
            "decayed schedule, or steps to a target to source=steps_csv"
        )
    if not by_format:
        names = ", ".join(one.name for one in FORMATS)
        raise AnalysisError(
            f"source.path={root}: none of its {n_files} files is a run in a format that is known "
            f"({names}); name another folder"
        )
    return next(one for one in FORMATS if one.name in by_format)
