"""Trains the units of a sweep: submits, retries, hears what comes of them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scaling.checkpoint import read_headers
from scaling.journal import FolderReader, Journal, RecordError
from scaling.record import plan, read_record
from scaling.result import TrialResult
from scaling.trial import Trial
from sweeps.executors import Executor, end_of
from sweeps.progress import Count
from sweeps.units import Job, Unit, make_units
from sweeps.worker import Ended, Place

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
RETRIED = ("lost", "timeout", "memory")  # an error of the code itself would come again


@dataclass(frozen=True)
class LauncherOptions:
    """workers: processes, 0 for none but this one. trial_timeout_seconds: of one trial, in a stack
    times its trials."""

    stack_size: int = 1024
    workers: int = 0
    trial_timeout_seconds: float | None = None
    retries: int = 1
    fail_fast: bool = False


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

    meanwhile: called again and again, for what else goes on.
    """

    jobs: Sequence[Job]
    trials: Sequence[Trial]
    place: Place
    options: LauncherOptions
    journal: Journal
    executor: Executor
    trained: Count
    meanwhile: Callable[[], None] = lambda: None
    since_ns: int = field(default_factory=time.time_ns)
    results: dict[int, TrialResult] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    stopped: bool = False

    def run(self, units: Sequence[Unit]) -> None:
        """Until every unit has ended, or `stop`; RecordError if nothing more can be recorded."""
        waiting, running = deque(units), {}
        with FolderReader(self.place.folder, self.since_ns) as journals:
            while running or (waiting and not self.stopped):
                while waiting and len(running) < self.executor.capacity and not self.stopped:
                    unit = waiting.popleft()
                    unit.log.parent.mkdir(parents=True, exist_ok=True)
                    running[self.executor.submit(unit)] = unit
                done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                self._hear(journals)
                self.meanwhile()
                for future in done:
                    waiting.extend(self._ended(running.pop(future), future))
            self._hear(journals)

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
        for _, line in journals.read():
            if line["record"] == "outcome":
                self.results[line["trial"]] = TrialResult.from_line(line)
                self.trained.add()
            elif line["record"] == "notice":
                log.warning("%s", line["text"])

    def _ended(self, unit: Unit, future: Future[Ended]) -> list[Unit]:
        """Units to do instead: those of a unit that is tried again."""
        ended = end_of(future, unit, self.options.trial_timeout_seconds)
        if ended.kind == "record":
            self.stop()
            raise RecordError(ended.text)
        if ended.kind in ("done", "stopped"):
            return []
        if ended.kind in RETRIED and not self.stopped:
            with unit.log.open("a", encoding="utf-8") as file:
                file.write(f"{unit.name}: {ended.text}\n")
            if unit.attempt <= self.options.retries:
                log.warning("%s: %s; tried again", unit.name, ended.text)
                return self._again(unit)
        if ended.kind in RETRIED and self.stopped:
            return []  # interrupted like the others: nobody knows what it would have done
        self._fail(unit, ended.text)
        return []

    def _again(self, unit: Unit) -> list[Unit]:
        record = read_record(self.place.folder)
        headers, _ = read_headers(self.place.checkpoints)
        planned = plan(self.trials, record, headers, unit.numbers)
        self.results |= planned.results
        size = self.options.stack_size
        return make_units(self.jobs, self.trials, planned, record, size, unit.attempt + 1)

    def _fail(self, unit: Unit, error: str) -> None:
        ended = plan(self.trials, read_record(self.place.folder), (), unit.numbers).results
        self.results |= ended
        failed = [number for number in unit.numbers if number not in ended]
        if not failed:
            return  # its worker died when all was done
        headers = dict(zip(unit.numbers, unit.headers, strict=True))
        for number in failed:
            self.journal.write("trial", trial=number, **headers[number])
            self.journal.write("failure", trial=number, error=error, log=str(unit.log))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        name = headers[failed[0]]["name"] + more
        self.failures.append(Failure(failed, name, error, unit.log))
        log.error("failed: %s: %s", name, error)
        if self.options.fail_fast:
            self.stop()


@contextmanager
def stop_requests(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop`; the second raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        os.write(2, b"stopping: saving what trains; Ctrl-C again stops at once\n")
        stop()

    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, handle) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)
