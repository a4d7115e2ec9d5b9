"""A folder of anybody's runs as the frames (trials, curves)."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.folder.curves import Metrics, choose_metrics, curve_of
from analysis.read.folder.formats import FORMATS, TABLES, format_of
from analysis.read.folder.recorded import File, Format, Given, Recorded
from analysis.read.folder.settings import Source, agreed, compiled, config_sources, name_source
from analysis.read.names import check_ours, suggestion
from analysis.read.tables import name_columns
from analysis.read.trials import OF_A_CURVE, OF_A_TRIAL, check_losses, complete_trials

AUTO = "auto"
_NEEDED = ("batch_size", "lr")
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
        names = {str(n): None for of in self.runs.values() for one in of for n in one.rows}
        return list(names)

    def lines(self) -> list[str]:
        """What was understood, for the user."""
        values: dict[str, list[str]] = defaultdict(list)
        for of_run in self.settings.values():
            for name, value in of_run.items():
                values[name].append(str(value))
        differing, same = [], []
        for name, of_runs in sorted(values.items()):
            distinct = list(dict.fromkeys(of_runs))
            listed = ", ".join(distinct[:_SHOWN]) + ", .." * (len(distinct) > _SHOWN)
            lacking = len(self.runs) - len(of_runs)
            text = f"{name}: {listed}" + f" (not in {lacking} runs)" * bool(lacking)
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


def read_folder(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    format: str = AUTO,
    name_pattern: str | None = None,
    examples_per_epoch: float | None = None,
    world_size: int | None = None,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    study: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs in a folder, files of one format below it: the frames (trials, curves).

    format: of formats.FORMATS, found by content by default. Settings of a run: what its file says,
    config files (yaml, json) of its name or in its directory, tables of runs, and the named groups
    of name_pattern, a regular expression found in its name. columns: ours -> theirs, of settings
    (batch_size, lr, seed, ..) and metrics (loss, train_loss, accuracy; step or examples: a metric
    that counts them). loss is by default the one metric that is called a held-out loss.
    examples_per_epoch: where only epochs were logged; steps are ceil(examples_per_epoch /
    batch_size) an epoch. world_size: of runs whose batch size is one of a device.

    Raises AnalysisError, one line that names a file and an option.
    """
    given = Given(examples_per_epoch, world_size)
    folder = find_runs(path, format)
    columns = dict(columns or {})
    find_settings(folder, columns, name_pattern, given, [*tuned, *(group_by or ())])
    return frames_of(
        folder, columns, given, group_by=group_by, tuned=tuned, study=study or folder.path.name
    )


def folder_lines(path: str | Path, format: str = AUTO) -> list[str]:
    """What was found, whether or not it is enough."""
    folder = find_runs(path, format)
    find_settings(folder, {}, None, Given(), complete=False)
    return folder.lines()


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
    runs = {run: of for run, of in runs.items() if any(len(one.rows) for one in of)}
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
            "runs' histories beside it, or give steps to a target to source=steps_csv"
        )
    if not by_format:
        names = ", ".join(one.name for one in FORMATS)
        raise AnalysisError(
            f"source.path={root}: none of its {n_files} files is a run in a format that is known "
            f"({names}); name another folder"
        )
    return next(one for one in FORMATS if one.name in by_format)


def find_settings(
    folder: Folder,
    columns: Mapping[str, str],
    name_pattern: str | None,
    given: Given,
    wanted: Sequence[str] = (),
    complete: bool = True,
) -> None:
    """Fill in folder.settings."""
    check_ours(columns)
    pattern = compiled(name_pattern)
    in_directory = Counter(
        parent for of in folder.runs.values() for parent in {one.file.path.parent for one in of}
    )
    metrics = {*folder.metrics, *OF_A_CURVE}
    of_settings = {o: t for o, t in columns.items() if t not in folder.metrics}
    for run, of_run in folder.runs.items():
        sources = [Source(one.file.path.name, one.settings) for one in of_run]
        for file in dict.fromkeys(one.file for one in of_run if len(one.rows)):
            sources += config_sources(file, in_directory[file.path.parent] == 1)
        sources += name_source(run, pattern)
        watched = (*_NEEDED, "seed", "model_size", *wanted)
        first = of_run[0].file
        settings = agreed(run, str(first.path), sources, watched, of_settings)
        if complete:
            settings = folder.format.complete(settings, first, given)
        folder.settings[run] = {n: v for n, v in settings.items() if n not in metrics}


def frames_of(
    folder: Folder,
    columns: Mapping[str, str],
    given: Given,
    *,
    group_by: Sequence[str] | None,
    tuned: Sequence[str],
    study: str,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    metrics = choose_metrics(folder.path, folder.metrics, folder.format.losses, columns)
    _check_needed(folder, columns)
    where = f"source.path={folder.path}"
    frame = pd.DataFrame.from_dict(folder.settings, orient="index")
    of_trials = {o: o for o in columns if o in frame}  # settings have our names by now
    table = name_columns(
        frame, of_trials, table=where, documented=OF_A_TRIAL, needed=_NEEDED,
        counts=("batch_size",), group_by=group_by, tuned=tuned,
    )  # fmt: skip
    trials = table.frame.rename_axis("run_id").reset_index()
    trials["run_id"] = trials["run_id"].astype(str)
    sizes = dict(zip(trials["run_id"], trials["batch_size"], strict=True))
    curves = pd.concat(
        [_curve(folder, run, metrics, sizes[run], given) for run in folder.runs],
        ignore_index=True,
    )
    trials, curves = complete_trials(
        trials, curves, study=study, tuned=table.tuned,
        group_by=None if group_by is None else table.groups,
    )  # fmt: skip
    check_losses(trials, curves, where, metrics.loss)
    return trials, curves


def _curve(
    folder: Folder, run: str, metrics: Metrics, batch_size: float, given: Given
) -> pd.DataFrame:
    of_run = [one for one in folder.runs[run] if len(one.rows)]
    curve = curve_of(of_run, metrics, batch_size, given, folder.format.repeats)
    return curve.assign(run_id=run)


def _check_needed(folder: Folder, columns: Mapping[str, str]) -> None:
    for ours in _NEEDED:
        for run, settings in folder.settings.items():
            if ours not in settings or settings[ours] in ("", None):
                known = {name for of_run in folder.settings.values() for name in of_run}
                theirs = columns.get(ours, ours)
                near = suggestion(theirs, known) if known else ", nor any other setting"
                raise AnalysisError(
                    f"source.path={folder.runs[run][0].file.path}: run {run} has no {theirs}"
                    f"{near}; name it with source.columns.{ours}=..., write "
                    f"it into a config file beside the run, or read it off the run's name with "
                    f"source.name_pattern"
                )
