"""What an array task of Slurm does: train its units one after another, and say how each ended.

A task may be killed at any moment and started again by Slurm (preempted, its node lost): then it
resumes its units from their checkpoints. What it says stands in a file that it
alone writes, beside its logs:

    {"unit": position, "begun": true}
    {"unit": position, "kind": .., "text": ..}       (as sweeps.run.worker.Ended)
    {"paused": name of the signal that told it to save and end}
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaling.durable import LineFile
from sweeps.run.executors.local import took_too_long
from sweeps.run.trainer import Place, Trainer
from sweeps.run.units import Unit, rest_of
from sweeps.run.worker import Ended, output_to, train_logged

TOLD_TO_SAVE = (signal.SIGTERM, signal.SIGUSR2)  # cancelled or preempted; near its time limit


@dataclass(frozen=True)
class Answers:
    """What a task has said so far. begun: positions of its units; ended: how, by position."""

    begun: frozenset[int]
    ended: dict[int, Ended]
    paused: str | None


def read_answers(path: Path) -> Answers:
    begun, ended, paused = set(), {}, None
    for text in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue  # not whole: it is being written, or its node went down
        if "begun" in line:
            begun.add(line["unit"])
            paused = None  # by an earlier run of the task
        elif "kind" in line:
            ended[line["unit"]] = Ended(line["kind"], line["text"])
        else:
            paused = line["paused"]
    return Answers(frozenset(begun), ended, paused)


@dataclass(frozen=True)
class Work:
    """What a task gets. answers: the file, made by the sweep, in which it answers."""

    place: Place
    units: list[Unit]
    stack_size: int
    timeout_seconds: float | None
    answers: Path


class Task:
    """A callable that reaches a node as data; what it needs is imported there."""

    def __init__(self, work: Work) -> None:
        self._path = [str(Path(entry).absolute()) for entry in sys.path]
        self._work = pickle.dumps(work)

    def __call__(self) -> None:
        sys.path[:] = self._path  # of the sweep: a custom task is imported by its name
        _Run(pickle.loads(self._work)).run()


class _Run:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._signal: str | None = None
        self._file = LineFile(work.answers, "a")
        self._trainer = Trainer(work.place, lambda: self._signal is not None)

    def run(self) -> None:
        for name in TOLD_TO_SAVE:
            signal.signal(name, self._note)
        before = read_answers(self._work.answers)
        for position, unit in enumerate(self._work.units):
            if position in before.ended or self._signal is not None:
                continue
            self._say(unit=position, begun=True)
            ended = self._train(position, unit, position in before.begun)
            if ended.kind == "stopped":
                break
            self._trainer.journal.flush_to_disk()  # what has ended can be read everywhere
            self._say(unit=position, kind=ended.kind, text=ended.text)
        if self._signal is not None:
            self._say(paused=self._signal)
        self._trainer.close()

    def _note(self, number: int, _: object) -> None:
        self._signal = signal.Signals(number).name

    def _train(self, position: int, unit: Unit, again: bool) -> Ended:
        """A unit that this task began before Slurm restarted it is resumed."""
        size = self._work.stack_size
        parts = rest_of(unit, self._work.place.folder, size).units if again else [unit]
        for part in parts:
            with self._limited(position, part), output_to(part.log):
                ended = train_logged(self._trainer, part)
            if ended.kind != "done":
                return ended
        return Ended("done")

    @contextmanager
    def _limited(self, position: int, unit: Unit) -> Iterator[None]:
        """Training that hangs ends the task: nothing else would end it before its time."""
        seconds = self._work.timeout_seconds
        if seconds is None:
            yield
            return

        def end() -> None:
            ended = took_too_long(unit, seconds)
            self._say(unit=position, kind=ended.kind, text=ended.text)
            os._exit(1)

        timer = threading.Timer(seconds * len(unit.trials), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _say(self, **line: object) -> None:
        self._file.append(line)
        self._file.flush_to_disk()
