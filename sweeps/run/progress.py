"""Progress of long work: one live display with ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sweeps.run.time_left import Countdown

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0
_UNKNOWN = "-:--:--"


class Count:
    """Counts done items of one piece of work and shows them. state: what else there is to say.

    seconds_left: where it is known; else the items left take as long as those so far.
    """

    def __init__(self, what: str, total: int, display: Display | None) -> None:
        self._what, self.total = what, total
        self._bars = None if display is None or not total else display.bars
        self._task = None
        if self._bars is not None:
            self._task = self._bars.add_task(what, total=total, state="", left=_UNKNOWN)
        self._begin = self._moved = self._shown = time.monotonic()
        self._countdown = Countdown()
        self.seconds_left: float | None = None
        self.done = 0
        self._first: int | None = None  # done before it was first heard of
        self.state = ""

    def add(self, n: int = 1) -> None:
        self.set(self.done + n)

    def set(self, done: int) -> None:
        if done > self.done:
            self._moved = time.monotonic()
        self.done = done
        self.show()

    def set_of(self, done: int, left: int) -> None:
        """Where the total is known only on the way, and a part was done before this began."""
        self.total = done + left
        self._first = done if self._first is None else self._first
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, total=self.total)
        self.set(done)

    def show(self) -> None:
        """On a terminal at once, elsewhere a line now and then."""
        now = time.monotonic()
        left = self._countdown.shown(now, self._estimate(now))
        if self._bars is not None and self._task is not None:
            shown = _UNKNOWN if left is None else str(timedelta(seconds=round(left)))
            self._bars.update(self._task, completed=self.done, state=self.state, left=shown)
        elif now - self._shown >= LINE_SECONDS and left is not None and self.done < self.total:
            self._shown = now
            state = f"{self.state}, " if self.state else ""
            counts = f"{self._what}: {self.done} of {self.total}"
            log.info("%s, %sabout %.0f s left", counts, state, left)

    def _estimate(self, now: float) -> float | None:
        if self.seconds_left is not None:
            return self.seconds_left
        counted = self.done - (self._first or 0)
        if counted <= 0:
            return None
        estimate = (self._moved - self._begin) * (self.total - self.done) / counted
        return max(0.0, estimate - (now - self._moved))


class Display:
    """The live display of a sweep: bars of what is under way, under a table of what was found."""

    def __init__(self) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[state]}"),
        )
        self.live = Live(
            self.bars, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()
        )

    def show_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*row)
        self.live.update(Group(table, self.bars))

    @contextmanager
    def own_bars(self) -> Iterator[Display]:
        """Bars that are made inside go at the end."""
        before = set(self.bars.task_ids)
        try:
            yield self
        finally:
            for task in set(self.bars.task_ids) - before:
                self.bars.remove_task(task)


_shown: Display | None = None


@contextmanager
def progress_display() -> Iterator[Display | None]:
    """The live display where stderr is a terminal, else None: `Count` then writes lines.

    Nested work uses the one that is already shown.
    """
    global _shown
    if _shown is not None:
        with _shown.own_bars():
            yield _shown
        return
    if not sys.stderr.isatty():
        yield None
        return
    _shown = Display()
    try:
        with _shown.live, _logging_above(), _shown.own_bars():
            yield _shown
    finally:
        _shown = None


@contextmanager
def _logging_above() -> Iterator[None]:
    """Log lines go through the display, which is redrawn below them."""
    handlers = [one for one in logging.root.handlers if type(one) is logging.StreamHandler]
    before = [handler.stream for handler in handlers]
    for handler in handlers:
        shown = {sys.__stdout__: sys.stdout, sys.__stderr__: sys.stderr}
        handler.setStream(shown.get(handler.stream, handler.stream))
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream)
