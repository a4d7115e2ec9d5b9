"""A study of three model sizes with timed steps: its figures, tables, summary and words."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.drawings import draw_families
from analysis.figures import style
from analysis.report.report import Provenance, Report
from analysis.report.summary import summary
from analysis.step_study import analyse_steps
from analysis.topics.topic import Section
from scaling.problem import RegressionProblem
from tests.analysis.simulated import simulate_study
from tests.analysis.topics.quantities import whole

SIZES = (16, 32, 64)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    lrs = 2.0 ** np.arange(-8.0, 0.5)
    pairs = [
        simulate_study(
            RegressionProblem.power_law(size), [1, 4, 16, 64, 256], lrs, range(3), [0.08, 0.05],
            max_steps=1500, noise=0.05,
        )
        for size in SIZES
    ]  # fmt: skip
    trials, curves = (pd.concat(pair, ignore_index=True) for pair in zip(*pairs, strict=True))
    trials["step_seconds"] = 1e-3 + 1e-5 * trials["batch_size"]
    return analyse(trials, curves, n_bootstrap=60, with_theory=False)


def section_of(result: StudyResult, name: str) -> Section:
    return next(section for section in Report(result).sections if section.name == name)


def rows_of(section: Section) -> list[dict[str, str]]:
    """The rows of its table as texts by column."""
    assert section.table
    return [
        dict(zip(section.table.head, (cell.text for cell in row), strict=True))
        for row in section.table.rows
    ]


@pytest.mark.long
def test_every_figure_has_a_table_that_is_written(result: StudyResult) -> None:
    written = result.frames
    drawings = list(draw_families(whole(result)))
    names = [drawing.name for drawing in drawings]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.search(r"_0\.\d+$", name)] == [
        "steps_of_all_model_sizes", "best_lr_of_all_model_sizes", "laws_in_model_size",
        "loss_against_model_size", "loss_against_compute", "compute_allocation", "step_time",
        "time_to_target",
    ]  # fmt: skip
    for drawing in drawings:
        assert len(drawing.table)
        assert set(drawing.table.columns) == set(written[drawing.table_name].columns)
        assert style.render(drawing.figure, "png").startswith(b"\x89PNG")


def test_model_sizes_are_told_apart_without_colour(result: StudyResult) -> None:
    drawings = {d.name: d for d in draw_families(whole(result))}
    ax = drawings["steps_of_all_model_sizes"].figure.axes[0]
    lines = [line for line in ax.lines if str(line.get_label()) in {"16", "32", "64"}]
    assert [line.get_label() for line in lines] == ["16", "32", "64"]
    assert len({str(line.get_marker()) for line in lines}) == 3
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in lines}) == 3  # type: ignore[attr-defined]
    luminance = [np.dot(line.get_color()[:3], [0.3, 0.59, 0.11]) for line in lines]  # type: ignore[index]
    assert np.diff(luminance).min() > 0.15


def test_laws_stand_in_the_summary(result: StudyResult) -> None:
    laws = json.loads(json.dumps(summary(result), allow_nan=False))["laws"]
    assert len(laws) == len(result.frames["laws"])
    law = next(
        law for law in laws
        if law["y"] == "min_steps" and law["x"] == "model_size" and law["target_loss"] == 0.05
    )  # fmt: skip
    assert law["definition"] == "fit"
    assert law["form"] == "power"
    assert law["group"] == {}
    assert law["ci95"]["exponent"][0] < law["exponent"] < law["ci95"]["exponent"][1]
    assert law["n"] == 3
    assert law["exponent_without_one"] == [None, None]  # two points are no law
    in_target = [law for law in laws if law["x"] == "target_loss"]
    assert [law["group"] for law in in_target] == [{"task.dimension": size} for size in SIZES]


def test_few_sizes_are_warned_of(result: StudyResult) -> None:
    assert any("fitted to 3 sizes" in warning for warning in result.warnings)


def test_the_words(result: StudyResult) -> None:
    sections = {section.name: section for section in Report(result).sections}
    trades = rows_of(sections["halve-double"])
    assert {row["target loss"] for row in trades} == {"0.05"}
    assert {float(row["to"]) / float(row["from batch size"]) for row in trades} == {0.5, 2.0}
    assert all(re.fullmatch(r"[+-][\d.]+\N{NO-BREAK SPACE}%", row["steps"]) for row in trades)
    assert any(row["seconds"] != "not known" for row in trades)
    names = {row[""] for row in rows_of(sections["time"])}
    assert any(name.startswith("fastest (least time)") for name in names)
    assert any(name.startswith("cheapest (fewest examples)") for name in names)
    (compute,) = sections["laws"].sentences[:-1] or sections["laws"].sentences
    assert re.search(
        r"at 0 of \d+ budgets the best model size lies inside what was trained", compute
    )


def test_the_sections_are_on_the_page_and_absent_without_data(
    result: StudyResult, small_result: StudyResult
) -> None:
    page = Report(result, Provenance()).page()
    for title in ("Half or twice the batch size", "Time on this device", "Laws"):
        assert f">{title}</h2>" in page
    alone = Report(small_result, Provenance()).page()
    assert ">Half or twice the batch size</h2>" in alone
    assert ">Time on this device</h2>" not in alone
    trades = alone.split('id="halve-double"')[1].split("</section>")[0]
    assert "<th>seconds</th>" not in trades


def test_losses_at_equal_examples_have_bands_and_an_increase(result: StudyResult) -> None:
    frame = result.frames["loss_at_fixed_examples"]
    assert (frame["loss_low"] <= frame["loss"] + 1e-12).all()
    assert (frame["loss"] <= frame["loss_high"] + 1e-12).all()
    of_budget = frame.groupby(["task.dimension", "examples"])
    several = frame[of_budget["batch_size"].transform("size") > 1]
    best = several.loc[several.groupby(["task.dimension", "examples"])["loss"].idxmin()]
    assert (best["loss_increase_percent"] == 0).all()
    assert (several["loss_increase_percent"] >= 0).all()
    assert (several["loss_increase_percent_high"] >= several["loss_increase_percent_low"]).all()
    single = frame[of_budget["batch_size"].transform("size") == 1]
    assert single["loss_increase_percent"].isna().all()


def test_a_published_table_with_a_target_a_size_has_its_law(tmp_path) -> None:
    """B_crit = 5 N^0.5, a lower target for each larger model, one column model_size."""
    table = pd.DataFrame(
        {"model_size": n, "target_loss": 5 / n**0.1, "batch_size": b, "steps": 90 * (1 + c / b)}
        for n in (16.0, 32.0, 64.0, 128.0)
        for c in [5 * n**0.5]
        for b in 4 ** np.arange(0, 6)
    )
    result = analyse_steps(table, n_bootstrap=5)
    (law,) = result.frames["laws"].to_dict("records")
    assert law["exponent"] == pytest.approx(0.5, abs=0.01)
    assert (law["x"], law["n"]) == ("model_size", 4)
    (row,) = rows_of(section_of(result, "laws"))
    assert row["at"] == "each size at its own target"
    assert any("have different targets" in warning for warning in result.warnings)
    drawings = {d.name: d for d in draw_families(whole(result))}
    label = drawings["laws_in_model_size"].figure.axes[0].get_legend_handles_labels()[1]
    assert label == ["each at its own target\nexponent 0.50"]
    (entry,) = summary(result)["laws"]
    assert entry["target_loss"] is None


def test_two_sizes_are_no_law_anywhere() -> None:
    """Not in the summary, the page or a figure, which say how many a law needs."""
    table = pd.DataFrame(
        {"model_size": n, "target_loss": loss, "batch_size": b, "steps": n * (1 + 9 * n / b) / loss}
        for n in (16.0, 64.0)
        for loss in (0.5, 0.2)
        for b in 4 ** np.arange(0, 8)
    )
    result = analyse_steps(table, n_bootstrap=5)
    laws = summary(result)["laws"]
    assert {law["exponent"] for law in laws} == {None}
    assert {law["reason"] for law in laws} == {"only 2 values are known; a law needs 3"}
    section = section_of(result, "laws")
    assert section.table is None
    assert "Critical batch size in target loss" in section.listed[0]
    page = Report(result, Provenance()).page()
    assert "only 2 values are known; a law needs 3" in page
    for drawing in draw_families(whole(result)):
        for ax in drawing.figure.axes:
            assert not any("exponent" in text for text in ax.get_legend_handles_labels()[1])
