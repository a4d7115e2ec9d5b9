"""Journals into MLflow: any part, any number of times, with the same runs and points in the end.

A trial is one run of its study's experiment, found by its identity, whichever sweep trains it.
What a store has acknowledged is noted in a file beside the journals, one line each; the note only
saves work: a write that was acknowledged and not noted is done again and changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.acknowledged import Acknowledged
from scaling.journal import FolderReader, inside, is_alive
from scaling.result import TrialResult
from scaling.tracking import HAS_PICTURES, Point, Store
from scaling.views import view_tags

PICTURE = "pictures"  # key of the image slider
TAG_CHARACTERS = 5000  # MLflow cuts longer ones silently
LOG_BYTES = 2**20
FLUSH_SECONDS = 4.0  # points of a trial still training wait at most about this long
PARENT_TAG = "mlflow.parentRunId"


@dataclass(eq=False)
class _Trial:
    """A trial on its way into the store.

    sweep: the one that first had it; last: the journal (its first line) that last began it.
    end: its outcome or failure, unless it began again after that.
    """

    trial_id: str
    header: dict[str, Any]
    sweep: dict[str, Any]
    last: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    last_step: int = -1
    since: float = field(default_factory=time.monotonic)
    begun_at: float = 0.0
    end: dict[str, Any] | None = None
    commits: dict[str, None] = field(default_factory=dict)
    pictures: dict[int, tuple[str, float]] = field(default_factory=dict)  # path and time by step
    models: dict[str, str] = field(default_factory=dict)

    def take_end(self, line: dict[str, Any]) -> bool:
        """Whether this outcome or failure is the last word: journals are read one by one."""
        if line["time"] < max(self.begun_at, self.end["time"] if self.end else 0.0):
            return False
        self.end = line
        return True


class Sync:
    """Follows the journals of a study into a store; `step` does one small piece of work."""

    def __init__(self, folder: Path, store: Store, uri: str) -> None:
        self._store, self._folder = store, folder
        self._reader = FolderReader(folder)
        self._noted = Acknowledged(folder, uri)
        try:
            self._compare_note()
        except BaseException:
            self._noted.close()
            raise
        self._journals: dict[str, dict[str, Any]] = {}  # their first lines
        self._ends: dict[str, str] = {}  # status by sweep
        self._said: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # what sweeps say last
        self._named: dict[tuple[str, int], _Trial] = {}
        self._trials: dict[str, _Trial] = {}
        self._unanswered: dict[str, dict[str, str]] = {}  # identities of such runs, by key
        self._ended: deque[_Trial] = deque()
        self._pictured = False
        self.written = 0

    def _compare_note(self) -> None:
        some_run = next(iter(self._noted.runs.values()), None)
        if some_run is not None and not self._store.has_run(some_run):
            self._noted.forget()
        if not self._noted.runs and not self._store.is_empty():
            self._noted.note(look_up=True)

    def step(self) -> bool:
        """Read what is new and write one trial that has ended; False when there was nothing."""
        lines = self._reader.read()
        for journal, line in lines:
            self._take(journal, line)
        if self._ended:
            trial = self._ended[0]  # stays the first one if the store fails
            if trial.end is not None and trial.end["time"] > self._noted.ended.get(
                trial.trial_id, 0.0
            ):
                self._write(trial)
                self.written += 1
                if self.written == 1:
                    self._write_views()  # for whoever looks while the sweep goes on
            self._ended.popleft()
            return True
        return bool(lines)

    def write_stale(self) -> None:
        """Write the points of trials still training that have waited long enough."""
        now = time.monotonic()
        for trial in self._trials.values():
            if trial.points and now - trial.since > FLUSH_SECONDS:
                self._write(trial)
                trial.since = time.monotonic()

    def close_left_over(self, sweep: str) -> None:
        """Close what other sweeps than `sweep` left open: their processes are gone."""
        for trial in self._trials.values():
            other = trial.last["sweep"]["name"] != sweep
            if trial.end is None and other and not is_alive(trial.last):  # as in a copied folder
                self._close_trial(trial, "KILLED")
        for journal in self._journals.values():
            name = journal["sweep"]["name"]
            key = _sweep_key(name)
            to_close = key in self._noted.runs and key not in self._noted.closed
            if name != sweep and to_close and not is_alive(journal):
                self._close_run(key, self._ends.get(name, "KILLED"))

    def close(self, sweep: str, status: str) -> None:
        """Write everything; no run stays RUNNING: what has not ended gets `status`.

        A sweep ends as its journals say, or with `status` where they do not.
        """
        while self.step():
            pass
        status = self._ends.get(sweep, status)
        for trial in self._trials.values():
            if trial.end is None and trial.last["sweep"]["name"] == sweep:
                self._close_trial(trial, status)
        for opened, line in self._said.values():
            self._write_said(opened, line)
        if self.written:
            self._write_views()
        key = _sweep_key(sweep)
        if key in self._noted.runs:
            self._close_run(key, status)
        self.close_left_over(sweep)
        self._delete_doubles()
        self._reader.__exit__()
        self._noted.close()

    def _write_views(self) -> None:
        params = [trial.header["params"] for trial in self._trials.values()]
        targets = {target for one in params for target in one[schema.TARGETS]}
        pictures = PICTURE if self._pictured else None
        self._store.set_experiment_tags(view_tags(params, targets, pictures))

    def _write_said(self, opened: dict[str, Any], line: dict[str, Any]) -> None:
        """What a sweep says of itself, once: tags and files of its parent run."""
        name = opened["sweep"]["name"]
        key = _sweep_key(name)
        if self._noted.ended.get(key, 0.0) >= line["time"]:
            return
        known = key in self._noted.runs
        run_id = self._parent({**opened["sweep"], "time": opened["time"]})
        self._store.log(run_id, [], tags=line["tags"])
        for file, text in line["files"].items():
            self._store.log_text(run_id, text, file)
        if not known:
            self._close_run(key, self._ends.get(name, "FINISHED"))
        self._noted.note(ended=line["time"], trial_id=key)

    def _delete_doubles(self) -> None:
        """A creation that was not answered may have been done late, after it was repeated."""
        for key, identity in self._unanswered.items():
            for run_id in self._store.find_runs(identity):
                if run_id != self._noted.runs[key]:
                    self._store.delete_run(run_id)

    def _close_trial(self, trial: _Trial, status: str) -> None:
        key = _trial_key(trial.trial_id)
        if trial.points or key not in self._noted.closed:
            self._write(trial)
            self._close_run(key, status)

    def _close_run(self, key: str, status: str) -> None:
        self._store.set_status(self._noted.runs[key], status)
        self._noted.note(closed=key)

    def _take(self, journal: str, line: dict[str, Any]) -> None:
        kind = line["record"]
        if kind == "journal":
            self._journals[journal] = line
        elif kind == "trial":
            self._begin(journal, line)
        elif kind == "evaluation":
            self._evaluate(journal, line)
        elif kind in ("outcome", "failure"):
            trial = self._named[journal, line["trial"]]
            if trial.take_end(line) and trial not in self._ended:
                self._ended.append(trial)
        elif kind == "model":
            self._named[journal, line["trial"]].models[line["kind"]] = line["path"]
        elif kind == "picture":
            self._named[journal, line["trial"]].pictures[line["step"]] = line["path"], line["time"]
            self._pictured = True
        elif kind == "sweep":
            self._say(self._journals[journal], line)
        elif kind == "end":
            self._ends[self._journals[journal]["sweep"]["name"]] = line["status"]

    def _say(self, opened: dict[str, Any], line: dict[str, Any]) -> None:
        """A sweep may speak several times; a word of the same name replaces the one before."""
        name = opened["sweep"]["name"]
        before = self._said.get(name, (opened, {"tags": {}, "files": {}}))[1]
        both = {key: {**before[key], **line[key]} for key in ("tags", "files")}
        self._said[name] = (opened, {**line, **both})

    def _begin(self, journal: str, line: dict[str, Any]) -> None:
        key, opened = line["trial_id"], self._journals[journal]
        trial = self._trials.get(key)
        if trial is None:
            trial = _Trial(key, line, {**opened["sweep"], "time": opened["time"]}, opened)
            trial.last_step = self._noted.steps.get(key, -1)
            self._trials[key] = trial
        if line["time"] >= trial.begun_at:
            trial.begun_at, trial.last = line["time"], opened
        if trial.end is not None and line["time"] > trial.end["time"]:
            trial.end = None  # for more steps, or because it failed or was interrupted
        trial.commits[opened["sweep"]["tags"].get("git_commit", "none")] = None
        self._named[journal, line["trial"]] = trial

    def _evaluate(self, journal: str, line: dict[str, Any]) -> None:
        step, moment = line["step"], line["time"]
        columns = {key: line[key] for key in ("loss", "train_loss", "lr") if key in line}
        columns |= line.get("metrics", {})
        for position, number in enumerate(line["trials"]):
            trial = self._named[journal, number]
            if step <= trial.last_step:
                continue  # stands in an earlier journal, or in the store
            trial.last_step = step
            examples = float(step * trial.header["params"]["batch_size"])
            trial.points.append(("examples", examples, moment, step))
            trial.points += [
                (key, column[position], moment, step)
                for key, column in columns.items()
                if column[position] is not None
            ]

    def _write(self, trial: _Trial) -> None:
        header, end = trial.header, trial.end
        key = _trial_key(trial.trial_id)
        run_id = self._run(
            key,
            {schema.KIND: "trial", schema.TRIAL_ID: trial.trial_id},
            header["name"],
            header["time"],
            lambda: {**header["tags"], **trial.sweep["tags"], **self._child_tags(trial)},
        )
        if end is None and key in self._noted.closed:  # interrupted before, training again
            self._store.set_status(run_id, "RUNNING")
            self._noted.note(opened=key)
        points, n_points = list(trial.points), len(trial.points)
        params = header["params"] if trial.trial_id not in self._noted.steps else {}
        tags = _tags(trial) | (HAS_PICTURES if trial.pictures else {})
        if end is not None and end["record"] == "outcome":
            metrics = _metrics(TrialResult.from_line(end), header["params"]["batch_size"])
            points += [(name, value, end["time"], end["last_step"]) for name, value in metrics]
        self._store.log(run_id, points, params, tags)
        del trial.points[:n_points]
        self._noted.note(step=trial.last_step, trial_id=trial.trial_id)
        self._write_pictures(run_id, trial)
        if end is not None:
            self._end(run_id, trial, end)

    def _write_pictures(self, run_id: str, trial: _Trial) -> None:
        written = self._noted.pictures.get(trial.trial_id, -1)
        found = [
            (inside(self._folder, path), step, moment)
            for step, (path, moment) in sorted(trial.pictures.items())
            if step > written
        ]
        found = [picture for picture in found if picture[0].exists()]
        if found:
            self._store.log_pictures(run_id, found, PICTURE)
            self._noted.note(picture=found[-1][1], trial_id=trial.trial_id)
        trial.pictures.clear()

    def _end(self, run_id: str, trial: _Trial, end: dict[str, Any]) -> None:
        failed = end["record"] == "failure"
        files = {"config.yaml": trial.header["config"], **trial.header.get("files", {})}
        for name, text in files.items():
            self._store.log_text(run_id, text, name)
        for path in trial.models.values():
            file = inside(self._folder, path)
            if file.exists():
                self._store.log_file(run_id, file, "model")
        if failed:
            self._store.log_text(run_id, _text_of(Path(end["log"])), "train.log")
        elif self._noted.look_up or trial.trial_id in self._noted.failed:
            self._store.delete_tag(run_id, schema.ERROR)
        self._store.set_status(run_id, "FAILED" if failed else "FINISHED", end["time"])
        self._noted.note(
            ended=end["time"],
            trial_id=trial.trial_id,
            closed=_trial_key(trial.trial_id),
            **({"failed": trial.trial_id} if failed else {}),
        )

    def _child_tags(self, trial: _Trial) -> dict[str, str]:
        return {
            PARENT_TAG: self._parent(trial.sweep),
            schema.KIND: "trial",
            schema.STUDY: trial.sweep["study"],
            schema.SWEEP: trial.sweep["name"],
            schema.TRIAL_ID: trial.trial_id,
        }

    def _parent(self, sweep: dict[str, Any]) -> str:
        name, tags = sweep["name"], sweep["tags"]
        identity = {schema.KIND: "sweep", schema.SWEEP: name}
        identity |= {key: tags[key] for key in ("host", "directory")}
        others = {schema.STUDY: sweep["study"], "mlflow.note.content": sweep["note"], **tags}
        title = sweep.get("title", name)
        return self._run(
            _sweep_key(name), identity, title, sweep["time"], lambda: others | identity
        )

    def _run(self, key: str, identity: dict[str, str], name: str, moment: float, tags) -> str:
        """The run `key`, made if it is not there. A run that was begun and not noted may be."""
        if key in self._noted.runs:
            return self._noted.runs[key]
        unanswered = key in self._noted.begun
        found = self._store.find_runs(identity) if unanswered or self._noted.look_up else []
        if unanswered:
            self._unanswered[key] = identity
        run_id = found[0] if found else None
        if run_id is None:
            made_of = tags()
            self._noted.note(begun=key)
            run_id = self._store.create_run(name, moment, made_of)
        self._noted.note(run=key, run_id=run_id)
        return run_id


def _tags(trial: _Trial) -> dict[str, str]:
    """What is known of a trial only once it trains, and how it ended."""
    process = ("host", "pid", "process_started", "slurm_job")
    tags = {key: str(trial.last[key]) for key in process if key in trial.last}
    if len(trial.commits) > 1:
        tags[schema.GIT_COMMITS] = ", ".join(trial.commits)
    if trial.end is None:
        return tags
    if trial.end["record"] == "failure":
        return tags | {schema.ERROR: trial.end["error"][:TAG_CHARACTERS]}
    result = TrialResult.from_line(trial.end)
    tags |= {
        schema.OUTCOME: result.outcome,
        schema.LAST_STEP: str(result.last_step),
        schema.SECONDS: f"{result.seconds:.4f}",
    }
    if result.diverged_step is not None:
        tags["diverged_step"] = str(result.diverged_step)
    if result.not_finite is not None:
        tags[schema.NOT_FINITE] = result.not_finite
    for target, outcome in result.outcomes.items():
        tags[f"{schema.OUTCOME}/{schema.target_label(target)}"] = outcome
    return tags


def _metrics(result: TrialResult, batch_size: int) -> list[tuple[str, float]]:
    reached = [
        (schema.STEPS_TO_TARGET + schema.target_label(target), steps)
        for target, steps in result.steps_to_target.items()
    ]
    if result.step_seconds is None:
        return reached
    speed = batch_size / result.step_seconds
    return [*reached, (schema.STEP_SECONDS, result.step_seconds), (schema.SPEED, speed)]


def _text_of(log: Path) -> str:
    """The end of a log, however long it is; it may have been removed."""
    if log.name != "train.log":  # a journal is somebody's word: no other file is sent away
        return f"{log}: is no log of training\n"
    try:
        return log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
    except OSError as error:
        return f"{log}: {error.strerror}\n"


def _trial_key(trial_id: str) -> str:
    return f"trial {trial_id}"


def _sweep_key(name: str) -> str:
    return f"sweep {name}"
