"""What a topic is: one question, with its tables, figures, sentences and quantities.

A new question is a file in this folder and a line in the list in `__init__`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pandas as pd

from analysis.caveats import Caveat
from analysis.figures.drawing import Drawing
from analysis.fit.fit_result import FitResult
from analysis.groups import group_label
from analysis.measure.model_sizes import Family
from analysis.study import Group, Study

Frames = Mapping[str, pd.DataFrame]  # by name: those of the topics, also the names of the tables
Scope = Literal["study", "all_groups", "family", "group"]


@dataclass(frozen=True)
class Part:
    """What a figure speaks of: the study, a family of model sizes or a group, and its frames.

    groups: those that are drawn of it.
    """

    study: Study
    frames: Frames
    groups: Sequence[Group]
    family: Family | None = None

    @property
    def fits(self) -> list[FitResult]:
        return [fit for fit in self.study.fits if fit.group in self.groups]

    @property
    def targets(self) -> list[float]:
        """Target losses, hardest first."""
        return sorted({fit.target_loss for fit in self.fits})

    @property
    def sized_fits(self) -> list[tuple[float, FitResult]]:
        """Model size and fit of each member of the family and target."""
        assert self.family
        return [
            (float(member.model_size or 0), fit)
            for member in self.family.members
            for fit in self.study.fits_of(member.group)
        ]


@dataclass(frozen=True)
class Cell:
    """A cell of a section's table; small: its interval or a remark; rows: how many it spans."""

    text: str
    small: str = ""
    is_text: bool = False
    is_strong: bool = False
    rows: int = 1


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """A section of the report: sentences, a table, remarks below it. name: its anchor.

    Text is escaped; what is markupsafe.Markup is not, and must hold nothing of the user's.
    list_head stands above `listed`, a list of sentences.
    """

    name: str
    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    notes: Sequence[str] = ()
    list_head: str = ""
    listed: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """A number that an analysis found.

    what: of what, where a quantity has several ("batch size 8"); value: None where it cannot be
    found, and then reason says why; standard_error: None where the value is exact or no error is
    known; low, high: a 95 % interval, None where an end is open or not known; predicted: the
    quantity's own closed form, None without one.
    """

    what: str
    value: float | None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    predicted: float | None = None
    reason: str = ""


class Quantity(Protocol):
    """Finds one or several numbers in a study, or in the part of it that a prediction speaks of.

    Raises AnalysisError, in one sentence, where the study cannot have it.
    """

    def __call__(self, study: Study, frames: Frames) -> Sequence[Finding]: ...


def _no_frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    return {}


def _no_drawings(part: Part) -> Iterator[Drawing]:
    return iter(())


def _no_section(study: Study, frames: Frames) -> Section | None:
    return None


def _no_caveats(study: Study, frames: Frames) -> list[tuple[Group | None, Caveat | str]]:
    return []


@dataclass(frozen=True)
class Topic:
    """One question.

    frames: its tables, given those of the topics before it in the list; the same name replaces a
    table. drawings: its figures, of a part of the study as wide as `scope`. section: its part of
    the report's text, None where there is nothing to say. caveats: what a reader has to know, of a
    group or (None) of the study. quantities: what predictions may name (scaling.schema.QUANTITIES
    says what they mean).
    """

    name: str
    scope: Scope = "study"
    frames: Callable[[Study, Frames], dict[str, pd.DataFrame]] = _no_frames
    drawings: Callable[[Part], Iterator[Drawing]] = _no_drawings
    section: Callable[[Study, Frames], Section | None] = _no_section
    caveats: Callable[[Study, Frames], list[tuple[Group | None, Caveat | str]]] = _no_caveats
    quantities: Mapping[str, Quantity] = field(default_factory=dict)


def group_cells(study: Study, group: Group) -> list[Cell]:
    """The first cell of a row: the group's name, where there are several groups."""
    return [Cell(group_label(group), is_text=True)] if len(study.groups) > 1 else []


def group_head(study: Study) -> list[str]:
    return ["group"] if len(study.groups) > 1 else []


def hardest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the hardest target."""
    return rows[rows["target_loss"] == rows["target_loss"].min()] if len(rows) else rows


def at_target(frame: pd.DataFrame, target: float) -> pd.DataFrame:
    return frame[frame["target_loss"] == target]


def or_nan(value: float | None) -> float:
    """A number of a table."""
    return math.nan if value is None else float(value)
