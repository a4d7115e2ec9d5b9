"""result.plot: the report's figures as a user has them, and what it leaves alone."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from analysis import AnalysisError, StudyResult, analyse_steps
from analysis.figures.style import render

STEPS = {8: 461, 32: 146, 128: 65.6, 512: 46.8, 2048: 41.5}


@pytest.fixture(scope="module")
def nets() -> StudyResult:
    """Two groups, small and large."""
    rows = [
        {"net": net, "batch_size": size, "steps": times * steps}
        for net, times in (("small", 1), ("large", 2))
        for size, steps in STEPS.items()
    ]
    return analyse_steps(pd.DataFrame(rows), n_bootstrap=5)


def png(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return buffer.getvalue()


def corner(content: bytes) -> tuple[int, ...]:
    pixel = Image.open(io.BytesIO(content)).convert("RGBA").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_every_figure_of_the_report_is_there_and_is_the_same(small_result: StudyResult) -> None:
    drawings = list(small_result.drawings())
    assert small_result.figures == [drawing.name for drawing in drawings]
    kinds = {"residuals", "pareto_front", "steps_by_lr_and_batch_size", "loss_against_steps"}
    drawings = [drawing for drawing in drawings if drawing.kind in kinds]
    assert len(drawings) == len(kinds)
    for drawing in drawings:
        figure = small_result.plot(drawing.name)
        assert isinstance(figure, Figure)
        assert render(figure, "svg") == render(drawing.figure, "svg")


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("frontier", "batch size B (examples)", "steps to target S"),
        ("pareto", "examples to target E = B S", "steps to target S"),
        ("best_lr", "batch size B (examples)", "best learning rate"),
    ],
)
def test_short_names_are_of_figures(name: str, x: str, y: str, small_result: StudyResult) -> None:
    ax = small_result.plot(name).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (x, y)


def test_a_figure_can_be_restyled_and_saved(small_result: StudyResult, tmp_path: Path) -> None:
    figure = small_result.plot("frontier")
    before = png(figure)
    ax = figure.axes[0]
    ax.set_title("mine")
    ax.set_xlim(2, 500)
    ax.lines[0].set_color("#d55e00")
    figure.set_size_inches(5, 4)
    figure.savefig(tmp_path / "mine.svg")
    figure.savefig(tmp_path / "mine.png", dpi=50)
    assert ax.get_xlim() == (2, 500)
    assert to_rgba(ax.lines[0].get_color()) == to_rgba("#d55e00")
    assert size_of(tmp_path / "mine.png") == (250, 200)
    assert "<svg" in (tmp_path / "mine.svg").read_text()
    assert png(small_result.plot("frontier")) == before  # the next one is as it was


@pytest.mark.parametrize("name", ["frontier", "residuals"])
def test_the_users_style_is_neither_taken_nor_changed(name: str, small_result: StudyResult) -> None:
    usual = png(small_result.plot(name))
    theirs = {"font.size": 30, "grid.color": "red", "savefig.facecolor": "black"}
    with matplotlib.style.context(["dark_background", theirs]):
        before = dict(dict.items(mpl.rcParams))  # to look the backend up would choose one
        figure = small_result.plot(name)
        assert png(figure) == usual
        assert dict(dict.items(mpl.rcParams)) == before
    assert corner(usual) == (255, 255, 255, 255)
    assert corner(png(figure, transparent=True))[3] == 0
    assert corner(png(figure, facecolor="#000000")) == (0, 0, 0, 255)


@pytest.mark.parametrize("pyplot", [False, True])
def test_pyplot_is_not_needed_and_hears_nothing(pyplot: bool) -> None:
    root = str(Path(__file__).parents[2])
    code = f"""
import sys
sys.path.insert(0, {root!r})
import matplotlib as mpl
import matplotlib.style
import pandas as pd
if {pyplot}:
    import matplotlib.pyplot as plt
from analysis import analyse_frame
frame = pd.DataFrame({{"batch_size": {list(STEPS)}, "steps": {list(STEPS.values())}}})
result = analyse_frame(frame, n_bootstrap=5)
kept = {{key: dict.__getitem__(mpl.rcParams, key) for key in mpl.rcParams}}
figure = result.plot()
changed = {{key for key in kept if dict.__getitem__(mpl.rcParams, key) != kept[key]}}
print(changed or "same", "matplotlib.pyplot" in sys.modules, {pyplot} and plt.get_fignums())
figure.savefig("/dev/null", format="png")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == f"same {pyplot} {[] if pyplot else False}"


def lines_of(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in figure.axes[0].lines]


def test_a_group_has_its_own_figure_and_all_have_one_together(nets: StudyResult) -> None:
    together = nets.plot("frontier")
    assert {"net = large", "net = small"} <= {
        text.get_text() for text in together.legends[0].get_texts()
    }
    own = nets.plot("frontier", group={"net": "small"})
    least = min(points[:, 1].min() for points in lines_of(own) if len(points) == len(STEPS))
    assert least == pytest.approx(min(STEPS.values()))
    for same in (
        nets.plot("steps_against_batch_size", group="small"),
        nets.plot("frontier", group={"params.net": "small"}),
        nets.plot("steps_against_batch_size_net=small"),
    ):
        assert render(same, "svg") == render(own, "svg")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("frontir", {}, "no figure frontir; did you mean frontier.* There are frontier, pareto, "),
        (7, {}, "no figure 7; [Tt]here are frontier"),
        ("pareto", {}, "pareto: 2 groups have it; give group=.., one of {'net': 'large'}, {'net"),
        ("pareto", {"group": {"net": "huge"}}, "no group {'net': 'huge'} has it; .*'large'}"),
        ("pareto", {"group": {"nets": "small"}}, "no group {'nets': 'small'} has it"),
        ("pareto", {"group": "huge"}, "no group huge has it"),
        ("one_curve", {"group": "small"}, "one_curve speaks of no single group; leave group out"),
        ("frontier", {"style": "dark"}, "figures.style=dark: must be one of screen, paper"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_in_one_line(
    name: str, options: dict, message: str, nets: StudyResult
) -> None:
    with pytest.raises(AnalysisError, match=message) as error:
        nets.plot(name, **options)
    assert "\n" not in str(error.value)


def test_a_style_of_print_has_its_width(small_result: StudyResult) -> None:
    assert small_result.plot("pareto", style="paper").get_figwidth() == 3.25
    assert small_result.plot("pareto").get_figwidth() == 7.2


@pytest.mark.long
def test_groups_beyond_those_that_the_report_draws_can_be_drawn() -> None:
    rows = [
        {"net": net, "batch_size": size, "steps": (1 + net) * steps}
        for net in range(22)
        for size, steps in STEPS.items()
    ]
    many = analyse_steps(pd.DataFrame(rows), n_bootstrap=2)
    assert "pareto_front_net=21" not in many.figures
    assert many.plot("pareto", group={"net": 21}).axes
