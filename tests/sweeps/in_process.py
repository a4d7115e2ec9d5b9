"""`python -m sweeps` in this process: the real command, without the start of an interpreter."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from tests.warm import code_of


@dataclass(frozen=True)
class Ended:
    """How a command ended. created: what it left in its folder that had not been there."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    created: tuple[str, ...]

    @property
    def lines(self) -> int:
        return len(self.stderr.splitlines())


class TookTooLong(BaseException):
    """Raised into a command that does not end."""


def command(
    arguments: list[str], folder: Path, module: str = "sweeps", limit_seconds: float = 20.0
) -> Ended:
    """The outcome of `python -m <module> arguments...` in `folder`.

    An uncaught exception is what an interpreter makes of it: a traceback and exit code 1.
    """
    import importlib

    main = importlib.import_module(f"{module}.__main__").main
    before = set(_tree(folder))
    out, err = io.StringIO(), io.StringIO()
    began = time.monotonic()
    with _surroundings(folder, [module, *arguments], out, err):
        code = _run(main, limit_seconds, err)
    created = tuple(sorted(set(_tree(folder)) - before))
    return Ended(code, out.getvalue(), err.getvalue(), time.monotonic() - began, created)


def _run(main, limit_seconds: float, err: io.StringIO) -> int:
    import traceback

    def too_long(*_: object) -> None:
        raise TookTooLong

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit_seconds, 0.5)
    try:
        main()
        return 0
    except SystemExit as end:
        return code_of(end)
    except TookTooLong:
        return -1
    except BaseException:
        signal.setitimer(signal.ITIMER_REAL, 0)
        traceback.print_exc(file=err)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _surroundings(
    folder: Path, argv: list[str], out: io.StringIO, err: io.StringIO
) -> Iterator[None]:
    """Working directory, arguments, streams and everything global that Hydra changes."""
    kept = sys.argv, os.getcwd(), dict(os.environ), Singleton.get_state()
    handlers = [(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    loggers = logging.root.handlers[:], logging.root.level
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    sys.argv = argv
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            yield
    finally:
        GlobalHydra.instance().clear()
        sys.argv = kept[0]
        os.chdir(kept[1])
        os.environ.clear()
        os.environ.update(kept[2])
        Singleton.set_state(kept[3])
        for handler in set(logging.root.handlers) - set(loggers[0]):
            handler.close()
        logging.root.handlers[:], logging.root.level = loggers
        logging.setLogRecordFactory(logging.LogRecord)
        for number, previous in handlers:
            signal.signal(number, previous)


def _tree(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*")]
