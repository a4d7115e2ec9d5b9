"""Quantities as predictions ask for them, and a study as its figures speak of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis import StudyResult
from analysis.report.part_of_study import restricted
from analysis.topics import QUANTITIES
from analysis.topics.topic import Finding, Part


def find(name: str, study: StudyResult) -> Sequence[Finding]:
    return QUANTITIES[name](study, study.frames)


def part_of(study: StudyResult, where: Mapping[str, Any] | None) -> StudyResult:
    """The part of a study with its frames."""
    part, frames = restricted(study, study.frames, where)
    assert isinstance(part, StudyResult)
    part.frames = frames
    return part


def whole(study: StudyResult) -> Part:
    return Part(study, study.frames, study.groups)
