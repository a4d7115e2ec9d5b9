"""How a unit is trained in a process: its output, its errors, how it ended."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scaling.record.journal import RecordError
from scaling.tasks.custom import first_line
from sweeps.run.trainer import Interrupted, Place, Trainer
from sweeps.run.units import Unit

ORPHAN_SECONDS = 5.0  # what a worker whose sweep is gone may take to save its training


@dataclass(frozen=True)
class Ended:
    """How a unit came out of a worker. kind: done, stopped, error, record or memory; where the
    worker cannot say: lost, timeout, cancelled, paused (saved, to be resumed) or unbegun."""

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
    """End with the sweep, however it ends: what trained on without it would be trained twice."""
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
        return "out of memory on the device: use a smaller micro_batch_size"
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
