"""Work beside other work: in a copy of this process, on a second core."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

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
    if not (_allowed.get() and sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1):
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
