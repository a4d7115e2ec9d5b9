"""Work beside other work: the same results and errors, copy or not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.beside import beside, copies_allowed, standing_by
from analysis.figures.drawing import Drawing
from analysis.report.rendering import begin_rendering

two_cores = pytest.mark.skipif(
    sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs a second core"
)


def test_without_leave_the_work_is_done_here() -> None:
    assert beside(os.getpid)() == os.getpid()


@two_cores
def test_a_copy_does_the_work_and_gives_its_result() -> None:
    with copies_allowed():
        pid, content = beside(lambda: (os.getpid(), b"x" * 1_000_000))()
    assert pid != os.getpid()
    assert len(content) == 1_000_000


@two_cores
def test_what_a_copy_cannot_do_is_done_here() -> None:
    here = os.getpid()

    def only_here() -> int:
        if os.getpid() != here:
            os._exit(7)
        return here

    def refused() -> int:
        raise ValueError("no such thing")

    with copies_allowed():
        assert beside(only_here)() == here
        with pytest.raises(ValueError, match="no such thing"):
            beside(refused)()


@two_cores
def test_images_are_in_the_drawings_order_whoever_renders_them() -> None:
    here = os.getpid()

    def plot(i: int, fails: bool) -> Figure:
        if fails and os.getpid() != here:
            os._exit(7)
        figure = Figure()
        figure.text(0.5, 0.5, str(i))
        return figure

    def drawings(fails: bool) -> list[Drawing]:
        return [
            Drawing(str(i), "", "", lambda i=i: plot(i, fails), "", pd.DataFrame())
            for i in range(5)
        ]

    alone = begin_rendering(drawings(False))()
    with copies_allowed():
        finish, finish_after_a_death = map(begin_rendering, (drawings(False), drawings(True)))
        assert finish() == finish() == alone
        assert finish_after_a_death() == alone
    assert len({images["svg"] for images in alone}) == 5


def test_without_leave_what_is_asked_for_is_done_here() -> None:
    with standing_by(lambda: pytest.fail("prepared")) as ask:
        assert ask(os.getpid) == os.getpid()


@two_cores
def test_one_that_stands_by_is_prepared_and_answers_until_the_end(tmp_path: Path) -> None:
    def prepare() -> None:
        (tmp_path / "prepared").write_text(str(os.getpid()))

    with copies_allowed(), standing_by(prepare) as ask:
        pid = ask(os.getpid)
        assert ask(pow, 2, 10) == 1024
        assert ask(os.getpid) == pid == int((tmp_path / "prepared").read_text()) != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@two_cores
def test_what_one_that_stands_by_cannot_do_is_done_here() -> None:
    with copies_allowed(), standing_by(int) as ask:
        with pytest.raises(ValueError, match="invalid literal"):
            ask(int, "x")
        assert ask(os.getpid) == os.getpid()  # it is gone
    with copies_allowed(), standing_by(lambda: int("x")) as ask:
        assert ask(os.getpid) == os.getpid()
