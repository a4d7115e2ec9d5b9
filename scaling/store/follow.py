"""The process that follows a study's journals into an MLflow store while training goes on."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from filelock import FileLock, Timeout

from scaling.durable import refuse_no_plain_file
from scaling.record.journal import JournalError
from scaling.store.check import StoreError, is_away, store_message
from scaling.store.client import Store, import_mlflow
from scaling.store.note import note_path
from scaling.store.sync import Sync

POLL_SECONDS = 0.2
RETRY_SECONDS = 1.0
PATIENCE_SECONDS = 90.0  # how long the end of a sweep waits for a store that is away; default
WAITS = "training continues, and what it records is written when the store is back"


@dataclass(frozen=True)
class Destination:
    """Where the journals in `folder` go: the experiment `study` of the store at `uri`.

    sweep: the one that is alive; "" where none is. thorough: see scaling.store.sync.Sync.
    """

    uri: str
    study: str
    question: str
    folder: Path
    sweep: str = ""
    patience_seconds: float = PATIENCE_SECONDS
    thorough: bool = False


@dataclass(frozen=True)
class LeftOut:
    """What is not in the store in the end, a line each. n_refused: trials that it does not take."""

    lines: list[str] = field(default_factory=list)
    n_refused: int = 0


def follow_when_told(connection: Connection) -> None:
    """Body of the writing process: journals to store until told to stop, or the parent is gone.

    It is told the destination, and whether it takes the place of one that died, so that nothing is
    refused any more; meanwhile it imports MLflow.
    """
    for name in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle; its end ends this
        signal.signal(name, signal.SIG_IGN)
    with suppress(Exception):  # what is wrong with it is said when the store is opened
        import_mlflow()
    with suppress(EOFError, OSError):  # nothing is written after all
        destination, again = connection.recv()
        _follow(destination, connection, again)
    connection.close()
    os._exit(0)  # taking MLflow down in order takes a second, for which the parent would wait


def _follow(destination: Destination, connection: Connection, again: bool) -> None:
    uri = destination.uri
    following = _Following(destination, lambda line: _tell(connection, "said", line))
    try:
        warning = following.open(again)
    except Exception as error:
        _tell(connection, "error", _message(uri, error))
        return
    _tell(connection, "ready", warning)
    try:
        _write_all(following, destination, connection, warning)
    except Exception as error:
        _tell(connection, "error", _message(uri, error))
        return
    finally:
        following.lock.release()
    _tell(connection, "written", (following.written, following.left))
    _tell(connection, "closed", following.left_out)


class _Following:
    """A study's journals on their way into a store that may be away when it starts."""

    def __init__(self, destination: Destination, say: Callable[[str], None]) -> None:
        self._destination = destination
        self.say = say
        self._store: Store | None = None
        self._sync: Sync | None = None
        refuse_no_plain_file(destination.folder / "writer.lock")
        self.lock = FileLock(destination.folder / "writer.lock", timeout=0)

    @property
    def written(self) -> int:
        return 0 if self._sync is None else self._sync.written

    @property
    def left(self) -> int:
        return 0 if self._sync is None else self._sync.left

    @property
    def left_out(self) -> LeftOut:
        if self._sync is None:
            return LeftOut()
        return LeftOut(list(self._sync.left_out.values()), self._sync.n_refused)

    def open(self, again: bool) -> str:
        """ "", or a line that says that the store is away; raises if it is no store of ours.

        An address that has never answered is more likely wrong than its store away: an error.
        """
        uri = self._destination.uri
        try:
            self._open_store()
        except Exception as error:
            known = again or note_path(self._destination.folder, uri).exists()
            locked = "database is locked" in str(error)
            if not (again or (is_away(error) and (known or locked))):
                raise
            reason = store_message(uri, error).partition("; ")[0]
            return f"{reason}; {WAITS}"
        return ""

    def sync(self) -> Sync:
        """Opens what is not open yet; the writer of a killed sweep may still be at it."""
        if self._sync is None:
            self._open_store()
            try:
                self.lock.acquire()
            except Timeout:
                raise StoreError("the writer of an earlier sweep of this study is busy") from None
            assert self._store is not None
            to = self._destination
            self._sync = Sync(to.folder, self._store, to.uri, self.say, to.thorough)
        return self._sync

    def _open_store(self) -> None:
        if self._store is None:
            to = self._destination
            self._store = Store(to.uri, to.study, to.question)


def _message(uri: str, error: Exception) -> str:
    return str(error) if isinstance(error, JournalError) else store_message(uri, error)


def _write_all(
    following: _Following, destination: Destination, connection: Connection, waits: str
) -> None:
    """Until the parent has said how its sweep ended, or is gone, and everything is written.

    waits: the line that was said of a store that is away, "" if it is not.

    A store that is away is tried again until it is back, however long the sweep lasts; after the
    sweep's end for patience_seconds.
    """
    end, told, deadline, caught_up = "", 0.0, float("inf"), False
    while True:
        busy = False
        try:
            sync = following.sync()
            busy = sync.step()
            if waits:
                waits = ""
                following.say("the MLflow store is back")
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
        except Exception as error:
            if time.monotonic() > deadline:
                raise
            if not waits:
                waits = store_message(destination.uri, error).partition("; ")[0]
                following.say(f"{waits}; {WAITS}")
            time.sleep(RETRY_SECONDS)
        if not end:
            end, patience = _end_of_sweep(connection, 0.0 if busy else POLL_SECONDS)
            patience = destination.patience_seconds if patience is None else patience
            deadline = time.monotonic() + patience if end else deadline
        if end and time.monotonic() - told > POLL_SECONDS:  # only now does the parent listen
            told = time.monotonic()
            _tell(connection, "written", (following.written, following.left))


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
        logging.getLogger(__name__).debug("the sweep has ended; nobody receives %s", kind)
