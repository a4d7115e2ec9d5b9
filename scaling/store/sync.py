"""Journals into MLflow: any part, any number of times, with the same runs and points in the end.

A trial is one run of its study's experiment, found by its identity, whichever sweep trains it.
What a store has acknowledged is noted in a file beside the journals, which is compared with the
store when it is opened; of a run that the note does not know the store is asked what it has.
A store that is away raises; what it refuses is left out, reported, and tried again by the next one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.record.lines import FOR_A_STORE, check_line
from scaling.record.process import is_alive
from scaling.record.read_journals import FolderReader
from scaling.record.replay import Replay
from scaling.store.check import is_refused, reason_of
from scaling.store.client import Store
from scaling.store.note import Acknowledged
from scaling.store.pending import PendingTrial, sweep_key
from scaling.store.runs import Runs
from scaling.store.sweep_words import SweepWords
from scaling.store.together import RUNS, Together
from scaling.store.views import view_tags
from scaling.store.write_trial import PICTURE, TrialWriter

FLUSH_SECONDS = 4.0  # points of a trial still training wait at most about this long


class Sync:
    """Follows the journals of a study into a store; `step` does one small piece of work.

    say: hears at once of everything that is left out, a line each; `left_out` has the same lines.
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
        self._store, self._folder, self._say = store, folder, say
        self._noted = Acknowledged(folder, uri)
        self.left_out: dict[str, str] = {}  # what -> the line that says why
        self._refused: set[str] = set()  # identities of trials
        self.written = 0
        if self._noted.damage:
            say(self._noted.damage)
        self._runs = Runs(store, self._noted, self._leave_out)
        self._writer = TrialWriter(folder, store, self._noted, self._runs, self._leave_out)
        try:
            self._together = Together(self._writer, uri, store.experiment_id, say)
            self._runs.compare_note(thorough)
        except BaseException:
            self._noted.close()
            raise
        self._begin_reading()

    def _begin_reading(self) -> None:
        self._reader = FolderReader(self._folder, strict=False)
        self._replay = Replay()
        self._ends: dict[str, str] = {}  # status by sweep
        self._words = SweepWords(self._store, self._noted, self._runs, self._leave_out)
        self._trials: dict[str, PendingTrial] = {}
        self._ended: deque[PendingTrial] = deque()
        self._pictured = False

    def step(self) -> bool:
        """Read all that is new, write a trial or some together; False if there was nothing."""
        busy = self._read()
        while self._ended and not self._has_end_to_write(self._ended[0]):
            self._ended.popleft()
        if not self._ended:
            return busy
        together = self._together.write(filter(self._has_end_to_write, islice(self._ended, RUNS)))
        if together:
            self._ended = deque(trial for trial in self._ended if trial not in together)
            self._count(len(together))
            return True
        trial = self._ended[0]  # stays the first one if the store fails
        if self._guarded(trial, lambda: self._write(trial)):
            self._count(1)
        if self._ended and self._ended[0] is trial:  # else reading has begun again
            self._ended.popleft()
        return True

    def _count(self, n_written: int) -> None:
        first = self.written == 0
        self.written += n_written
        if first:
            self._write_views()  # for whoever looks while the sweep goes on

    def _read(self) -> bool:
        busy = False
        for journal, number, line in self._reader.lines():
            busy = True
            try:
                self._take(journal, line)
            except ValueError as error:
                self._reader.leave_out(journal, number, str(error))
        for damage in self._reader.damages():
            what = f"journal {damage.partition(': ')[0]}"
            if what not in self.left_out:
                self._say(damage)
            self.left_out[what] = damage
        return busy

    def _take(self, journal: str, line: dict[str, Any]) -> None:
        """ValueError for what cannot be used; then nothing of it is taken."""
        kind = line["record"]
        check_line(line, FOR_A_STORE)
        about = self._replay.take(journal, line)
        opened = self._replay.journals.get(journal, {})
        if kind == "evaluation":
            for position, (course, turn) in enumerate(about):
                if not self._noted.has(course.trial_id, line["step"]):
                    trial = self._trials[course.trial_id]
                    trial.take_evaluation(line["step"], (turn, line, position))
        elif kind == "sweep":
            self._words.take(opened, line)
        elif kind == "end":
            self._ends[opened["sweep"]["name"]] = line["status"]
        elif about:
            course, _ = about[0]
            trial = self._trials.setdefault(course.trial_id, PendingTrial(course))
            trial.take(opened, line)
            self._pictured |= kind == "picture"
            if kind in ("outcome", "failure") and trial not in self._ended:
                self._ended.append(trial)

    def _write(self, trial: PendingTrial) -> None:
        self._writer.write(trial)

    def _has_end_to_write(self, trial: PendingTrial) -> bool:
        if trial.course.end is None:
            return False
        return bool(trial.evaluations) or (
            self._noted.ended.get(trial.trial_id) != trial.course.end_mark
        )

    def _guarded(self, trial: PendingTrial, write: Callable[[], None]) -> bool:
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

    def _refuse(self, trial: PendingTrial, error: Exception) -> None:
        if self._runs.is_deleted(trial):
            self._say(f"{trial.name}: its run was deleted in the store; it gets a new one")
            self._reader.close()
            self._begin_reading()
            return
        self._refused.add(trial.trial_id)
        self._together.leave_out(trial)
        self._leave_out(trial.key, f"{trial.name}: the store refuses it ({reason_of(error)})")

    @property
    def n_refused(self) -> int:
        return len(self._refused)

    @property
    def left(self) -> int:
        """Trials that have ended and are still to be written, as far as the journals were read."""
        return sum(map(self._has_end_to_write, self._ended))

    def _leave_out(self, what: str, line: str) -> None:
        if self.left_out.get(what) != line:
            self.left_out[what] = line
            self._say(line)

    def write_stale(self) -> None:
        """Write the points of trials still training that have waited long enough."""
        now = time.monotonic()
        stale = [
            trial
            for trial in self._trials.values()
            if trial.evaluations and now - trial.since > FLUSH_SECONDS
        ]
        while together := self._together.write(stale):
            for trial in together:
                trial.since = time.monotonic()
            stale = [trial for trial in stale if trial not in together]
        for trial in stale:
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
            if name != sweep and self._is_open(name) and not is_alive(journal):
                self._runs.close(sweep_key(name), self._ends.get(name, "KILLED"))

    def _is_open(self, sweep: str) -> bool:
        key = sweep_key(sweep)
        return key in self._noted.runs and key not in self._noted.closed

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
        self._words.write(self._ends)
        if self.written:
            self._write_views()
        if sweep_key(sweep) in self._noted.runs:
            self._runs.close(sweep_key(sweep), status)
        self.close_left_over(sweep)
        self._runs.delete_doubles()
        self.abandon()

    def abandon(self) -> None:
        """Let go of the files."""
        self._reader.close()
        self._noted.close()

    def _close_trial(self, trial: PendingTrial, status: str) -> None:
        forgotten = trial.trial_id not in self._noted.steps

        def write() -> None:
            self._write(trial)
            self._runs.close(trial.key, status)

        if trial.evaluations or forgotten or trial.key not in self._noted.closed:
            self._guarded(trial, write)

    def _write_views(self) -> None:
        params = [trial.params for trial in self._trials.values()]
        targets = {target for one in params for target in one.get(schema.TARGETS, [])}
        pictures = PICTURE if self._pictured else None
        self._store.set_experiment_tags(view_tags(params, targets, pictures))
