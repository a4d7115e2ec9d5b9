"""What trains units: one journal, one thread, checkpoints; in a process of its own or not."""

from __future__ import annotations

import faulthandler
import io
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scaling.record.checkpoint import (
    KEPT,
    CheckpointError,
    read_checkpoint,
    refuse,
    write_checkpoint,
)
from scaling.record.durable import write_whole
from scaling.record.journal import Journal, RecordError, journal_path
from scaling.result import TrialResult
from scaling.tasks.custom import first_line
from scaling.train import Begin, Evaluation, TrainState, train
from sweeps.run.units import Unit

ORPHAN_SECONDS = 5.0  # what a worker whose sweep is gone may take to save its training


class Interrupted(Exception):
    """Training was told to stop, and is saved."""


@dataclass(frozen=True)
class Place:
    """Where a sweep's records go, and how often training is saved."""

    folder: Path
    study: str
    sweep: dict[str, Any]
    interval_seconds: float | None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def new_journal(self) -> Journal:
        return Journal(journal_path(self.folder, self.sweep["name"]), self.study, self.sweep)


class Trainer:
    """Trains units one after another; `told_to_stop` is asked before every step."""

    def __init__(self, place: Place, told_to_stop: Callable[[], bool]) -> None:
        self.place = place
        self.told_to_stop = told_to_stop
        self._journal: Journal | None = None
        self._round: int | None = None

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            self._journal = self.place.new_journal()
        return self._journal

    def train(self, unit: Unit) -> list[TrialResult]:
        """The unit's results; Interrupted, RecordError, or whatever the task's code raises."""
        torch.set_num_threads(1)  # the number of threads changes bits
        self._begin_round(unit)
        recorder = JournalRecorder(self, unit)
        for number, header in zip(unit.numbers, unit.headers, strict=True):
            recorder.write("trial", trial=number, **header)
        results = train(unit.trials, recorder, self._begin(unit, recorder))
        recorder.drop_checkpoints(all(result.diverged_step is not None for result in results))
        return results

    def _begin_round(self, unit: Unit) -> None:
        """A journal numbers the trials of one launch: each round of a search has its own."""
        if unit.round != self._round:
            self.close()
            self._journal, self._round = None, unit.round

    def _begin(self, unit: Unit, recorder: JournalRecorder) -> Begin | None:
        """The newest saved state that is whole."""
        for header in unit.saved:
            try:
                _, state = read_checkpoint(header.path)
            except CheckpointError as error:
                recorder.write("notice", text=f"{error}; moved to {refuse(header.path).name}")
                continue
            rows = [header.trial_ids.index(trial.trial_id) for trial in unit.trials]
            curves = [_cut(curve, state.step) for curve in unit.curves]
            return Begin(state, rows, curves)
        return None

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def _cut(curve: tuple[list[int], list[float]], step: int) -> tuple[list[int], list[float]]:
    kept = [(s, loss) for s, loss in zip(*curve, strict=True) if s <= step]
    return [s for s, _ in kept], [loss for _, loss in kept]


