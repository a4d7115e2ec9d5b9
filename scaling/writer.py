"""The process that follows a sweep's journal into an MLflow store while training goes on."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scaling.journal import JournalReader
from scaling.tracking import Store, StoreError, SweepRecord, store_message

POLL_SECONDS = 0.2


class Writer:
    """Starts the writing process and hears from it.

    The constructor returns when store, experiment and parent run are there; StoreError if they
    cannot be made: nothing has been trained then.
    """

    def __init__(self, uri: str, sweep: SweepRecord, journal: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        start = journal.stat().st_size  # what stands there already has been followed before
        arguments = (uri, sweep, journal, start, theirs)
        self._process = context.Process(target=follow, args=arguments, name="mlflow-writer")
        self._process.start()
        theirs.close()
        kind, content = self._receive()
        if kind == "error":
            self._process.join()
            raise StoreError(content)

    def close(self, status: str, on_written: Callable[[int], None] = lambda n: None) -> None:
        """Write what is left, end the parent run with `status`; `on_written` gets the count."""
        with suppress(BrokenPipeError):  # it died of an error: that message is still to be read
            self._connection.send(status)
        while True:
            kind, content = self._receive()
            if kind == "written":
                on_written(content)
            if kind in ("closed", "error"):
                self._process.join()
                if kind == "error":
                    raise StoreError(content)
                return

    def _receive(self) -> tuple[str, Any]:
        try:
            return self._connection.recv()
        except EOFError:
            return "error", "the process that writes to MLflow ended unexpectedly"


def follow(uri: str, sweep: SweepRecord, journal: Path, start: int, connection: Connection) -> None:
    """Body of the writing process: journal to store until told to stop, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        store = Store(uri, sweep)
    except Exception as error:
        connection.send(("error", store_message(uri, error)))
        return
    connection.send(("ready", None))
    try:
        with JournalReader(journal, start) as reader:
            store.close(_write_all(store, reader, connection))
    except Exception as error:
        _tell(connection, "error", store_message(uri, error))
        return
    _tell(connection, "closed", None)


def _write_all(store: Store, reader: JournalReader, connection: Connection) -> str:
    status, told = "", 0.0
    while True:
        lines = reader.read()
        store.take(lines)
        store.write_ended()
        if status and time.monotonic() - told > POLL_SECONDS:  # only now does the parent listen
            told = time.monotonic()
            _tell(connection, "written", store.written)
        if lines or store.waiting:
            continue
        if status:
            return status
        store.write_stale()
        try:
            if connection.poll(POLL_SECONDS):
                status = connection.recv()
        except (EOFError, OSError):  # the parent is gone: write what there is
            status = "KILLED"


def _tell(connection: Connection, kind: str, content: object) -> None:
    try:
        connection.send((kind, content))
    except (BrokenPipeError, OSError):
        logging.getLogger(__name__).debug("the sweep is gone; nobody hears %s", kind)
