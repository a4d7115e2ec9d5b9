"""A user's mistake is one line on stderr and exit code 2, an interruption one line and 130."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scaling.config import ConfigError
from scaling.journal import JournalError
from scaling.tracking import StoreError


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ConfigError, JournalError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def one_line_interruption() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sweep in order: training stops, what is done is written."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: what is done is on record, the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
