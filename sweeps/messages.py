"""A user's mistake is one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scaling.config import ConfigError
from scaling.tracking import StoreError


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ConfigError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
