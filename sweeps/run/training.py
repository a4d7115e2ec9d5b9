"""Trains the units of a sweep: submits them, retries, and collects their results."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scaling.record.journal import Journal, RecordError
from scaling.record.read_journals import FolderReader
from scaling.result import TrialResult
from sweeps.run.executors import Executor
from sweeps.run.executors.local import end_of
from sweeps.run.options import LauncherOptions
from sweeps.run.progress import Count
from sweeps.run.time_left import Pace
from sweeps.run.trainer import Place
from sweeps.run.units import Unit, rest_of
from sweeps.run.worker import Ended

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
RETRIED = ("lost", "timeout", "memory")  # an error of the code itself would come again
LEFT = ("unbegun", "paused", "cancelled", *RETRIED)  # if the sweep is told to stop
TERM_SECONDS = 30.0  # what training may take to be saved after a SIGTERM
SHOWN_SECONDS = 90.0  # after this a shared folder shows everywhere what one machine wrote


@dataclass(frozen=True)
class Failure:
    """Trials (numbers) that failed together, the first line of why, and where the rest stands."""

    numbers: list[int]
    name: str
    error: str
    log: Path


@dataclass
class Training:
    """A sweep while it trains. results and failures grow; stopped: not everything was trained.

    n_skipped: trials of the sweep that were finished before.
    meanwhile: called at every poll. pace: what is known of it from before.
    """

    place: Place
    options: LauncherOptions
    journal: Journal
    executor: Executor
    trained: Count
    pace: Pace = field(default_factory=Pace)
    meanwhile: Callable[[], None] = lambda: None
    results: dict[int, TrialResult] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    stopped: bool = False
    n_skipped: int = 0
    _trained: set[int] = field(default_factory=set)
    _noticed: set[str] = field(default_factory=set)

    def run(self, units: Sequence[Unit]) -> None:
        """Until every unit has ended, or `stop`; RecordError if nothing more can be recorded."""
        waiting, running = deque(units), {}
        self.pace.begin(units)
        self.pace.rest()
        there = _identity(self.place.folder)
        with FolderReader(self.place.folder, new=True) as journals:
            while running or (waiting and not self.stopped):
                self._refuse_moved(there)
                if waiting and len(running) < self.executor.capacity and not self.stopped:
                    room = self.executor.capacity - len(running)
                    n = min(room, len(waiting))
                    running |= self._submit([waiting.popleft() for _ in range(n)])
                self.executor.poll()
                done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                self.executor.poll()  # what broke meanwhile trains no more when its rest is read
                self._hear(journals)
                self._show(running.values(), waiting)
                self.meanwhile()
                for future in done:
                    waiting.extend(self._ended(running.pop(future), future))
            self._refuse_moved(there)
            self._hear_the_last(journals)

    def _refuse_moved(self, there: tuple[int, int] | None) -> None:
        """RecordError if the record folder was replaced: workers would continue in the old one,
        which is no longer read."""
        if _identity(self.place.folder) != there:
            self.stop()
            raise RecordError(f"{self.place.folder}: was moved or removed while its sweep trained")

    def _submit(self, units: Sequence[Unit]) -> dict[Future[Ended], Unit]:
        for unit in units:
            unit.log.parent.mkdir(parents=True, exist_ok=True)
        return dict(zip(self.executor.submit(units), units, strict=True))

    @property
    def left(self) -> int:
        """Trials that have neither a result nor failed."""
        return self.trained.total - len(self.results) - sum(len(f.numbers) for f in self.failures)

    @property
    def status(self) -> str:
        if self.failures:
            return "FAILED"
        return "KILLED" if self.left else "FINISHED"

    def stop(self) -> None:
        self.stopped = True
        self.executor.stop()

    def _hear(self, journals: FolderReader) -> None:
        now = time.monotonic()
        for _, line in journals.read():
            if line["record"] == "outcome":
                self.results[line["trial"]] = TrialResult.from_line(line)
                self.pace.came_to(now, line["trial"], line["last_step"], ended=True)
                self.trained.add()
            elif line["record"] == "evaluation":
                for number in line["trials"]:
                    self.pace.came_to(now, number, line["step"])
            elif line["record"] == "notice" and line["text"] not in self._noticed:
                self._noticed.add(line["text"])
                log.warning("%s", line["text"])

    def _show(self, running: Iterable[Unit], waiting: Iterable[Unit]) -> None:
        """How many trials train, failed, and were done before, and how long it still takes."""
        self.trained.seconds_left = self.pace.seconds_left(
            time.monotonic(),
            [unit.numbers for unit in running],
            [unit.numbers for unit in waiting],
            self.executor.capacity,
        )
        n_running = sum(n not in self.results for unit in running for n in unit.numbers)
        n_failed = sum(len(failure.numbers) for failure in self.failures)
        counts = {"running": n_running, "failed": n_failed, "skipped": self.n_skipped}
        self.trained.state = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        self.trained.show()

    def _hear_the_last(self, journals: FolderReader) -> None:
        """Outcomes that were written on another machine may take a while to be seen here."""
        deadline = time.monotonic() + SHOWN_SECONDS
        self._hear(journals)
        while not self._trained <= self.results.keys() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            self._hear(journals)

    def _ended(self, unit: Unit, future: Future[Ended]) -> list[Unit]:
        """Units to do instead: those of a unit that is tried again."""
        ended = end_of(future, unit, self.options.trial_timeout_seconds)
        if ended.kind == "record":
            self.stop()
            raise RecordError(ended.text)
        if ended.kind == "done":
            self._trained.update(unit.numbers)
        if ended.kind in ("done", "stopped"):
            return []
        if self.stopped and ended.kind in LEFT:
            return []  # interrupted like the others: nobody knows what it would have done
        if ended.kind == "unbegun":
            return [unit]
        if ended.kind in ("paused", *RETRIED):
            return self._tried_again(unit, ended)
        self._fail(unit, ended.text)
        return []

    def _tried_again(self, unit: Unit, ended: Ended) -> list[Unit]:
        """What a unit left, from what it saved; one that was paused and came further does not
        use up a retry by that."""
        with unit.log.open("a", encoding="utf-8") as file:
            file.write(f"{unit.name}: {ended.text}\n")
        rest = rest_of(unit, self.place.folder, self.options.stack_size)
        self.results |= rest.results
        if not rest.units:
            return []  # its worker died when all was done
        paused = ended.kind == "paused" and rest.gained
        if not paused and unit.attempt > self.options.retries:
            self._fail(unit, ended.text)
            return []
        how = "resumed" if paused else "retried"
        log.warning("%s: %s; %s", unit.name, ended.text, how)
        attempt = unit.attempt if paused else unit.attempt + 1
        self.pace.begin(rest.units)
        return [replace(part, attempt=attempt) for part in rest.units]

    def _fail(self, unit: Unit, error: str) -> None:
        rest = rest_of(unit, self.place.folder, self.options.stack_size)
        self.results |= rest.results
        if not rest.units:
            return
        headers = {
            number: header
            for part in rest.units
            for number, header in zip(part.numbers, part.headers, strict=True)
        }
        failed = [number for number in unit.numbers if number in headers]
        inside = unit.log.is_relative_to(self.place.folder)  # of a folder that may be moved
        log_name = str(unit.log.relative_to(self.place.folder) if inside else unit.log)
        for number in failed:
            self.journal.write("trial", trial=number, **headers[number])
            self.journal.write("failure", trial=number, error=error, log=log_name)
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        name = headers[failed[0]]["name"] + more
        self.failures.append(Failure(failed, name, error, unit.log))
        log.error("failed: %s: %s", name, error)
        if self.options.fail_fast:
            self.stop()


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one of its name; None where it is not there."""
    try:
        status = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def stop_requests(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop`; the second raises KeyboardInterrupt.

    After a SIGTERM, which a machine sends that goes down, the second comes by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False
    again = threading.Timer(TERM_SECONDS, lambda: os.kill(os.getpid(), signal.SIGTERM))
    again.daemon = True

    def handle(number: int, _: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if number == signal.SIGTERM:
            again.start()
        os.write(2, b"stopping: saving what trains; Ctrl-C again stops at once\n")
        stop()

    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, handle) for name in names]
    try:
        yield
    finally:
        again.cancel()
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)
