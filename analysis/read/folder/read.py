"""A folder of anybody's runs as the frames (trials, curves)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.folder.curves import choose_metrics, curves_of
from analysis.read.folder.found import AUTO, Folder, find_runs
from analysis.read.folder.recorded import Given
from analysis.read.folder.settings import Source, agreed, compiled, config_sources, name_source
from analysis.read.names import check_ours, suggestion
from analysis.read.tables import name_columns
from analysis.read.trials import OF_A_CURVE, OF_A_TRIAL, check_losses, complete_trials

_NEEDED = ("batch_size", "lr")


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

    >>> import pathlib
    >>> for size in (8, 16):
    ...     path = pathlib.Path("runs", f"bs{size}_lr0.1", "metrics.csv")  # of Lightning
    ...     path.parent.mkdir(parents=True, exist_ok=True)
    ...     _ = path.write_text("epoch,step,val_loss\\n0,9,2.0\\n0,19,1.0\\n")
    >>> pattern = r"bs(?P<batch_size>\\d+)_lr(?P<lr>[\\d.]+)"
    >>> trials, curves = read_folder("runs", name_pattern=pattern)
    >>> trials[["run_id", "batch_size", "lr", "last_step"]]
           run_id  batch_size   lr  last_step
    0   bs8_lr0.1           8  0.1         20
    1  bs16_lr0.1          16  0.1         20
    """
    return read_found(
        find_runs(path, format), columns, name_pattern=name_pattern,
        examples_per_epoch=examples_per_epoch, world_size=world_size, group_by=group_by,
        tuned=tuned, study=study,
    )  # fmt: skip


def read_found(
    folder: Folder,
    columns: Mapping[str, str] | None = None,
    *,
    name_pattern: str | None = None,
    examples_per_epoch: float | None = None,
    world_size: int | None = None,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    study: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As read_folder, of a folder that was looked through."""
    given = Given(examples_per_epoch, world_size)
    columns = dict(columns or {})
    find_settings(folder, columns, name_pattern, given, [*tuned, *(group_by or ())])
    return frames_of(
        folder, columns, given, group_by=group_by, tuned=tuned, study=study or folder.path.name
    )


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
        for file in dict.fromkeys(one.file for one in of_run if len(one)):
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
    curves = curves_of(folder.runs, metrics, sizes, given, folder.format.repeats)
    trials, curves = complete_trials(
        trials, curves, study=study, tuned=table.tuned,
        group_by=None if group_by is None else table.groups,
    )  # fmt: skip
    check_losses(trials, curves, where, metrics.loss)
    return trials, curves


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
