"""The process that follows a study's journals into an MLflow store while training goes on."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from scaling.store.check import StoreError, store_message
from scaling.store.follow import Destination, LeftOut, follow_when_told

SILENCE_SECONDS = 30.0  # what a single request may take beyond that
OnWritten = Callable[[int, int], None]
STARTS = 20  # of writing processes in one sweep, when they are killed again and again


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes started here never see a terminal's Ctrl-C; this one sees it afterwards."""
    resource_tracker.ensure_running()  # its own start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


Started = tuple[BaseProcess, Connection]
_early: list[Started] = []  # one at most


def start_early() -> None:
    """Start a writing process for the first Writer, before it is known what it is to write:
    importing MLflow takes seconds. `end_early` has to follow."""
    _early.append(_new_process())


def end_early() -> None:
    """End what was started early if no Writer took it."""
    while _early:
        process, connection = _early.pop()
        process.kill()
        process.join()
        connection.close()


def _new_process() -> Started:
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=follow_when_told, args=(theirs,), name="mlflow-writer")
    with interrupts_blocked():
        process.start()
    theirs.close()
    return process, connection


class Writer:
    """Starts the writing process and hears from it; one that dies is started again.

    say: hears at once that the store is away, and what it does not take, a line each.
    """

    def __init__(
        self, destination: Destination, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._destination = destination
        self._say = say
        self._starts = 0
        self._early: tuple[str, Any] | None = None  # heard while training, to be received later
        self._start()

    @property
    def patience_seconds(self) -> float:
        return self._destination.patience_seconds

    def _start(self) -> None:
        self._process, self._connection = _early.pop() if _early else _new_process()
        with suppress(BrokenPipeError):  # killed already: seen when it is to say something
            self._connection.send((self._destination, self._starts > 0))
        self._starts += 1

    def look_after(self) -> None:
        """Hear what it says; start another one if it was killed, which goes on with the rest."""
        with suppress(EOFError, OSError):
            while self._early is None and self._connection.poll():
                self._hear(self._connection.recv())
        self._revive()

    def _hear(self, message: tuple[str, Any]) -> None:
        if message[0] == "said":
            self._say(message[1])
        elif message[0] not in ("ready", "written"):
            self._early = message

    def _revive(self) -> None:
        died = not self._process.is_alive() and self._process.exitcode != 0
        if died and self._starts < STARTS:
            self._connection.close()
            self._early = None
            self._start()

    def wait_until_open(self) -> str:
        """Return when store and experiment are open; StoreError if they cannot be.

        What is returned says that the store is away and will be waited for; "" if it is open.
        """
        try:
            kind, content = self._receive()
            while kind == "died" and self._starts < STARTS:
                self._revive()
                kind, content = self._receive()
        except BaseException:  # Ctrl-C: let the process see that nobody waits for it
            self._connection.close()
            raise
        if kind != "ready":
            self._process.join()
            raise StoreError(content)
        return content

    def close(
        self,
        status: str,
        on_written: OnWritten = lambda written, left: None,
        patience_seconds: float | None = None,
    ) -> LeftOut:
        """Write what is left, end the sweep's parent run with `status`; what did not go in.

        `on_written` gets the numbers of trials written and left so far; patience_seconds replaces
        the destination's. StoreError when the store was away for longer than that.
        """
        if patience_seconds is None:
            patience_seconds = self._destination.patience_seconds
        self._send(status, patience_seconds)
        while True:
            try:
                kind, content = self._receive(patience_seconds + SILENCE_SECONDS)
            except TimeoutError as error:
                self._process.kill()
                self._process.join()
                raise StoreError(store_message(self._destination.uri, StoreError(error))) from None
            if kind == "died" and self._starts < STARTS:
                self._revive()
                self._send(status, patience_seconds)
            elif kind == "written":
                on_written(*content)
            elif kind == "closed":
                self._process.join()
                return content
            elif kind != "ready":
                self._process.join()
                raise StoreError(content)

    def _send(self, status: str, patience_seconds: float) -> None:
        with suppress(BrokenPipeError):  # it died of an error: that message is still to be read
            self._connection.send((status, patience_seconds))

    def abandon(self) -> None:
        """Have it write what there is and end, without waiting for it."""
        self._connection.close()

    def _receive(self, limit_seconds: float | None = None) -> tuple[str, Any]:
        """What it says next; TimeoutError when it is stuck in a request that nobody answers."""
        if self._early is not None:
            return self._early
        try:
            while self._connection.poll(limit_seconds):
                message = self._connection.recv()
                if message[0] != "said":
                    return message
                self._say(message[1])
        except (EOFError, ConnectionResetError):
            self._process.join()
            return "died", "the process that writes to MLflow ended unexpectedly"
        raise TimeoutError(f"the MLflow store has not answered for {limit_seconds:g} s")


class NoWriter(Writer):
    """Nothing is written now: the journals are synchronised later, from here or elsewhere."""

    def __init__(self) -> None:
        return

    def look_after(self) -> None:
        return

    def wait_until_open(self) -> str:
        return ""

    def abandon(self) -> None:
        return

    def close(
        self,
        status: str,
        on_written: OnWritten = lambda written, left: None,
        patience_seconds: float | None = None,
    ) -> LeftOut:
        return LeftOut()
