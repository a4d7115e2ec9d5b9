"""What a study's journals say of its trials: which have ended, and how."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scaling import schema
from scaling.config import EvaluationConfig
from scaling.outcome import Curve, Watch
from scaling.record.checkpoint import Header
from scaling.record.journal import FolderReader
from scaling.record.replay import Course, Replay
from scaling.result import TrialResult
from scaling.schedules import next_evaluation
from scaling.trial import Trial

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
    task_contents: digests of a user's own task, by its path.
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
    found = [tags.get(key, "none")[:12] for key in ("git_commit", "code_git_commit")]
    return ", ".join(dict.fromkeys(found))


def finished(trial: Trial, record: TrialRecord) -> TrialResult | None:
    """The result that training `trial` would have, if the recorded curve reaches its end.

    The rules of ending are those of training (scaling.outcome): a longer budget, a harder target
    or a longer tail than the record's may need more steps; then None. Also where the curve has its
    last point but no outcome followed (killed in between, a full disk): it would stay without one;
    and where a part of the curve is lost.
    """
    if record.status != ENDED or not (record.steps or record.diverged_step == 0):
        return None
    if record.steps and not record.covers(trial.config.evaluation, record.steps[-1]):
        return None
    watch = Watch([trial])
    number = np.array([0])
    for step, loss in zip(record.steps, record.losses, strict=True):
        if len(watch.look(step, number, np.array([loss]))):
            return replace(watch.result(0), seconds=record.seconds)
    if record.diverged_step is not None and record.diverged_step <= trial.max_steps:
        ended = watch.diverge(record.diverged_step, 0, record.not_finite)
        return replace(ended, seconds=record.seconds)
    return None


@dataclass(frozen=True)
class Plan:
    """What is left to do of the trials asked for. Positions are those of the trials given.

    failed, interrupted: of those to do. saved: checkpoints to go on from, newest first.
    """

    results: dict[int, TrialResult] = field(default_factory=dict)
    to_do: list[int] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    interrupted: set[int] = field(default_factory=set)
    saved: dict[int, tuple[Header, ...]] = field(default_factory=dict)


def plan(
    trials: Sequence[Trial],
    record: StudyRecord,
    checkpoints: Sequence[Header] = (),
) -> Plan:
    """Sort trials into those on record and those to train."""
    planned = Plan()
    of_trial: dict[str, list[Header]] = defaultdict(list)
    for header in sorted(checkpoints, key=lambda header: -header.step):
        for trial_id in header.trial_ids:
            of_trial[trial_id].append(header)
    for position, trial in enumerate(trials):
        known = record.trials.get(trial.trial_id)
        result = finished(trial, known) if known else None
        if result is not None:
            planned.results[position] = result
            continue
        planned.to_do.append(position)
        if known is not None:
            (planned.failed if known.failed else planned.interrupted).add(position)
            usable = [
                header
                for header in of_trial[trial.trial_id]
                if known.covers(trial.config.evaluation, header.step)
            ]
            if usable:
                planned.saved[position] = tuple(usable)
    return planned


def describe(planned: Plan, trials: Sequence[Trial], record: StudyRecord) -> list[str]:
    """What a sweep of these trials would do, with its cost, one line each."""
    left = {i: trials[i].max_steps for i in planned.to_do}
    for position, headers in planned.saved.items():
        left[position] -= headers[0].step
    examples = sum(steps * trials[i].config.batch_size for i, steps in left.items())
    new = len(planned.to_do) - len(planned.failed) - len(planned.interrupted)
    lines = [
        f"finished     {len(planned.results):6d} trials, not trained again",
        f"to continue  {len(planned.interrupted):6d} trials, {saved_among(planned)}",
        f"to do again  {len(planned.failed):6d} trials that failed",
        f"to do        {new:6d} trials",
        f"examples     at most {examples:,}",
        f"time         {_estimate(planned, trials, record)}",
    ]
    return lines + record.troubles


def saved_among(planned: Plan) -> str:
    """How many of the interrupted trials have a checkpoint."""
    n_saved = len(planned.interrupted & planned.saved.keys())
    repeated = len(planned.interrupted) - n_saved
    return f"{n_saved} from a checkpoint and {repeated} from step 0"


def differences(trials: Sequence[Trial], record: StudyRecord, tags: dict[str, str]) -> list[str]:
    """What the user should know of the record: other commits, another version of their task."""
    lines = []
    commits = commits_of(tags)
    others = sorted(record.commits - {commits})
    if others:
        lines.append(
            f"trials of this study were trained at other commits ({'; '.join(others)}; now "
            f"{commits}): their numbers are taken as they are"
        )
    for trial in {trial.task_content: trial for trial in trials if trial.task_content}.values():
        path = trial.config.task.path  # pyright: ignore[reportAttributeAccessIssue]
        known = record.task_contents.get(path, set())
        if known and trial.task_content not in known:
            lines.append(
                f"task.path={path}: its code or data changed since trials of this study were "
                "trained; these are other trials now, trained from step 0"
            )
    return lines


def _estimate(planned: Plan, trials: Sequence[Trial], record: StudyRecord) -> str:
    """From the trials on record with the same batch size; less where a checkpoint has a part."""
    if not planned.to_do:
        return "nothing to train"
    known: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for trial in record.trials.values():
        if trial.seconds > 0:
            known[trial.batch_size].append((trial.seconds, max([1, *trial.steps[-1:]])))
    if not {trials[position].config.batch_size for position in planned.to_do} <= set(known):
        return "not known: no trial with these batch sizes is on record"
    whole = {size: float(np.mean([one[0] for one in ones])) for size, ones in known.items()}
    step = {size: sum(t for t, _ in ones) / sum(s for _, s in ones) for size, ones in known.items()}
    seconds = 0.0
    for position in planned.to_do:
        size, saved = trials[position].config.batch_size, planned.saved.get(position)
        seconds += max(0.0, whole[size] - (saved[0].step * step[size] if saved else 0.0))
    return f"about {seconds:.1f} s of training, as trials of these batch sizes took before"
