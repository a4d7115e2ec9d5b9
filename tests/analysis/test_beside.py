"""Work beside other work: the same results and errors, copy or not."""

from __future__ import annotations

import os
import sys

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.beside import beside, copies_allowed
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
