"""A source of runs is chosen, read and analysed. A new kind of source is one more case here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.read.curves import read_curves_csv
from analysis.read.steps import read_steps_csv
from analysis.read.stores import NoExperiment

if TYPE_CHECKING:
    from analysis.result import StudyResult


@dataclass(frozen=True)
class Choice:
    """Which source and what to ask of it; the keys of conf/analysis."""

    kind: str  # mlflow, curves_csv, steps_csv
    study: str
    tracking_uri: str | None = None
    path: str | None = None
    experiment: str | None = None
    filter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    targets: Sequence[float] | None = None
    group_by: Sequence[str] | None = None
    tuned: Sequence[str] = ("lr",)


@dataclass(frozen=True)
class Read:
    """Curves (trials, curves) or a table of steps."""

    trials: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    table: pd.DataFrame | None = None

    @property
    def size(self) -> str:
        if self.table is not None:
            return f"a table of {len(self.table):,} rows"
        assert self.trials is not None
        assert self.curves is not None
        return f"{len(self.trials):,} trials, {len(self.curves):,} evaluations"


def read_source(choice: Choice) -> Read:
    """The frames of the chosen source. Raises AnalysisError, one line."""
    of_file = (choice.path or "", choice.columns)
    if choice.kind == "steps_csv":
        table = read_steps_csv(*of_file, group_by=choice.group_by, tuned=choice.tuned)
        return Read(table=table)
    if choice.kind == "curves_csv":
        frames = read_curves_csv(
            *of_file, group_by=choice.group_by, tuned=choice.tuned, study=choice.study
        )
        return Read(*frames)
    try:
        return Read(*_read_experiment(choice))
    except NoExperiment as error:
        if choice.experiment is None:
            raise
        raise error.named_by("source.experiment") from None


def analyse_source(read: Read, choice: Choice, **options: Any) -> StudyResult:
    """What the frames say. options: of the statistics, as of analysis.analyse (n_bootstrap, ..)."""
    from analysis.curve_study import analyse
    from analysis.step_study import analyse_steps

    if read.table is not None:
        return analyse_steps(
            read.table, targets=choice.targets, group_by=choice.group_by, tuned=choice.tuned,
            study=choice.study, **options,
        )  # fmt: skip
    assert read.trials is not None
    assert read.curves is not None
    return analyse(
        read.trials, read.curves, targets=choice.targets, group_by=choice.group_by,
        tuned=choice.tuned, **options,
    )  # fmt: skip


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
        filter=choice.filter, group_by=choice.group_by, tuned=choice.tuned,
    )  # fmt: skip
    return trials.assign(study=choice.study), curves
