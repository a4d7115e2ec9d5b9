"""Journals into MLflow: any part, any number of times, with the same runs and points in the end.

A trial is one run of its study's experiment, found by its identity, whichever sweep trains it.
What a store has acknowledged is noted in a file beside the journals, one line each; the note only
saves work: a write that was acknowledged and not noted is done again and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.journal import FolderReader
from scaling.tracking import Point, Store, without_password

FLUSH_SECONDS = 4.0  # points of a trial still training wait at most about this long
PARENT_TAG = "mlflow.parentRunId"


class Acknowledged:
    """What one store has taken of a study: runs by identity, and how far each trial is written.

    Lines: {"look_up": true} first, if the store had runs that this note knows nothing of;
    {"begun": key} before a run is created, {"run": key, "run_id": ..} after;
    {"step": s, "trial_id": ..}; {"ended": time of the outcome, "trial_id": ..};
    {"closed": key} when a run without outcome got its last status, {"opened": key} when it goes on.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        name = hashlib.sha256(without_password(uri).encode()).hexdigest()[:12]
        self._path = folder / f"synced-{name}.json_lines"
        self.look_up = False
        self.begun: set[str] = set()
        self.closed: set[str] = set()
        self.runs: dict[str, str] = {}
        self.steps: dict[str, int] = {}
        self.ended: dict[str, float] = {}
        if self._path.exists():
            for line in self._path.read_bytes().split(b"\n")[:-1]:
                self._take(json.loads(line))
            self._cut_torn_line()
        self._file = self._path.open("a", encoding="utf-8")

    def _cut_torn_line(self) -> None:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self._path.open("rb+") as file:
                file.truncate(whole)

    def _take(self, line: dict[str, Any]) -> None:
        if "look_up" in line:
            self.look_up = True
        if "begun" in line:
            self.begun.add(line["begun"])
        if "closed" in line:
            self.closed.add(line["closed"])
        if "opened" in line:
            self.closed.discard(line["opened"])
        if "run" in line:
            self.runs[line["run"]] = line["run_id"]
        if "step" in line:
            self.steps[line["trial_id"]] = line["step"]
        if "ended" in line:
            self.ended[line["trial_id"]] = line["ended"]

    def note(self, **line: Any) -> None:
        self._take(line)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def forget(self) -> None:
        """The store is not the one that acknowledged this: everything is to be written again."""
        self._file.close()
        self._file = self._path.open("w", encoding="utf-8")
        self.begun, self.closed = set(), set()
        self.runs, self.steps, self.ended = {}, {}, {}

    def close(self) -> None:
        self._file.close()


@dataclass(eq=False)
class _Trial:
    """A trial on its way into the store."""

    trial_id: str
    header: dict[str, Any]
    sweep: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    last_step: int = -1
    since: float = field(default_factory=time.monotonic)
    outcome: dict[str, Any] | None = None


