"""Work beside other work: in a copy of this process, on a second core."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


@contextmanager
def copies_allowed() -> Iterator[None]:
    """Inside, `beside` may copy the process. For commands: a program that imports this package may
    have threads, and what they hold is lost in a copy."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin `work` and return at once; the function that is returned waits for its result.

    The result is pickled. Without a second core, outside copies_allowed, or where the copy fails,
    the work is done here when the result is asked for: its errors are raised there.
    """
    if not _can_copy():
        return work
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # not a pipe: one is full after 64 kB
    child = os.fork()
    if child == 0:
        try:
            pickle.dump(work(), spool, protocol=pickle.HIGHEST_PROTOCOL)
            spool.flush()
            os._exit(0)
        finally:  # whatever happened: the rest of the program is not the copy's
            os._exit(1)

    def result() -> T:
        with spool:
            if os.waitpid(child, 0)[1] != 0:
                return work()
            spool.seek(0)
            return pickle.load(spool)

    weakref.finalize(result, spool.close)  # if nobody asks
    return result


Ask = Callable[..., Any]  # of a function and its arguments, to its result


@contextmanager
def standing_by(prepare: Callable[[], object]) -> Iterator[Ask]:
    """Inside, `prepare` runs in a copy of this process, which then does what it is asked to.

    Functions, arguments and results are pickled. Where there is no copy, what is asked for is done
    here, unprepared; so is what failed there, whose errors are then raised here.
    """
    if not _can_copy():
        yield do_here
        return
    asked, asking = os.pipe()
    answers, answering = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(asking)
        os.close(answers)
        _stand_by(prepare, asked, answering)
    os.close(asked)
    os.close(answering)
    results = open(answers, "rb")  # noqa: SIM115  # closed below

    def ask(work: Callable[..., Any], *arguments: Any) -> Any:
        with suppress(OSError, EOFError):  # the copy is gone
            with open(asking, "wb", closefd=False) as requests:
                pickle.dump((work, arguments), requests)
            return pickle.load(results)
        return do_here(work, *arguments)

    try:
        yield ask
    finally:
        os.close(asking)
        results.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def do_here(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(*arguments)


def _stand_by(prepare: Callable[[], object], asked: int, answering: int) -> None:
    try:
        prepare()
        with open(asked, "rb") as requests, open(answering, "wb") as results:
            while True:  # until the other side is gone: EOFError
                work, arguments = pickle.load(requests)
                pickle.dump(work(*arguments), results)
                results.flush()
    finally:
        os._exit(1)


def _can_copy() -> bool:
    return _allowed.get() and sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1
