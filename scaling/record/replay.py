"""Which trial each line of the journals is about, and which of its beginnings: the one replay that
all readers of journals share.

A trial's lines belong to a turn: 1 when it begins for the first time, one more each time that it
begins again. The highest turn is the last, whatever the clocks said and in whichever order journals
are read; of one turn an outcome counts more than a failure, and a longer one more than a shorter.
Journals of format 2 have no turns: there each beginning is a turn of its own, in the order of their
times, before all that have a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Turn = tuple[int, float]  # (1, turn), or (0, time of the beginning) in format 2


@dataclass(eq=False)
class Course:
    """What became of a trial. first, latest: what was said of it at its first and last turn;
    first_journal, last_journal: the first lines of the journals that did.

    end: the outcome or failure of the last turn, None while it is open.
    """

    trial_id: str
    first: dict[str, Any]
    first_journal: dict[str, Any]
    first_turn: Turn
    latest: dict[str, Any]
    last_journal: dict[str, Any]
    turn: Turn
    end: dict[str, Any] | None = None

    @property
    def next_turn(self) -> int:
        return 1 + (int(self.turn[1]) if self.turn[0] else 0)

    @property
    def end_mark(self) -> str | float:
        """What tells this end from every other one of the trial; there must be one.

        Not its contents alone: a trial may end twice in the same way.
        """
        assert self.end is not None
        if not self.turn[0]:
            return self.end["time"]
        return f"{int(self.turn[1])} {self.end['record']} {self.end.get('last_step', '')}"


class Replay:
    """Takes the lines of all journals of a study, each journal's in order."""

    def __init__(self) -> None:
        self.journals: dict[str, dict[str, Any]] = {}  # their first lines
        self.trials: dict[str, Course] = {}
        self._named: dict[tuple[str, int], tuple[Course, Turn]] = {}

    def take(self, journal: str, line: dict[str, Any]) -> list[tuple[Course, Turn]]:
        """The trials that a checked line is about, in its order, each with the turn.

        ValueError, with the reason, if what it builds on is not there; then nothing is taken.
        """
        kind = line["record"]
        if kind == "journal":
            self.journals[journal] = line
            return []
        if journal not in self.journals:
            raise ValueError("the first line of its journal is lost")
        if kind == "trial":
            return [self._begin(journal, line)]
        if kind == "evaluation":
            return [self._about(journal, number) for number in line["trials"]]
        if kind in ("outcome", "failure", "picture", "model"):
            about = self._about(journal, line["trial"])
            if kind in ("outcome", "failure"):
                _take_end(*about, line)
            return [about]
        return []

    def _about(self, journal: str, number: int) -> tuple[Course, Turn]:
        try:
            return self._named[journal, number]
        except KeyError:
            raise ValueError(f"it has no beginning of trial {number}") from None

    def _begin(self, journal: str, line: dict[str, Any]) -> tuple[Course, Turn]:
        opened, trial_id = self.journals[journal], line["trial_id"]
        turn: Turn = (1, line["turn"]) if "turn" in line else (0, line["time"])
        course = self.trials.get(trial_id)
        if course is None:
            course = Course(trial_id, line, opened, turn, line, opened, turn)
            self.trials[trial_id] = course
        if turn < course.first_turn:
            course.first, course.first_journal, course.first_turn = line, opened, turn
        if turn > course.turn:
            course.latest, course.last_journal, course.turn = line, opened, turn
            course.end = None
        self._named[journal, line["trial"]] = course, turn
        return course, turn


def _take_end(course: Course, turn: Turn, line: dict[str, Any]) -> None:
    if turn == course.turn and (course.end is None or _weight(line) >= _weight(course.end)):
        course.end = line


def _weight(end: dict[str, Any]) -> tuple[bool, int]:
    return end["record"] == "outcome", end.get("last_step", 0)
