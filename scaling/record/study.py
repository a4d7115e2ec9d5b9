"""What a study's journals say of its trials: their curves, and how they ended."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.config import EvaluationConfig
from scaling.outcome import Curve
from scaling.record.read_journals import FolderReader
from scaling.record.replay import Course, Replay
from scaling.schedules import next_evaluation

BEGUN, FAILED, ENDED = "begun", "failed", "ended"


@dataclass
class TrialRecord:
    """The curve of one trial, merged by step over every time it was trained.

    status: what became of its last turn; turn: the number of that, 0 where it has none.
    asked: what it was asked for then (`requested`); ended_at: when its training ended.
    """

    batch_size: int
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    diverged_step: int | None = None
    not_finite: str | None = None
    seconds: float = 0.0
    status: str = ENDED
    turn: int = 0
    asked: dict[str, Any] = field(default_factory=dict)
    ended_at: float = 0.0

    @property
    def failed(self) -> bool:
        return self.status == FAILED

    def take(self, step: int, loss: float) -> None:
        """The numbers of a step are the same each time that it is made."""
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.losses.append(loss)
            return
        place = bisect_left(self.steps, step)
        if self.steps[place] != step:
            self.steps.insert(place, step)
            self.losses.insert(place, loss)

    def curve_to(self, step: int) -> Curve:
        """The evaluations up to `step`."""
        end = bisect_right(self.steps, step)
        return self.steps[:end], self.losses[:end]

    def covers(self, evaluation: EvaluationConfig, step: int) -> bool:
        """Every evaluation due up to `step` is here."""
        due = _due_steps(evaluation.every_step_until, evaluation.ratio, step)
        return due <= set(self.steps)


@lru_cache(maxsize=4096)
def _due_steps(every_step_until: int, ratio: float, last: int) -> frozenset[int]:
    """Steps of all evaluations up to `last`."""
    evaluation, due, steps = EvaluationConfig(every_step_until, ratio), 0, set()
    while due <= last:
        steps.add(due)
        due = next_evaluation(evaluation, due)
    return frozenset(steps)


@dataclass
class StudyRecord:
    """trials: by trial id. torn: journals whose last line is not whole.

    damaged: a sentence for each journal of which lines cannot be used.
    commits: those that sweeps of this study were started at, as "commit, code_commit".
    task_contents: digests of a custom task, by its path.
    """

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    torn: list[Path] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    commits: set[str] = field(default_factory=set)
    task_contents: dict[str, set[str]] = field(default_factory=dict)

    @property
    def troubles(self) -> list[str]:
        """What is not as it was written, a line each."""
        lines = [f"torn last line in {path}: skipped" for path in self.torn]
        return lines + [f"{damage}: what it held is trained again" for damage in self.damaged]


def read_record(folder: Path) -> StudyRecord:
    """Merge the journals in `folder`; JournalError for one that is none or of another format."""
    with RecordReader(folder) as reader:
        return reader.read()


class RecordReader:
    """Merges the journals in a folder as they grow: each `read` takes in what is new."""

    def __init__(self, folder: Path) -> None:
        self._reader = FolderReader(folder)
        self._replay = Replay()
        self._record = StudyRecord()

    def read(self) -> StudyRecord:
        """The record so far, one object; JournalError for what is no journal of trials."""
        for journal, number, line in self._reader.lines():
            try:
                self._take(journal, line)
            except ValueError as error:
                self._reader.leave_out(journal, number, str(error))
        self._record.torn = self._reader.torn()
        self._record.damaged = self._reader.damages()
        return self._record

    def _take(self, journal: str, line: dict[str, Any]) -> None:
        about = self._replay.take(journal, line)
        kind, record = line["record"], self._record
        if kind == "journal":
            record.commits.add(commits_of(line["sweep"]["tags"]))
        elif kind == "trial":
            self._begin(line, about[0][0])
        elif kind == "evaluation":
            for (course, _), loss in zip(about, line["loss"], strict=True):
                record.trials[course.trial_id].take(line["step"], loss)
        elif kind in ("outcome", "failure"):
            self._end(line, about[0][0])

    def _begin(self, line: dict[str, Any], course: Course) -> None:
        record, params = self._record, line["params"]
        known = record.trials.setdefault(course.trial_id, TrialRecord(params["batch_size"]))
        known.status, known.turn = _status(course), course.next_turn - 1
        known.asked = requested(course.latest["params"])
        if schema.TASK_CONTENT in params:
            contents = record.task_contents.setdefault(str(params.get("task.path")), set())
            contents.add(str(params[schema.TASK_CONTENT]))

    def _end(self, line: dict[str, Any], course: Course) -> None:
        trial = self._record.trials[course.trial_id]
        trial.status = _status(course)
        if line["record"] == "outcome":
            trial.seconds = max(trial.seconds, line["seconds"])
            if course.end is line:
                trial.ended_at = line["time"]
                trial.diverged_step = line["diverged_step"]
                trial.not_finite = line.get("not_finite")

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _status(course: Course) -> str:
    if course.end is None:
        return BEGUN
    return ENDED if course.end["record"] == "outcome" else FAILED


def requested(params: Mapping[str, Any]) -> dict[str, Any]:
    """What of a trial's params may be asked for otherwise the next time; not where it runs."""
    return {key: params[key] for key in schema.REQUESTED if key in params and key != "device"}


def commits_of(tags: dict[str, str]) -> str:
    """The commits that a sweep was started at: the working directory's and this code's."""
    commits = [tags.get(key, "none")[:12] for key in ("git_commit", "code_git_commit")]
    return ", ".join(dict.fromkeys(commits))
