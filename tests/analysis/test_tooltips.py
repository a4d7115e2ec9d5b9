"""Tooltips: every point and cell tells what its row knows; hollow points lie at an edge."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse_steps, write_report
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.inline import inline_svg
from analysis.figures.tooltips import HOLLOW, tell
from analysis.topics.critical_batch_size import plot_critical_batch_size
from analysis.words import rounded
from tests.browser import needs_browser, open_browser

HOSTILE = 'x" <script>&</script> id="y" href="#z" \'fill: #123456\''
AT_EDGE = 256  # batch size


@pytest.fixture(scope="module")
def edged(small_result: StudyResult) -> dict[str, Drawing]:
    """The figures of the small study, the best lr at the edge at one batch size."""
    edge = small_result.frontier["batch_size"] == AT_EDGE
    changed = dataclasses.replace(
        small_result, frontier=small_result.frontier.assign(lr_at_edge=edge)
    )
    return {drawing.name: drawing for drawing in changed.drawings()}


@pytest.fixture(scope="module")
def told(edged: dict[str, Drawing]) -> dict[str, list[str]]:
    """What each figure's points tell."""
    return {name: _titles(style.render(one.figure, "svg")) for name, one in edged.items()}


def _titles(svg: bytes) -> list[str]:
    return [
        str(title.text) for title in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")
    ]


@pytest.mark.parametrize(
    ("figure", "column"),
    [("steps_against_batch_size", "steps"), ("pareto_front", "steps"),
     ("loss_at_fixed_examples", "loss"), ("residuals", "log_residual")],
)  # fmt: skip
def test_every_row_with_a_point_tells(
    figure: str, column: str, edged: dict[str, Drawing], told: dict[str, list[str]]
) -> None:
    known = edged[figure].table.dropna(subset=column)
    assert len(told[figure]) == len(known) > 5
    sizes = [int(size.replace(",", "")) for size in _found("batch size", told[figure])]
    assert sorted(sizes) == sorted(known["batch_size"])


def _found(name: str, words: list[str]) -> list[str]:
    return [match[1] for text in words for match in re.finditer(rf"^{name}: ([\d,.]+)", text, re.M)]


def test_a_point_tells_all_that_is_known(
    edged: dict[str, Drawing], told: dict[str, list[str]]
) -> None:
    rows = edged["steps_against_batch_size"].table
    row = rows.dropna(subset=["steps", "lr_low"]).iloc[0]
    start = f"batch size: {row['batch_size']}\ntarget loss: {row['target_loss']:.3g}"
    [words] = [text for text in told["steps_against_batch_size"] if start in text]
    value, low, high = (rounded(row[f"lr{end}"]) for end in ("", "_low", "_high"))
    assert f"learning rate: {value} ({low} to {high})" in words
    assert f"steps: {rounded(row['steps'])}\n" in words  # two seeds give no interval
    assert "seeds: 2" in words
    assert HOLLOW not in words
    at_edge = [text for text in told["steps_against_batch_size"] if text.endswith(HOLLOW)]
    assert _found("batch size", at_edge) == [str(AT_EDGE)] * 2


def test_every_cell_of_a_heat_map_tells(
    edged: dict[str, Drawing], told: dict[str, list[str]]
) -> None:
    cells = edged["steps_by_lr_and_batch_size"].table
    words = told["steps_by_lr_and_batch_size"]
    assert len(words) == len(cells)
    n_without = int((cells["outcome"] != "reached").sum())
    assert n_without > 0
    assert sum("diverged" in text or "budget" in text for text in words) == n_without


def test_points_of_the_best_lr_and_the_critical_batch_size_tell(
    edged: dict[str, Drawing], told: dict[str, list[str]]
) -> None:
    best = edged["best_lr_against_batch_size"].table
    hardest = best[best["target_loss"] == best["target_loss"].min()]
    words = told["best_lr_against_batch_size"]
    assert len(words) == int((hardest["outcome"] == "reached").sum())
    assert len(_found("steps", words)) == len(words)
    table = edged["critical_batch_size_against_target"].table
    definitions = ["min_examples/min_steps", "overhead", "half_elasticity"]
    columns = [*definitions, "exact_same_grid", "exact_continuous_lr"]
    n = int(table[columns].notna().sum().sum()) + int(
        table[["at_least", "at_most"]].notna().sum().sum()
    )
    assert len(told["critical_batch_size_against_target"]) == n


@pytest.mark.parametrize(
    "figure", ["steps_against_batch_size", "pareto_front", "best_lr_against_batch_size"]
)
def test_points_at_an_edge_are_hollow_and_the_legend_says_so_once(
    figure: str, edged: dict[str, Drawing], small_result: StudyResult
) -> None:
    drawn = edged[figure].figure
    hollow = [line for line in drawn.axes[0].lines if line.get_markerfacecolor() == "white"]
    places = [len(np.ravel(line.get_xdata())) for line in hollow]
    n_targets = 1 if figure.startswith("best_lr") else len(small_result.targets)
    assert sum(places) == n_targets
    legend = [text.get_text().replace("\n", " ") for text in drawn.legends[0].get_texts()]
    assert legend.count(f"hollow: {HOLLOW}") == 1
    plain = next(one for one in small_result.drawings() if one.name == figure).figure
    known = small_result.frontier["lr_at_edge"].astype(bool)
    assert known.any() == any("hollow" in text.get_text() for text in plain.legends[0].get_texts())


