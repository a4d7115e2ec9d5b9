"""A source of runs is chosen, read and analysed. A new kind of source is one more case here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import their_name, with_their_names
from analysis.read.curves import read_curves_csv
from analysis.read.final_losses import read_final_losses_csv
from analysis.read.names import their_columns
from analysis.read.steps import read_steps_csv
from analysis.read.stores import NoExperiment
from scaling.schema import FINAL_LOSSES

if TYPE_CHECKING:
    from analysis.read.folder.found import Folder
    from analysis.result import StudyResult


_FILLED_IN = ("trial_id", "study", "sweep", "status", "targets")  # for every source alike


@dataclass(frozen=True)
class Choice:
    """Which source and what to ask of it; the keys of conf/analysis."""

    kind: str  # one of options.SOURCES
    study: str
    tracking_uri: str | None = None
    path: str | None = None
    experiment: str | None = None
    filter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str = "auto"
    name_pattern: str | None = None
    examples_per_epoch: float | None = None
    world_size: int | None = None
    targets: Sequence[float] | None = None
    group_by: Sequence[str] | None = None
    tuned: Sequence[str] | None = None

    @property
    def minimised(self) -> Sequence[str]:
        """What the steps of runs are minimised over that do not say it themselves."""
        return self.tuned or ("lr",)


@dataclass(frozen=True)
class Read:
    """Curves (trials, curves), or a table of steps or final losses. last_only: of the curves only
    the last evaluations are asked for."""

    trials: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    table: pd.DataFrame | None = None
    final_losses: pd.DataFrame | None = None
    last_only: bool = False

    @property
    def size(self) -> str:
        for table in (self.table, self.final_losses):
            if table is not None:
                return f"a table of {len(table):,} rows"
        assert self.trials is not None
        assert self.curves is not None
        return f"{len(self.trials):,} trials, {len(self.curves):,} evaluations"


def read_source(choice: Choice) -> Read:
    """The frames of the chosen source. Raises AnalysisError, one line."""
    of_file = (choice.path or "", choice.columns)
    if choice.kind == "steps_csv":
        table = read_steps_csv(*of_file, group_by=choice.group_by, tuned=choice.minimised)
        return Read(table=table)
    if choice.kind == "final_losses":
        from analysis.final_loss_study import check_tuned

        check_tuned(choice.minimised)
        if choice.experiment is not None:
            return _of_experiment(choice, last_only=True)
        return Read(final_losses=read_final_losses_csv(*of_file, group_by=choice.group_by))
    if choice.kind == "curves_csv":
        frames = read_curves_csv(
            *of_file, group_by=choice.group_by, tuned=choice.minimised, study=choice.study
        )
        return Read(*frames)
    if choice.kind == "folder":
        from analysis.read.folder.found import find_runs

        return _read_folder(choice, find_runs(choice.path or "", choice.format))
    return _of_experiment(choice)


def _of_experiment(choice: Choice, last_only: bool = False) -> Read:
    try:
        return Read(*_read_experiment(choice), last_only=last_only)
    except NoExperiment as error:
        if choice.experiment is None:
            raise
        raise error.named_by("source.experiment") from None


def analyse_source(read: Read, choice: Choice, **options: Any) -> StudyResult:
    """What the frames say. options: of the statistics, as of analysis.analyse (n_bootstrap, ..)."""
    from analysis.curve_study import about_of, analyse
    from analysis.final_loss_study import (
        analyse_final_losses,
        analyse_final_runs,
        check_tuned,
    )
    from analysis.step_study import analyse_steps

    if read.table is not None:
        return analyse_steps(
            read.table, targets=choice.targets, group_by=choice.group_by, tuned=choice.minimised,
            study=choice.study, **options,
        )  # fmt: skip
    if read.final_losses is not None:
        return analyse_final_losses(
            read.final_losses, targets=choice.targets, group_by=choice.group_by,
            study=choice.study, **options,
        )  # fmt: skip
    assert read.trials is not None
    assert read.curves is not None
    if read.last_only or about_of(read.trials) == FINAL_LOSSES:
        check_tuned(choice.minimised)
        return analyse_final_runs(
            read.trials, read.curves, targets=choice.targets, group_by=choice.group_by, **options
        )
    return analyse(
        read.trials, read.curves, targets=choice.targets, group_by=choice.group_by,
        tuned=choice.tuned, **options,
    )  # fmt: skip


def _read_folder(choice: Choice, folder: Folder) -> Read:
    from analysis.read.folder.read import read_found

    return Read(*read_found(
        folder, choice.columns, name_pattern=choice.name_pattern,
        examples_per_epoch=choice.examples_per_epoch, world_size=choice.world_size,
        group_by=choice.group_by, tuned=choice.minimised, study=choice.study,
    ))  # fmt: skip


def shown_lines(choice: Choice) -> list[str]:
    """What is understood of a source, with its first rows; what is missing comes last."""
    lines: list[str] = []
    try:
        if choice.kind == "folder":
            from analysis.read.folder.found import find_runs
            from analysis.read.folder.read import find_settings
            from analysis.read.folder.recorded import Given

            folder = find_runs(choice.path or "", choice.format)
            find_settings(folder, {}, choice.name_pattern, Given(), complete=False)
            lines += folder.lines()
            read = _read_folder(choice, folder)
        else:
            read = read_source(choice)
    except AnalysisError as error:
        return [*lines, f"missing: {error}"]
    lines.append(f"read: {read.size}")
    frames = {
        "trials": read.trials,
        "evaluations": read.curves,
        "steps": read.table,
        "runs": read.final_losses,
    }
    for name, frame in frames.items():
        if frame is not None:
            lines += [f"first {name}:", _first_rows(frame)]
    if read.trials is not None:
        groups = ", ".join(map(their_name, read.trials.attrs.get("group_by") or ())) or "none"
        lines += [f"groups are told apart by: {groups}", *read.trials.attrs.get("left_out", ())]
    return lines


def _first_rows(frame: pd.DataFrame, n: int = 5) -> str:
    """Columns that hold anything; of theirs those that differ, under their own names."""
    same = [name for name in their_columns(frame) if frame[name].map(str).nunique() == 1]
    known = frame.drop(columns=[*same, *(name for name in _FILLED_IN if name in frame)])
    return with_their_names(known.head(n).dropna(axis=1, how="all")).to_string(index=False)


def _read_experiment(choice: Choice) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A study of this project as it is; any other experiment by its names."""
    from analysis.read.experiments import is_ours, read_mlflow
    from analysis.read.runs import read_study

    name = choice.experiment or choice.study
    if not choice.columns and (
        choice.experiment is None or is_ours(choice.experiment, choice.tracking_uri)
    ):
        return read_study(name, choice.tracking_uri, choice.filter)
    trials, curves = read_mlflow(
        name, choice.tracking_uri, choice.columns,
        filter=choice.filter, group_by=choice.group_by, tuned=choice.minimised,
    )  # fmt: skip
    return trials.assign(study=choice.study), curves