class Sync:
    """Follows the journals of a study into a store; `step` does one small piece of work."""

    def __init__(self, folder: Path, store: Store, uri: str) -> None:
        self._store = store
        self._reader = FolderReader(folder)
        self._noted = Acknowledged(folder, uri)
        some_run = next(iter(self._noted.runs.values()), None)
        if some_run is not None and not store.has_run(some_run):
            self._noted.forget()
        if not self._noted.runs and not store.is_empty():
            self._noted.note(look_up=True)
        self._sweeps: dict[str, dict[str, Any]] = {}  # by journal
        self._named: dict[tuple[str, int], _Trial] = {}
        self._trials: dict[str, _Trial] = {}
        self._ended: deque[_Trial] = deque()
        self.written = 0

    def step(self) -> bool:
        """Read what is new and write one trial that has ended; False when there was nothing."""
        lines = self._reader.read()
        for journal, line in lines:
            self._take(journal, line)
        if self._ended:
            trial = self._ended[0]  # stays the first one if the store fails
            if trial.outcome is not None:  # not begun again since
                self._write(trial)
                self.written += 1
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

    def close(self, sweep: str, status: str) -> None:
        """Write everything; no run stays RUNNING: what has not ended gets `status`."""
        while self.step():
            pass
        for trial in self._trials.values():
            key = _trial_key(trial.trial_id)
            if trial.outcome is None and (trial.points or key not in self._noted.closed):
                self._write(trial)
                self._close_run(key, status)
        for name in {content["name"] for content in self._sweeps.values()}:
            key = _sweep_key(name)
            if key in self._noted.runs and (name == sweep or key not in self._noted.closed):
                self._close_run(key, status if name == sweep else self._end_of(name))
        self._reader.__exit__()
        self._noted.close()

    def _close_run(self, key: str, status: str) -> None:
        self._store.set_status(self._noted.runs[key], status)
        self._noted.note(closed=key)

    def _end_of(self, sweep: str) -> str:
        ends = [c.get("status", "KILLED") for c in self._sweeps.values() if c["name"] == sweep]
        return "KILLED" if "KILLED" in ends else ends[0]

    def _take(self, journal: str, line: dict[str, Any]) -> None:
        kind = line["record"]
        if kind == "journal":
            self._sweeps[journal] = {**line["sweep"], "time": line["time"]}
        elif kind == "trial":
            self._begin(journal, line)
        elif kind == "evaluation":
            self._evaluate(journal, line)
        elif kind == "outcome":
            trial = self._named[journal, line["trial"]]
            trial.outcome = line
            noted = self._noted.ended.get(trial.trial_id, 0.0)
            if line["time"] > noted and trial not in self._ended:
                self._ended.append(trial)
        elif kind == "end":
            self._sweeps[journal]["status"] = line["status"]

    def _begin(self, journal: str, line: dict[str, Any]) -> None:
        key = line["trial_id"]
        trial = self._trials.get(key)
        if trial is None:
            trial = _Trial(key, line, self._sweeps[journal])
            trial.last_step = self._noted.steps.get(key, -1)
            self._trials[key] = trial
        trial.outcome = None  # trained again: for more steps, or because it was interrupted
        self._named[journal, line["trial"]] = trial

    def _evaluate(self, journal: str, line: dict[str, Any]) -> None:
        step, moment = line["step"], line["time"]
        columns = {key: line[key] for key in ("loss", "train_loss", "lr") if key in line}
        for position, number in enumerate(line["trials"]):
            trial = self._named[journal, number]
            if step <= trial.last_step:
                continue  # stands in an earlier journal, or in the store
            trial.last_step = step
            examples = float(step * trial.header["params"]["batch_size"])
            trial.points.append(("examples", examples, moment, step))
            trial.points += [
                (key, column[position], moment, step) for key, column in columns.items()
            ]

    def _write(self, trial: _Trial) -> None:
        header, outcome = trial.header, trial.outcome
        run_id = self._run(
            _trial_key(trial.trial_id),
            {schema.KIND: "trial", schema.TRIAL_ID: trial.trial_id},
            header["name"],
            header["time"],
            lambda: {**header["tags"], **trial.sweep["tags"], **self._child_tags(trial)},
        )
        key = _trial_key(trial.trial_id)
        if outcome is None and key in self._noted.closed:  # interrupted before, training again
            self._store.set_status(run_id, "RUNNING")
            self._noted.note(opened=key)
        points, n_points = list(trial.points), len(trial.points)
        params = header["params"] if trial.trial_id not in self._noted.steps else {}
        tags = {} if outcome is None else outcome["tags"]
        if outcome is not None:
            moment, step = outcome["time"], outcome["last_step"]
            points += [(key, value, moment, step) for key, value in outcome["metrics"].items()]
        self._store.log(run_id, points, params, tags)
        del trial.points[:n_points]
        self._noted.note(step=trial.last_step, trial_id=trial.trial_id)
        if outcome is not None:
            self._store.log_text(run_id, header["config"], "config.yaml")
            self._store.set_status(run_id, "FINISHED", outcome["time"])
            self._noted.note(ended=outcome["time"], trial_id=trial.trial_id)

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
        return self._run(_sweep_key(name), identity, name, sweep["time"], lambda: others | identity)

    def _run(self, key: str, identity: dict[str, str], name: str, moment: float, tags) -> str:
        """The run `key`, made if it is not there. A run that was begun and not noted may be."""
        if key in self._noted.runs:
            return self._noted.runs[key]
        unsure = self._noted.look_up or key in self._noted.begun
        run_id = self._store.find_run(identity) if unsure else None
        if run_id is None:
            made_of = tags()
            self._noted.note(begun=key)
            run_id = self._store.create_run(name, moment, made_of)
        self._noted.note(run=key, run_id=run_id)
        return run_id


def _trial_key(trial_id: str) -> str:
    return f"trial {trial_id}"


def _sweep_key(name: str) -> str:
    return f"sweep {name}"