def test_targets_with_neighbours_keep_their_points_apart() -> None:
    """Groups at close targets: every group left to right at its target, none beyond the middle
    between two targets."""
    targets = [1.0, 0.95, 0.5]
    groups = [
        (name, pd.DataFrame({"target_loss": targets, "min_examples/min_steps": 10.0 + i,
                             "low": 9.0, "high": 30.0, "at_least": np.nan, "at_most": np.nan}))
        for i, name in enumerate("abcdef")
    ]  # fmt: skip
    whole = pd.concat([rows for _, rows in groups])
    lines = plot_critical_batch_size(whole, groups).axes[0].lines
    drawn = [
        np.asarray(line.get_xdata(), float) for line in lines if line.get_marker() in style.MARKERS
    ]
    places = np.array([x for x in drawn if len(x) == 3])
    assert places.shape == (6, 3)
    assert (np.diff(places, axis=0) < 0).all()  # the axis falls to the right
    middle = np.sqrt(1.0 * 0.95)
    assert (places[:, 0] > middle).all()
    assert (places[:, 1] < middle).all()
    assert np.allclose(places[0] * places[-1], np.square(targets))


def test_texts_are_escaped_and_ids_are_the_figures_own() -> None:
    with style.house_style():
        figure, ax = style.new_axes()
        ax.plot([1, 2], [1, 2], "o", label=HOSTILE)
        tell(
            ax,
            pd.DataFrame(
                {
                    "batch_size": [1, 2],
                    "steps": [1, 2],
                    "steps_low": [0.5, 0.5],
                    "steps_high": [3, 3],
                }
            ),
            "batch_size",
            "steps",
            HOSTILE,
        )
        style.legend_below(figure, ax)
    svg = style.render(figure, "svg")
    assert _titles(svg) == [f"{HOSTILE}\nbatch size: {n}\nsteps: {n} (0.5 to 3)" for n in (1, 2)]
    shown = inline_svg(svg, "f7", HOSTILE)
    assert "<script" not in shown
    assert _titles(shown.replace("xlink:href", "href").encode()) == _titles(svg)
    ids = re.findall(r' id="([^"]+)"', shown)
    assert ids[0] == "f7"
    assert len(ids) == len(set(ids)) > 5
    assert all(name.startswith("f7-") for name in ids[1:])
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', shown)) == set(ids[1:])


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_other_formats_do_not_change(kind: str) -> None:
    def rendered(telling: bool) -> bytes:
        with style.house_style():
            figure, ax = style.new_axes()
            ax.plot([1, 2], [1, 2], "o")
            if telling:
                tell(ax, pd.DataFrame({"batch_size": [1], "steps": [9.0]}), "batch_size", "steps")
        return style.render(figure, kind)

    assert rendered(True) == rendered(False)


@pytest.fixture(scope="module")
def page_of_groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two groups with long and hostile names."""
    rows = [
        {"net": net, "batch_size": size, "seed": seed, "steps": least * (1 + 40 / size)}
        for net, least in ((HOSTILE, 50), ("longer_than_a_phone_is_wide" * 2, 80))
        for size in 4 ** np.arange(1, 6)
        for seed in range(3)
    ]
    result = analyse_steps(pd.DataFrame(rows), n_bootstrap=5)
    return write_report(result, tmp_path_factory.mktemp("page"))


@needs_browser()
@pytest.mark.long
def test_a_browser_finds_the_words_under_the_pointer(page_of_groups: Path, tmp_path: Path) -> None:
    with open_browser(tmp_path / "profile") as page:
        page.goto(page_of_groups.as_uri())
        [marks] = page.locator("figure#one_curve_of_all .tooltips").all()
        assert marks.locator("title").count() == 10
        mark = marks.locator("circle").first
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        assert box is not None
        assert box["width"] > 12
        words = page.evaluate(
            "([x, y]) => document.elementFromPoint(x, y).querySelector('title').textContent",
            [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
        )
        assert "E / E_min" in words
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids))


@needs_browser()
@pytest.mark.long
def test_phones_and_paper_cut_nothing(page_of_groups: Path, tmp_path: Path) -> None:
    beyond = (
        "[...document.querySelectorAll('main *')].filter(one => !one.closest('svg') &&"
        " (%s || !one.closest('.scroll')) && one.getBoundingClientRect().right > innerWidth + 1)"
        ".map(one => one.outerHTML.slice(0, 80))"
    )
    with open_browser(tmp_path / "profile") as page:
        page.goto(page_of_groups.as_uri())
        for width in (360, 400):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(beyond % "false") == []
            box = page.locator("figure .scroll").first
            assert box.evaluate("one => one.scrollWidth > one.clientWidth")
            assert "local" in box.evaluate("one => getComputedStyle(one).backgroundAttachment")
        page.set_viewport_size({"width": 688, "height": 800})  # A4 within its margins
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(beyond % "true") == []
        paper = page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
