"""Progress: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sweeps.run import progress
from sweeps.run.progress import Count, progress_display


@contextmanager
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """stdout and stderr are a terminal; what came out of it so far."""
    ours, theirs = pty.openpty()
    screen = os.fdopen(theirs, "w")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("stderr", "stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, screen)
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                seen.append(os.read(ours, 65536))
            except OSError:  # the other end is closed
                return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield seen
    screen.close()
    thread.join(timeout=10)
    os.close(ours)


def text_of(seen: list[bytes]) -> str:
    """What came up to "the end", without colours and movements; the reader is a moment behind."""
    sys.stderr.flush()
    text = ""
    for _ in range(100):
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(seen).decode())
        if "the end" in text:
            break
        threading.Event().wait(0.05)
    return text


def test_elsewhere_lines_say_counts_and_the_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO), progress_display() as display:
        assert display is None  # pytest's stderr is none
        count = Count("training", 4, display)
        count.state = "2 running, 1 failed, 7 skipped"
        count.add()
        count.set(4)
    (line,) = caplog.messages  # at the end there is nothing left to wait for
    assert line.startswith("training: 1 of 4, 2 running, 1 failed, 7 skipped, about ")


def test_a_terminal_shows_bars_the_frontier_and_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_terminal(monkeypatch) as seen:
        handler = logging.StreamHandler(sys.stdout)
        logging.root.addHandler(handler)
        try:
            show_a_round()
        finally:
            logging.root.removeHandler(handler)
        assert handler.stream is sys.stdout
        print("the end", file=sys.stderr)
        text = text_of(seen)
    for part in ("batch_size=8", "41.5", "training", "3/4", "2 running", "a line above"):
        assert part in text


def show_a_round() -> None:
    with progress_display() as display:
        assert display is not None
        display.show_table(["round 1", "steps"], [["batch_size=8", "41.5"]])
        with progress_display() as inner:
            assert inner is display  # one display, however deep
            count = Count("training", 4, inner)
            count.state = "2 running"
            count.add(3)
            display.live.refresh()
            logging.getLogger("sweeps").warning("a line above")
        assert not display.bars.task_ids
        Count("writing", 0, display)
        assert not display.bars.task_ids  # nothing to do is no bar
    with progress_display() as later:
        assert later is not display
