"""A user's mistake is one line on stderr and exit code 2, an interruption one line and 130."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scaling.config import ConfigError
from scaling.journal import JournalError, RecordError
from scaling.schema import one_line
from scaling.store_check import StoreError
from sweeps.hydra_errors import explain, is_of_configuration
from sweeps.slurm_queue import SlurmError

ONCE_MORE = "mend this and start the same command again"
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ConfigError, JournalError, SlurmError, StoreError) as error:
        message = str(error)
    except RecordError as error:
        message = f"{error}; what is recorded is safe: {ONCE_MORE}"
    except Exception as error:
        if is_of_configuration(error):
            message = explain(error)
        elif isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            message = f"{error.filename}: {error.strerror}; {ONCE_MORE}"
        else:
            raise
    else:
        return
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def interruptible_between() -> Iterator[Callable[[], None]]:
    """Work that must not be cut in the middle: what is yielded raises KeyboardInterrupt if asked.

    OmegaConf, interrupted, raises errors of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def note(*_: object) -> None:
        _asked.set()

    def check() -> None:
        if _asked.is_set():
            raise KeyboardInterrupt

    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, note) for name in names]
    try:
        yield check
        check()
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


_asked = threading.Event()


def _interrupt(*_: object) -> None:
    """Noted too: what imports its parts in `try: ... except:` swallows the exception."""
    _asked.set()
    raise KeyboardInterrupt


class StoppedAtOnce(KeyboardInterrupt):
    """Interrupted while things were being put in order: leave them to those who do it."""


@contextmanager
def one_line_interruption() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sweep in order: training stops, what is done is written."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _interrupt)
    try:
        yield
    except KeyboardInterrupt as interruption:
        print("interrupted: what is done is on record, the same command goes on", file=sys.stderr)
        if isinstance(interruption, StoppedAtOnce):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)  # not waiting for the writer, which ends by itself
        raise SystemExit(130) from None
