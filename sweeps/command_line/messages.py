"""A user's mistake is one line on stderr and exit code 2, an interruption one line and 130."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeGuard, cast

from scaling.addresses import one_line
from scaling.limits import ConfigError
from scaling.record.journal import JournalError, RecordError
from scaling.store.check import StoreError
from sweeps.command_line.hydra_errors import explain, is_of_configuration

ONCE_MORE = "fix this and run the same command again"
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
OF_A_FILE = (
    *(errno.EACCES, errno.EPERM),
    # a folder that was moved, a file where a folder should be, a link, a pipe
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.EINVAL),
)


def one_line_warning(message: Any, *_: Any, **__: Any) -> None:
    """In place of warnings.showwarning."""
    print(f"warning: {one_line(str(message))}", file=sys.stderr)


class OneLineError(RuntimeError):
    """Another program refuses what is asked of it; the message is one line and says all."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ConfigError, JournalError, OneLineError, StoreError) as error:
        message = str(error)
    except RecordError as error:
        message = f"{error}; what is recorded is safe: {ONCE_MORE}"
    except Exception as error:
        if is_of_configuration(error):
            message = explain(error)
        elif _is_of_the_machine(error):
            where = error.filename or "record_dir or hydra.sweep.dir"  # writing does not name it
            message = f"{where}: {error.strerror}; {ONCE_MORE}"
        else:
            raise
    else:
        return
    print(f"error: {one_line(message)}", file=sys.stderr)
    raise SystemExit(2)


def _is_of_the_machine(error: Exception) -> TypeGuard[OSError]:
    if not isinstance(error, OSError):
        return False
    return error.errno in OF_THE_DISK or (error.errno in OF_A_FILE and error.filename is not None)


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
    """Interrupted while work was being saved: end at once, the writer does the rest."""


class _OutlivingPipe:
    """A stream whose reader may go away (`| head`): says so once, then discards what is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._stream is sys.__stdout__:
            print("the output is no longer read: the work continues", file=sys.stderr)


@contextmanager
def outliving_pipes() -> Iterator[None]:
    """What is printed inside may lose its reader."""
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, _OutlivingPipe(before[0]))
    sys.stderr = cast(TextIO, _OutlivingPipe(before[1]))
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def one_line_interruption() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sweep in order: training stops, what is done is written."""
    with outliving_pipes(), _one_line_interruption():
        yield


@contextmanager
def _one_line_interruption() -> Iterator[None]:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _interrupt)
    try:
        yield
    except KeyboardInterrupt as interruption:
        print("interrupted: what is done is on record; the same command resumes", file=sys.stderr)
        if isinstance(interruption, StoppedAtOnce):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)  # not waiting for the writer, which ends by itself
        raise SystemExit(130) from None
