"""Journals into MLflow: any part, any number of times, with the same runs and points in the end.

A trial is one run of its study's experiment, found by its identity, whichever sweep trains it.
What a store has acknowledged is noted in a file beside the journals, which is held against the
store when it is opened; of a run that the note does not know the store is asked what it has.
A store that is away raises; what it refuses is left out, said, and tried again by the next one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.record.files import end_of_log, file_of
from scaling.record.journal import FolderReader, JournalError, is_alive
from scaling.record.lines import FOR_A_STORE, check_line
from scaling.record.replay import Course, Replay, Turn
from scaling.store.check import is_refused, reason_of
from scaling.store.client import HAS_PICTURES, HeldRun, Point, Store, as_text
from scaling.store.metrics import TAG_CHARACTERS, end_metrics, run_tags
from scaling.store.note import Acknowledged
from scaling.store.views import view_tags
from scaling.validation import validate_names

PICTURE = "pictures"  # key of the image slider
FLUSH_SECONDS = 4.0  # points of a trial still training wait at most about this long
PARENT_TAG = "mlflow.parentRunId"
Evaluated = tuple[Turn, dict[str, Any], int]  # the turn, the line, the trial's position in it


@dataclass(eq=False)
class _Trial:
    """A trial on its way into the store. evaluations: what is to be written, by step.

    asked: every key of schema.REQUESTED that it was ever asked with.
    """

    trial_id: str
    course: Course
    evaluations: dict[int, Evaluated] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    asked: dict[str, None] = field(default_factory=dict)
    commits: dict[str, None] = field(default_factory=dict)
    pictures: dict[int, tuple[str, float]] = field(default_factory=dict)  # path and time by step
    models: dict[str, str] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        return self.course.latest["params"]

    @property
    def name(self) -> str:
        return self.course.first["name"]

    @property
    def sweep(self) -> dict[str, Any]:
        """The one that first had it."""
        opened = self.course.first_journal
        return {**opened["sweep"], "time": opened["time"]}

    def take(self, step: int, evaluated: Evaluated) -> None:
        """Of a step that was made in several turns the first one counts."""
        known = self.evaluations.get(step)
        if known is None or evaluated[0] < known[0]:
            self.evaluations[step] = evaluated

    def points(self, steps: Sequence[int]) -> list[Point]:
        points: list[Point] = []
        for step in steps:
            _, line, position = self.evaluations[step]
            moment = line["time"]
            columns = {key: line[key] for key in ("loss", "train_loss", "lr") if key in line}
            columns |= line.get("metrics", {})
            examples = float(step * self.params["batch_size"])
            points.append(("examples", examples, moment, step))
            points += [
                (key, column[position], moment, step)
                for key, column in columns.items()
                if column[position] is not None
            ]
        return points


class Sync:
    """Follows the journals of a study into a store; `step` does one small piece of work.

    say: hears at once of everything that is left out, a line each; the same stand in `left_out`.
    thorough: ask the store for what it has also where that takes a request a metric and run.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        uri: str,
        say: Callable[[str], None] = lambda line: None,
        thorough: bool = False,
    ) -> None:
        self._store, self._folder, self._say_line = store, folder, say
        self._noted = Acknowledged(folder, uri)
        self.left_out: dict[str, str] = {}  # what -> the line that says why
        self._refused: set[str] = set()  # identities of trials
        self._unanswered: dict[str, dict[str, str]] = {}  # identities of such runs, by key
        self.written = 0
        if self._noted.said:
            say(self._noted.said)
        try:
            self._compare_note(thorough)
        except BaseException:
            self._noted.close()
            raise
        self._begin_reading()

    def _begin_reading(self) -> None:
        self._reader = FolderReader(self._folder, strict=False)
        self._replay = Replay()
        self._ends: dict[str, str] = {}  # status by sweep
        self._words: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # what sweeps say last
        self._trials: dict[str, _Trial] = {}
        self._ended: deque[_Trial] = deque()
        self._pictured = False

    def _compare_note(self, thorough: bool) -> None:
        """Forget what was noted of a trial whose run is not, or no more, as it was noted."""
        held = self._store.runs()
        noted = self._noted
        ours = {i for i, run in held.items() if run.tags.get(schema.KIND) in ("trial", "sweep")}
        gone = [key for key, run_id in noted.runs.items() if run_id not in held]
        if not noted.look_up and (gone or ours - set(noted.runs.values())):
            noted.note(look_up=True)
        for key in gone:  # deleted, or the store is another one
            noted.note(lost=key)
        known = {trial_id: noted.runs.get(_trial_key(trial_id)) for trial_id in noted.steps}
        run_ids = [run_id for run_id in known.values() if run_id is not None]
        counted = self._store.count_points(run_ids, thorough)
        for trial_id, run_id in known.items():
            if run_id is None or not self._is_as_noted(trial_id, held[run_id], counted.get(run_id)):
                noted.note(forget=trial_id)

    def _is_as_noted(self, trial_id: str, run: HeldRun, n_points: int | None) -> bool:
        noted = self._noted
        if n_points is not None and n_points < noted.points[trial_id]:
            return False
        if len(run.params) < noted.params[trial_id] or run.tags.get(schema.TRIAL_ID) != trial_id:
            return False
        ended = trial_id in noted.ended
        closed = _trial_key(trial_id) in noted.closed
        said = schema.OUTCOME in run.tags or schema.ERROR in run.tags
        return (said or not ended) and (run.status != "RUNNING" or not (ended or closed))

    def step(self) -> bool:
        """Read all that is new and write one trial that has ended; False when there was nothing."""
        busy = False
        for journal, number, line in self._reader.lines():
            busy = True
            try:
                self._take(journal, line)
            except ValueError as error:
                self._reader.leave_out(journal, number, str(error))
        self._say_damages()
        if not self._ended:
            return busy
        trial = self._ended[0]  # stays the first one if the store fails
        if self._to_be_ended(trial) and self._guarded(trial, lambda: self._write(trial)):
            self.written += 1
            if self.written == 1:
                self._write_views()  # for whoever looks while the sweep goes on
        if self._ended and self._ended[0] is trial:  # else reading has begun again
            self._ended.popleft()
        return True

    def _to_be_ended(self, trial: _Trial) -> bool:
        if trial.course.end is None:
            return False
        lacks = bool(trial.evaluations)
        return lacks or self._noted.ended.get(trial.trial_id) != trial.course.end_mark

    def _guarded(self, trial: _Trial, write: Callable[[], None]) -> bool:
        """Write; what the store refuses of one trial keeps no other one from it."""
        if trial.trial_id in self._refused:
            return False
        try:
            write()
        except Exception as error:
            if not is_refused(error):
                raise
            self._refuse(trial, error)
            return False
        return True

    def _refuse(self, trial: _Trial, error: Exception) -> None:
        key = _trial_key(trial.trial_id)
        run_id = self._noted.runs.get(key)
        if run_id is not None and not self._store.has_run(run_id):  # deleted in MLflow's pages
            self._noted.note(lost=key)
            self._noted.note(forget=trial.trial_id)
            self._say(key, f"{trial.name}: its run was deleted in the store; it gets a new one")
            del self.left_out[key]
            self._reader.close()
            self._begin_reading()
            return
        self._refused.add(trial.trial_id)
        self._say(key, f"{trial.name}: the store refuses it ({reason_of(error)})")

    @property
    def n_refused(self) -> int:
        return len(self._refused)

    @property
    def left(self) -> int:
        """Trials that have ended and are still to be written, as far as the journals were read."""
        return sum(map(self._to_be_ended, self._ended))

    def _say(self, what: str, line: str) -> None:
        if self.left_out.get(what) != line:
            self.left_out[what] = line
            self._say_line(line)

    def _say_damages(self) -> None:
        for line in self._reader.damages():
            what = f"journal {line.partition(': ')[0]}"
            if what not in self.left_out:
                self._say_line(line)
            self.left_out[what] = line

    def write_stale(self) -> None:
        """Write the points of trials still training that have waited long enough."""
        now = time.monotonic()
        for trial in list(self._trials.values()):
            if trial.evaluations and now - trial.since > FLUSH_SECONDS:
                self._guarded(trial, lambda trial=trial: self._write(trial))
                trial.since = time.monotonic()

    def close_left_over(self, sweep: str) -> None:
        """Close what other sweeps than `sweep` left open: their processes are gone."""
        for trial in list(self._trials.values()):
            course = trial.course
            other = course.last_journal["sweep"]["name"] != sweep
            if course.end is None and other and not is_alive(course.last_journal):
                self._close_trial(trial, "KILLED")  # alive: as in a copied folder
        for journal in self._replay.journals.values():
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
        for trial in list(self._trials.values()):
            name = trial.course.last_journal["sweep"]["name"]
            if trial.course.end is None and name == sweep:
                self._close_trial(trial, status)
        for opened, line in self._words.values():
            self._write_words(opened, line)
        if self.written:
            self._write_views()
        key = _sweep_key(sweep)
        if key in self._noted.runs:
            self._close_run(key, status)
        self.close_left_over(sweep)
        self._delete_doubles()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files."""
        self._reader.close()
        self._noted.close()

    def _write_views(self) -> None:
        params = [trial.params for trial in self._trials.values()]
        targets = {target for one in params for target in one.get(schema.TARGETS, [])}
        pictures = PICTURE if self._pictured else None
        self._store.set_experiment_tags(view_tags(params, targets, pictures))

    def _write_words(self, opened: dict[str, Any], line: dict[str, Any]) -> None:
        """What a sweep says of itself, once: tags and files of its parent run."""
        name = opened["sweep"]["name"]
        key = _sweep_key(name)
        words = json.dumps([line["tags"], line["files"]], sort_keys=True)
        digest = hashlib.sha256(words.encode()).hexdigest()[:16]
        if self._noted.words.get(key) == digest:
            return
        known = key in self._noted.runs
        try:
            run_id = self._parent({**opened["sweep"], "time": opened["time"]})
            self._store.log(run_id, [], tags=line["tags"])
        except Exception as error:
            if not is_refused(error):
                raise
            self._say(key, f"sweep {name}: the store refuses it ({reason_of(error)})")
            return
        self._write_texts(run_id, line["files"], f"sweep {name}")
        if not known:
            self._close_run(key, self._ends.get(name, "FINISHED"))
        self._noted.note(said=digest, sweep=key)

    def _write_texts(self, run_id: str, files: dict[str, str], whose: str) -> None:
        for name, text in files.items():
            try:
                validate_names("files", [name])
                self._store.log_text(run_id, text, name)
            except Exception as error:
                if not is_refused(error):
                    raise
                self._say(f"file {whose} {name}", f"{whose}: its file {name} ({reason_of(error)})")

    def _delete_doubles(self) -> None:
        """A creation that was not answered may have been done late, after it was repeated."""
        for key, identity in self._unanswered.items():
            for run_id in self._store.find_runs(identity):
                if run_id != self._noted.runs.get(key):
                    self._store.delete_run(run_id)

    def _close_trial(self, trial: _Trial, status: str) -> None:
        key = _trial_key(trial.trial_id)
        forgotten = trial.trial_id not in self._noted.steps

        def write() -> None:
            self._write(trial)
            self._close_run(key, status)

        if trial.evaluations or forgotten or key not in self._noted.closed:
            self._guarded(trial, write)

    def _close_run(self, key: str, status: str) -> None:
        try:
            self._store.set_status(self._noted.runs[key], status)
        except Exception as error:
            if not is_refused(error):
                raise
            self._say(key, f"{key}: the store does not close its run ({reason_of(error)})")
        self._noted.note(closed=key)

    def _take(self, journal: str, line: dict[str, Any]) -> None:
        """ValueError for what cannot be used; then nothing of it is taken."""
        kind = line["record"]
        check_line(line, FOR_A_STORE)
        about = self._replay.take(journal, line)
        opened = self._replay.journals.get(journal, {})
        if kind == "evaluation":
            for position, (course, turn) in enumerate(about):
                if not self._noted.has(course.trial_id, line["step"]):
                    self._trials[course.trial_id].take(line["step"], (turn, line, position))
        elif kind == "sweep":
            self._take_words(opened, line)
        elif kind == "end":
            self._ends[opened["sweep"]["name"]] = line["status"]
        elif about:
            self._take_of_trial(about[0][0], opened, line)

    def _take_of_trial(self, course: Course, opened: dict[str, Any], line: dict[str, Any]) -> None:
        kind = line["record"]
        trial = self._trials.setdefault(course.trial_id, _Trial(course.trial_id, course))
        if kind == "trial":
            if line.get("trains", True):
                trial.commits[opened["sweep"]["tags"].get("git_commit", "none")] = None
            trial.asked |= {key: None for key in schema.REQUESTED if key in line["params"]}
        elif kind == "model":
            trial.models[line["kind"]] = line["path"]
        elif kind == "picture":
            trial.pictures[line["step"]] = line["path"], line["time"]
            self._pictured = True
        elif trial not in self._ended:
            self._ended.append(trial)

    def _take_words(self, opened: dict[str, Any], line: dict[str, Any]) -> None:
        """A sweep may speak several times; a word of the same name replaces the one before."""
        name = opened["sweep"]["name"]
        before = self._words.get(name, (opened, {"tags": {}, "files": {}}))[1]
        both = {key: {**before[key], **line[key]} for key in ("tags", "files")}
        self._words[name] = (opened, {**line, **both})

    def _write(self, trial: _Trial) -> None:
        course, end, noted = trial.course, trial.course.end, self._noted
        key = _trial_key(trial.trial_id)
        run_id, made = self._run_of(trial)
        if end is None and key in noted.closed:  # interrupted before, training again
            self._store.set_status(run_id, "RUNNING")
            noted.note(opened=key)
        steps = sorted(step for step in trial.evaluations if not noted.has(trial.trial_id, step))
        points = trial.points(steps)
        tags = run_tags(course, trial.commits) | self._request_tags(trial)
        tags |= HAS_PICTURES if trial.pictures else {}
        if end is not None and end["record"] == "outcome":
            metrics = end_metrics(end, trial.params["batch_size"])
            ended = [(name, value, end["time"], end["last_step"]) for name, value in metrics]
            points += ended
        params: dict[str, Any] = {}
        n_points = noted.points.get(trial.trial_id, 0)
        n_params = noted.params.get(trial.trial_id, 0)
        unknown = trial.trial_id not in noted.steps  # of this run the note knows nothing
        stored: dict[str, set[int]] = {}
        if not made and (unknown or course.turn != course.first_turn):  # it may have ended before
            stored = self._store.points(run_id)
            points = [one for one in points if one[3] not in stored.get(one[0], ())]
        if unknown:
            params = {k: v for k, v in trial.params.items() if k not in schema.REQUESTED}
            n_params = len(params)
            if not made:
                n_points = sum(map(len, stored.values()))
                present = self._store.params(run_id)
                params = {k: v for k, v in params.items() if k not in present}
                tags = self._tags_of_new(trial) | tags
        self._store.log(run_id, points, params, tags)
        n_points += len(points)
        noted.note(steps=steps, points=n_points, params=n_params, trial_id=trial.trial_id)
        for step in steps:
            trial.evaluations.pop(step, None)
        self._write_pictures(run_id, trial, made)
        if end is not None:
            self._end(run_id, trial, end)

    def _request_tags(self, trial: _Trial) -> dict[str, str]:
        """What the newest request asks for; the tag `device` is where it ran."""
        asked = {key: trial.params.get(key, schema.NOT_ASKED) for key in trial.asked}
        return {k: as_text(v)[:TAG_CHARACTERS] for k, v in asked.items() if k != "device"}

    def _write_pictures(self, run_id: str, trial: _Trial, made: bool) -> None:
        written = self._noted.pictures.get(trial.trial_id)
        if trial.pictures and written is None:
            written = set() if made else self._store.picture_steps(run_id, PICTURE)
        found = []
        for step, (path, moment) in sorted(trial.pictures.items()):
            if step not in (written or ()) and (file := self._file(trial, path)) is not None:
                found.append((file, step, moment))
        if found:
            for path in self._store.log_pictures(run_id, found, PICTURE):
                self._say(f"file {path}", f"{trial.name}: {path} is no picture")
            steps = [step for _, step, _ in found]
            self._noted.note(pictures=steps, trial_id=trial.trial_id)
        trial.pictures.clear()

    def _file(self, trial: _Trial, path: str) -> Path | None:
        """A file of the trial's that may be sent; None, and said, where it may not."""
        try:
            return file_of(self._folder, path)
        except JournalError as error:
            self._say(f"file {path}", f"{trial.name}: not sent: {error}")
            return None

    def _end(self, run_id: str, trial: _Trial, end: dict[str, Any]) -> None:
        failed = end["record"] == "failure"
        header = trial.course.latest
        files = {"config.yaml": header["config"], **header.get("files", {})}
        self._write_texts(run_id, files, trial.name)
        for path in trial.models.values():
            file = self._file(trial, path)
            if file is not None:
                self._store.log_file(run_id, file, "model")
        if failed:
            text, refusal = end_of_log(self._folder, end["log"])
            if refusal:
                self._say(f"file {end['log']}", f"{trial.name}: not sent: {refusal}")
            self._store.log_text(run_id, text, "train.log")
        elif self._noted.look_up or trial.trial_id in self._noted.failed:
            self._store.delete_tag(run_id, schema.ERROR)
        self._store.set_status(run_id, "FAILED" if failed else "FINISHED", end["time"])
        self._noted.note(
            ended=trial.course.end_mark,
            trial_id=trial.trial_id,
            closed=_trial_key(trial.trial_id),
            **({"failed": trial.trial_id} if failed else {}),
        )

    def _run_of(self, trial: _Trial) -> tuple[str, bool]:
        """The trial's run, and whether it was made now."""
        return self._run(
            _trial_key(trial.trial_id),
            {schema.KIND: "trial", schema.TRIAL_ID: trial.trial_id},
            trial.name,
            trial.course.first["time"],
            lambda: self._tags_of_new(trial),
        )

    def _tags_of_new(self, trial: _Trial) -> dict[str, str]:
        return {
            **trial.course.first["tags"],
            **trial.sweep["tags"],
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
        )[0]

    def _run(
        self,
        key: str,
        identity: dict[str, str],
        name: str,
        moment: float,
        tags: Callable[[], dict[str, str]],
    ) -> tuple[str, bool]:
        """The run `key`, made if it is not there. A run that was begun and not noted may be."""
        if key in self._noted.runs:
            return self._noted.runs[key], False
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
        return run_id, not found


def _trial_key(trial_id: str) -> str:
    return f"trial {trial_id}"


def _sweep_key(name: str) -> str:
    return f"sweep {name}"
