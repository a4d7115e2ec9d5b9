"""Figures: all of them, equal bytes for equal input, a table each, readable labels."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text

from analysis import StudyResult, analyse
from analysis.drawings import drawn_groups, left_out_words
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.looks import FORMATS, contrast, dark_color, for_page, look
from analysis.figures.series import place_labels
from analysis.read.curves import tidy_curves
from analysis.report.report import write_report
from analysis.step_study import analyse_steps
from analysis.topics.loss_curves import plot_loss_curves
from analysis.topics.lr_grid import plot_lr_heat_map

KINDS = (
    "steps_against_batch_size",
    "pareto_front",
    "residuals",
    "best_lr_against_batch_size",
    "steps_by_lr_and_batch_size",
    "loss_against_steps",
    "loss_against_examples",
    "loss_at_fixed_examples",
    "critical_batch_size_against_target",
)


@pytest.fixture(scope="module")
def drawings(small_result: StudyResult) -> list[Drawing]:
    return list(small_result.drawings())


def test_every_figure_is_there_with_its_table(
    drawings: list[Drawing], small_result: StudyResult
) -> None:
    names = [drawing.name for drawing in drawings]
    assert len(set(names)) == len(names)
    assert [name for name in names if name in KINDS] == list(KINDS)
    written = small_result.frames
    for drawing in drawings:
        assert drawing.title
        assert drawing.caption
        assert len(drawing.table)
        assert set(drawing.table.columns) == set(written[drawing.table_name].columns)


def test_further_targets_are_folded(drawings: list[Drawing], small_result: StudyResult) -> None:
    easier = f"{small_result.targets[0]:.6g}"
    assert [drawing.name for drawing in drawings if drawing.folded] == [
        f"best_lr_against_batch_size_{easier}",
        f"rule_regret_{easier}",
        f"steps_by_lr_and_batch_size_{easier}",
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_equal_input_gives_equal_bytes(
    drawings: list[Drawing], small_result: StudyResult, file_format: str
) -> None:
    def digests(some: list[Drawing]) -> dict[str, str]:
        content = {d.name: style.render(d.figure, file_format) for d in some}
        return {name: hashlib.sha256(c).hexdigest() for name, c in content.items()}

    first = digests(drawings[:2])
    assert first == digests(list(small_result.drawings())[:2])
    assert len(set(first.values())) == len(first)


def test_formats(drawings: list[Drawing]) -> None:
    png, svg, pdf = (style.render(drawings[0].figure, kind) for kind in ("png", "svg", "pdf"))
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert ET.fromstring(svg).tag.endswith("svg")
    for content in (png, svg, pdf):
        for trace in (b"dc:date", b"CreationDate", b"Software"):
            assert trace not in content


@pytest.mark.parametrize(
    ("name", "formats", "rendered"),
    [
        ("screen", None, ["svg"]),
        ("paper", None, ["svg", "pdf"]),
        ("paper", ["png"], ["svg", "png"]),
        ("screen", [], ["svg"]),
    ],
)
def test_a_look_has_its_formats_and_svg_always(
    name: str, formats: list[str] | None, rendered: list[str]
) -> None:
    figure, _ = style.new_axes()
    with look(name, formats):
        assert list(style.render_all(figure)) == rendered


def test_labels_of_the_pareto_front_do_not_overlap(drawings: list[Drawing]) -> None:
    figure = next(d.figure for d in drawings if d.name == "pareto_front")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    labels = [t for t in ax.texts if isinstance(t, Annotation) and t.get_visible()]
    assert len(labels) >= 12  # 6 batch sizes of each target
    boxes = [label.get_window_extent() for label in labels]
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i])
        assert ax.get_window_extent().contains(*box.min)
        assert ax.get_window_extent().contains(*box.max)


def test_crowded_labels_are_hidden_rather_than_stacked() -> None:
    with style.house_style():
        figure, ax = style.new_axes()
        ax.plot([0, 1], [0, 1], ls="")
        offset = {"xytext": (6, 0), "textcoords": "offset points"}
        labels = [ax.annotate("a long label", (0.5, 0.5), **offset) for _ in range(40)]
        place_labels(figure, ax, labels, [np.array([[0.0, 0.0], [1.0, 1.0]])])
    shown = [label.get_window_extent() for label in labels if label.get_visible()]
    assert 1 < len(shown) < 40
    assert not any(box.count_overlaps(shown[:i]) for i, box in enumerate(shown))


def test_lr_heat_map_marks_the_best_and_hatches_the_failed() -> None:
    columns = ["batch_size", "lr", "steps", "outcome"]
    rows = [
        (1, 0.1, 50.0, "reached"), (1, 0.2, 40.0, "reached"), (1, 0.4, np.nan, "diverged"),
        (2, 0.1, np.nan, "censored"), (2, 0.2, 30.0, "reached"),
    ]  # fmt: skip
    cells = pd.DataFrame(rows, columns=columns)
    frontier = cells.loc[[1, 4]].assign(lr_at_edge=[False, True])
    ax = plot_lr_heat_map(cells, frontier).axes[0]
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    places = sorted(tuple(np.ravel(star.get_xydata())) for star in stars)
    assert places == [(0.5, 1.5), (1.5, 1.5)]
    assert [star.get_markerfacecolor() for star in stars] == ["white", "none"]
    hatches = {tuple(patch.get_xy()): patch.get_hatch() for patch in ax.patches}  # type: ignore[attr-defined]
    assert hatches == {(0, 2): "xxxx", (1, 0): "////"}


def test_best_lr_at_the_edge_is_hollow(small_result: StudyResult) -> None:
    result = small_result
    edge = result.frontier.assign(lr_at_edge=result.frontier["batch_size"] == 256)
    changed = dataclasses.replace(result, frontier=edge)
    figure = next(d.figure for d in changed.drawings() if d.name == "best_lr_against_batch_size")
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [list(np.asarray(line.get_xdata())) for line in hollow] == [[256], []]
    assert "hollow" in str(hollow[1].get_label())


def test_figures_need_no_display_and_ignore_the_users_style(small_result: StudyResult) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.labelsize": 40}):
        styled = style.render(next(small_result.drawings()).figure, "png")
    assert styled == style.render(next(small_result.drawings()).figure, "png")
    assert isinstance(next(small_result.drawings()).figure.canvas, FigureCanvasAgg)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1024, "1,024"), (25_000, "25 k"), (1.5e6, "1.5 M"), (0.0474, "0.0474")],
)
def test_numbers_on_axes(value: float, text: str) -> None:
    assert style.number(value) == text


def _shows(color: str, paper: str = "#15181c") -> bool:
    return contrast(color, paper) >= 4


def test_colours_show_on_dark_paper() -> None:
    colors = [to_hex(c) for c in [*style.target_colors(10), *style.ordered_colors(9)]]
    assert not all(_shows(color) for color in colors)
    assert all(_shows(dark_color(color)) for color in colors)
    assert dark_color("#ffffff") == "#15181c"
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_dark_rules_leave_the_cells_of_a_heat_map_alone(drawings: list[Drawing]) -> None:
    figure = next(d.figure for d in drawings if d.name == "steps_by_lr_and_batch_size")
    svg = style.render(figure, "svg")
    page = for_page(svg).decode()
    rules = page.split("@media screen and (prefers-color-scheme: dark)")[1].split("</style>")[0]
    cells = set(re.findall(r"fill:(#[0-9a-f]{6}); stroke: #ffffff; stroke-width: 0.6", page))
    assert len(cells) > 5
    assert not any(f"fill: {color}" in rules for color in cells)
    assert ET.fromstring(page).tag.endswith("svg")
    assert len(page) < len(svg)


@pytest.mark.parametrize(("name", "width"), [("paper", 3.25), ("paper_wide", 6.75)])
def test_figures_for_print(small_result: StudyResult, name: str, width: float) -> None:
    with style.looks.look(name):
        figures = [drawing.figure for drawing in small_result.drawings()]
        pdf = style.render(figures[0], "pdf")
    assert b"CIDFontType2" in pdf  # TrueType, not type 3
    assert b"/Type3" not in pdf
    for figure in figures:
        assert figure.get_figwidth() == pytest.approx(width)
        sizes = {
            float(text.get_fontsize()) for text in figure.findobj(Text) if text.get_text().strip()
        }
        assert min(sizes) >= 7
        assert max(sizes) <= 9
    assert style.new_axes()[0].get_figwidth() == pytest.approx(style.WIDTH)


def test_names_are_not_formulas() -> None:
    with style.house_style():
        figure, ax = style.new_axes()
        ax.plot([1, 2], [1, 2], label=style.plain_text("_$x_{$"))
        style.legend_below(figure, ax)
    assert b"<svg" in style.render(figure, "svg")
    assert len(figure.legends) == 1


def test_the_largest_stable_lr_stands_where_it_belongs() -> None:
    """Between the rows of a grid of ratio 2, a step over each batch size; none outside the grid."""
    cells = pd.DataFrame(
        [
            {"batch_size": size, "lr": lr, "steps": 10.0, "outcome": "reached"}
            for size in (1, 8, 64)
            for lr in (0.1, 0.2, 0.4, 0.8)
        ]
    )
    frontier = cells.iloc[:0].assign(lr_at_edge=False)
    limits = [0.2, 0.4 * 2**0.5, 5.0]
    stability = pd.DataFrame({"batch_size": [1, 8, 64], "largest_stable_lr": limits})
    axes = plot_lr_heat_map(cells, frontier, stability).axes[0]
    steps = [
        np.asarray(line.get_xydata()).tolist()
        for line in axes.lines
        if line.get_color() == "#d62728"
    ]
    assert np.allclose(steps, [[[0, 1.5], [1, 1.5]], [[1, 3.0], [2, 3.0]]])
    assert not plot_lr_heat_map(cells, frontier).axes[0].lines


def test_expected_losses_and_floors_are_drawn_where_theory_is_exact(small_result) -> None:
    curves = small_result.frames["loss_curves"]
    known = curves.dropna(subset="exact_loss")
    assert len(known) > 0.9 * len(curves)
    ratio = known["loss"] / known["exact_loss"]
    assert 0.9 < ratio.median() < 1.1
    assert (known.groupby("batch_size")["noise_floor"].nunique() == 1).all()
    dashed = [
        line
        for line in plot_loss_curves(curves, [], "step").axes[0].lines
        if len(np.asarray(line.get_xdata())) > 1 and line.get_linewidth() == 0.8
    ]
    assert len(dashed) == curves["batch_size"].nunique()


@pytest.mark.long
def test_the_first_pass_through_a_fixed_data_set_is_marked(small_study) -> None:
    trials, curves = small_study
    fixed = analyse(trials.assign(train_images=500), curves, n_bootstrap=2)
    table = fixed.frames["loss_curves"]
    assert np.allclose(table["epochs"], table["examples"] / 500)
    ax = plot_loss_curves(table, [], "examples").axes[0]
    marks = [line for line in ax.lines if np.ptp(np.asarray(line.get_xdata())) == 0]
    assert 500 in [np.asarray(line.get_xdata())[0] for line in marks]
    many = analyse(trials.assign(train_images=10**9), curves, n_bootstrap=2)
    for drawn in (
        plot_loss_curves(table, [], "step"),
        plot_loss_curves(many.frames["loss_curves"], [], "examples"),
    ):
        assert "all examples once" not in [text.get_text() for text in drawn.axes[0].texts]
    assert "epochs" not in analyse(trials, curves, n_bootstrap=2).frames["loss_curves"]


def _many_groups() -> StudyResult:
    """Six nets: of the even ones the fit is identified, of the last ones there are more seeds."""
    sizes = 4 ** np.arange(1, 6)
    rows = [
        {"net": f"n{i}", "batch_size": size, "seed": seed,
         "steps": 50 + 2000 / size if i % 2 == 0 else 1e5 / size}
        for i in range(6)
        for size in sizes
        for seed in range(2 + (i > 3))
    ]  # fmt: skip
    return analyse_steps(pd.DataFrame(rows), n_bootstrap=5)


@pytest.mark.long
def test_of_many_groups_those_that_say_most_have_figures(tmp_path) -> None:
    result = _many_groups()
    identified = [fit.group["params.net"] for fit in result.fits if fit.identified]
    assert identified == ["n0", "n2", "n4"]
    for most, expected in ((2, ["n0", "n4"]), (4, ["n0", "n2", "n4", "n5"])):
        assert [group["params.net"] for group in drawn_groups(result, most)] == expected
    assert len(drawn_groups(result, 6)) == 6
    assert left_out_words(result, 6) == ""
    drawings = list(result.drawings(2))
    assert {drawing.group for drawing in drawings} == {"", "net = n0", "net = n4"}
    together = [d for d in drawings if d.name == "steps_against_batch_size_of_all"]
    labels = together[0].figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["net = n0", "net = n4"]
    page = write_report(result, tmp_path, most_groups=2).read_text()
    assert "Figures show 2 of 6 groups" in page
    assert page.count(": batch sizes to use</summary>") == 6
    assert set(pd.read_csv(tmp_path / "tables" / "fits.csv")["net"]) == {f"n{i}" for i in range(6)}


def _below_zero(lowered: float, floor: float = -np.inf) -> StudyResult:
    """Losses 2 / (1 + 3 step / S), S = 20 + 800 / B, lowered; not below the floor."""
    steps = np.unique(np.geomspace(1, 1000, 40).round())
    frame = pd.DataFrame(
        {
            "batch_size": size, "lr": 0.1, "step": step,
            "loss": max(2 / (1 + 3 * step / (20 + 800 / size)) - lowered, floor),
        }
        for size in (4, 16, 64, 256)
        for step in steps
    )  # fmt: skip
    targets = [0.9 - lowered, max(0.5 - lowered, floor)]
    return analyse(*tidy_curves(frame), targets=targets, n_bootstrap=5)


@pytest.mark.parametrize(
    ("lowered", "floor", "scale"),
    [(0.0, -np.inf, "log"), (3.0, -np.inf, "linear"), (0.5, -np.inf, "linear"),
     (0.7, -np.inf, "linear"), (0.5, 0.0, "symlog")],
)  # fmt: skip
def test_losses_of_any_sign_are_drawn(lowered: float, floor: float, scale: str) -> None:
    """With their targets; nothing that matplotlib or numpy warns of."""
    result = _below_zero(lowered, floor)
    drawn = {drawing.name: drawing.figure for drawing in result.drawings()}
    for name in ("loss_against_steps", "loss_against_examples", "loss_at_fixed_examples"):
        ax = drawn[name].axes[0]
        assert ax.get_yscale() == scale
        style.render(drawn[name], "svg")
    ax = drawn["loss_against_steps"].axes[0]
    low, high = ax.get_ylim()
    curves = result.frames["loss_curves"]
    shown = curves.loc[curves["step"] > 0, "loss"]
    assert low < min(shown.min(), *result.targets)
    assert high > max(shown.max(), *result.targets)
    x = drawn["critical_batch_size_against_target"].axes[0]
    easy, hard = x.get_xlim()
    assert all(hard < target < easy for target in result.targets)
    style.render(drawn["critical_batch_size_against_target"], "svg")
    budget = result.frames["loss_at_fixed_examples"].dropna(subset="loss_increase")
    assert (budget["loss_increase"] >= 0).all()
    percent = budget["loss_increase_percent"].dropna()
    assert (percent >= 0).all()
    assert percent.empty == (lowered == 3.0)
