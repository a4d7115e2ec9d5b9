"""Progress of long work: a bar with ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0


class Count:
    """Counts done items of one piece of work and shows them."""

    def __init__(self, what: str, total: int, bar: Progress | None) -> None:
        self._what, self.total, self._bar = what, total, bar
        self._task = None if bar is None else bar.add_task(what, total=total)
        self._begin = self._shown = time.monotonic()
        self.done = 0

    def add(self, n: int = 1) -> None:
        self.set(self.done + n)

    def set(self, done: int) -> None:
        self.done = done
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)
            return
        now = time.monotonic()
        if now - self._shown >= LINE_SECONDS and 0 < done < self.total:
            self._shown = now
            left = (now - self._begin) * (self.total - done) / done
            log.info("%s: %d of %d, about %.0f s left", self._what, done, self.total, left)


@contextmanager
def progress_display() -> Iterator[Progress | None]:
    """A live display where stderr is a terminal, else None: `Count` then writes lines."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeLeft(),
    )
    with Progress(*columns, console=Console(stderr=True)) as display:
        yield display