class JournalRecorder:
    """Writes what the loop sees of one stack, its trials numbered as in the sweep."""

    def __init__(self, trainer: Trainer, unit: Unit) -> None:
        self._trainer = trainer
        self._unit = unit
        self._written: list[Path] = []
        self._saved_at = time.monotonic()

    def write(self, record: str, **fields: Any) -> None:
        self._trainer.journal.write(record, **fields)

    def evaluation(self, evaluation: Evaluation) -> None:
        columns = {key: getattr(evaluation, key) for key in ("loss", "train_loss", "lr")}
        given = {key: column.tolist() for key, column in columns.items() if column is not None}
        trials = [self._unit.numbers[number] for number in evaluation.numbers]
        if evaluation.metrics:
            given["metrics"] = {key: list(map(_finite, v)) for key, v in evaluation.metrics.items()}
        self.write("evaluation", step=evaluation.step, trials=trials, **given)

    def picture(self, step: int, number: int, picture: np.ndarray) -> None:
        """A file beside the journals; one that cannot be written is said, and missed."""
        trial = self._unit.trials[number]
        path = self._trainer.place.pictures / trial.trial_id / f"{step:09d}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, as_png(picture))
        except OSError as error:
            self.write("notice", text=f"{error.filename}: no picture ({error.strerror})")
            return
        name = str(path.relative_to(self._trainer.place.folder))
        self.write("picture", trial=self._unit.numbers[number], step=step, path=name)

    def model(self, number: int, kind: str, state: dict[str, torch.Tensor]) -> None:
        """A file beside the journals, replaced by the next; the journal names it at the end."""
        path = self._trainer.place.models / self._unit.trials[number].trial_id / f"{kind}.pt"
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(path, buffer.getvalue())
        except OSError as error:
            self.write("notice", text=f"{error.filename}: model not saved ({error.strerror})")

    def outcome(self, number: int, result: TrialResult) -> None:
        trial, place = self._unit.numbers[number], self._trainer.place
        for path in sorted((place.models / self._unit.trials[number].trial_id).glob("*.pt")):
            name = str(path.relative_to(place.folder))
            self.write("model", trial=trial, kind=path.stem, path=name)
        self.write("outcome", trial=trial, **result.as_line())

    def wants_state(self) -> bool:
        interval = self._trainer.place.interval_seconds
        due = interval is not None and time.monotonic() - self._saved_at >= interval
        return due or self._trainer.told_to_stop()

    def state(self, state: TrainState) -> None:
        self._save(state)
        self._saved_at = time.monotonic()
        if self._trainer.told_to_stop():
            raise Interrupted

    def capped(self, state: TrainState) -> None:
        """Saved apart from what is saved while it trains, and not replaced by it."""
        if self._trainer.place.interval_seconds is not None:
            self._write(state)

    def _save(self, state: TrainState) -> None:
        path = self._write(state)
        if path is not None:
            self._written.append(path)
            self._keep(KEPT)

    def _write(self, state: TrainState) -> Path | None:
        """A checkpoint that cannot be written costs time after a crash, and nothing else."""
        self._trainer.journal.flush_to_disk()  # a checkpoint builds on curves that are there
        trial_ids = [self._unit.trials[n].trial_id for n in state.stack["numbers"]]
        try:
            return write_checkpoint(self._trainer.place.checkpoints, trial_ids, state)
        except OSError as error:
            self.write("notice", text=f"{error.filename}: no checkpoint ({error.strerror})")
            return None

    def drop_checkpoints(self, every: bool) -> None:
        """At the end: but for the newest, from which a longer request goes on."""
        self._keep(0 if every else 1)

    def _keep(self, n: int) -> None:
        kept = self._written[len(self._written) - n :] if n else []
        for old in self._written:
            if old not in kept:
                old.unlink(missing_ok=True)
        self._written = kept


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def as_png(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Ended:
    """How a unit came out of a worker. kind: done, stopped, error, record or memory; where the
    worker cannot say: lost, timeout, cancelled, paused (saved, to be gone on with) or unbegun."""

    kind: str
    text: str = ""


_trainer: Trainer | None = None
_terminated = threading.Event()
_busy = False


def start_worker(place: Place, stop: Any) -> None:
    """Initializer of a worker process. `stop.value` is set by the sweep that it belongs to."""
    global _trainer
    _trainer = Trainer(place, lambda: stop.value != 0 or _terminated.is_set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the sweep's to handle
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_watch_sweep, daemon=True).start()


def _terminate(*_: object) -> None:
    _terminated.set()
    if not _busy:
        os._exit(128 + signal.SIGTERM)


def _watch_sweep() -> None:
    """End with the sweep, however it ends: what goes on behind its back would be done twice."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    _terminated.set()
    time.sleep(ORPHAN_SECONDS if _busy else 0.0)
    os._exit(1)


def run_unit(unit: Unit) -> Ended:
    """Body of a worker's task."""
    global _busy
    assert _trainer is not None
    _busy = True
    try:
        with output_to(unit.log):
            ended = train_logged(_trainer, unit)
    finally:
        _busy = False
    if _terminated.is_set():
        os._exit(128 + signal.SIGTERM)
    return ended


def train_logged(trainer: Trainer, unit: Unit) -> Ended:
    """Train a unit; the traceback of an error goes to its log."""
    try:
        trainer.train(unit)
    except Interrupted:
        return Ended("stopped")
    except RecordError as error:
        return Ended("record", str(error))
    except Exception as error:
        with unit.log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        return Ended("memory" if isinstance(error, MemoryError) else "error", _line_of(error))
    return Ended("done")


def _line_of(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory on the device: a smaller micro_batch_size needs less of it"
    return first_line(error)


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """What this process prints, and where it is when it crashes, is appended to a file."""
    kept = [os.dup(number) for number in (1, 2)]
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        _replace_output([handle, handle])
        faulthandler.enable(handle)
        yield
    finally:
        faulthandler.disable()
        _replace_output(kept)
        for opened in (handle, *kept):
            os.close(opened)
        if log.stat().st_size == 0:
            log.unlink()


def _replace_output(handles: Sequence[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, handle in enumerate(handles, 1):
        os.dup2(handle, number)
