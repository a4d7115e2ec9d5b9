"""The process that follows a study's journals into an MLflow store while training goes on."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock

from scaling.journal import JournalError
from scaling.sync import Sync
from scaling.tracking import Store, StoreError, store_message

POLL_SECONDS = 0.2
RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 90.0  # how long the end of a sweep waits for a store that is away; default


@dataclass(frozen=True)
class Destination:
    """Where the journals in `folder` go: the experiment `study` of the store at `uri`.

    sweep: the one that is alive; "" where none is.
    """

    uri: str
    study: str
    question: str
    folder: Path
    sweep: str = ""
    patience_seconds: float = PATIENCE_SECONDS


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started here never see a terminal's Ctrl-C; this one sees it afterwards."""
    resource_tracker.ensure_running()  # its own start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Writer:
    """Starts the writing process and hears from it."""

    def __init__(self, destination: Destination) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=follow, args=(destination, theirs), name="mlflow-writer"
        )
        with interrupts_blocked():
            self._process.start()
        theirs.close()

    def wait_until_open(self) -> None:
        """Return when store and experiment are open; StoreError if they cannot be."""
        try:
            kind, content = self._receive()
        except BaseException:  # Ctrl-C: let the process see that nobody waits for it
            self._connection.close()
            raise
        if kind == "error":
            self._process.join()
            raise StoreError(content)

    def close(
        self,
        status: str,
        on_written: Callable[[int], None] = lambda n: None,
        patience_seconds: float | None = None,
    ) -> None:
        """Write what is left, end the sweep's parent run with `status`.

        `on_written` gets the number of trials written so far; patience_seconds replaces the
        destination's.
        """
        with suppress(BrokenPipeError):  # it died of an error: that message is still to be read
            self._connection.send((status, patience_seconds))
        while True:
            kind, content = self._receive()
            if kind == "written":
                on_written(content)
            if kind in ("closed", "error"):
                self._process.join()
                if kind == "error":
                    raise StoreError(content)
                return

    def abandon(self) -> None:
        """Have it write what there is and end, without waiting for it."""
        self._connection.close()

    def _receive(self) -> tuple[str, Any]:
        try:
            return self._connection.recv()
        except EOFError:
            return "error", "the process that writes to MLflow ended unexpectedly"


class NoWriter(Writer):
    """Nothing is written now: the journals are synchronised later, from here or elsewhere."""

    def __init__(self) -> None:
        return

    def wait_until_open(self) -> None:
        return

    def abandon(self) -> None:
        return

    def close(
        self,
        status: str,
        on_written: Callable[[int], None] = lambda n: None,
        patience_seconds: float | None = None,
    ) -> None:
        return


def follow(destination: Destination, connection: Connection) -> None:
    """Body of the writing process: journals to store until told to stop, or the parent is gone."""
    for name in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle; its end ends this
        signal.signal(name, signal.SIG_IGN)
    uri = destination.uri
    lock = FileLock(destination.folder / "writer.lock")
    try:
        # the writer of a killed sweep may still be at it
        lock.acquire(timeout=destination.patience_seconds)
        store = Store(uri, destination.study, destination.question)
        sync = Sync(destination.folder, store, uri)
    except Exception as error:
        lock.release()
        _tell(connection, "error", _message(uri, error))
        return
    _tell(connection, "ready", None)
    try:
        _write_all(sync, destination, connection)
    except Exception as error:
        _tell(connection, "error", _message(uri, error))
        return
    finally:
        lock.release()
    _tell(connection, "written", sync.written)
    _tell(connection, "closed", None)


def _message(uri: str, error: Exception) -> str:
    return str(error) if isinstance(error, JournalError) else store_message(uri, error)


def _write_all(sync: Sync, destination: Destination, connection: Connection) -> None:
    """Until the parent has said how its sweep ended, or is gone, and everything is written.

    A store that is away is tried again until it is back, however long the sweep lasts; after the
    sweep's end for patience_seconds.
    """
    end, told, deadline, caught_up = "", 0.0, float("inf"), False
    while True:
        busy = False
        try:
            busy = sync.step()
            if not busy and end:
                sync.close(destination.sweep, end)
                return
            if not busy and not caught_up:
                sync.close_left_over(destination.sweep)
                caught_up = True
            if not busy:
                sync.write_stale()
        except JournalError:
            raise
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        if not end:
            end, patience = _end_of_sweep(connection, 0.0 if busy else POLL_SECONDS)
            patience = destination.patience_seconds if patience is None else patience
            deadline = time.monotonic() + patience if end else deadline
        if end and time.monotonic() - told > POLL_SECONDS:  # only now does the parent listen
            told = time.monotonic()
            _tell(connection, "written", sync.written)


def _end_of_sweep(connection: Connection, wait_seconds: float) -> tuple[str, float | None]:
    """The sweep's status once it has ended, or is gone, else ""; and how long to wait then."""
    try:
        return connection.recv() if connection.poll(wait_seconds) else ("", None)
    except (EOFError, OSError):  # the parent is gone: write what there is
        return "KILLED", None


def _tell(connection: Connection, kind: str, content: object) -> None:
    try:
        connection.send((kind, content))
    except (BrokenPipeError, OSError):
        logging.getLogger(__name__).debug("the sweep is gone; nobody hears %s", kind)
