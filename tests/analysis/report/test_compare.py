"""Studies side by side: ratios with intervals, common targets, what else differs, the report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult
from analysis.errors import AnalysisError
from analysis.fit.fitting import FitResult
from analysis.report.compare import Comparison, compare_studies, ratio_interval
from analysis.report.compare_report import comparison_lead, draw_comparison, write_comparison
from analysis.report.differences import differing_params, questions

TWICE = np.log(2.0)


def _altered(result: StudyResult, name: str, **params: Any) -> StudyResult:
    """The study again with twice the examples at every target: B_crit is twice as large."""
    fits = [
        dataclasses.replace(
            fit,
            critical_batch_size=2 * (fit.critical_batch_size or np.nan),
            min_examples=2 * (fit.min_examples or np.nan),
            draws=fit.draws + np.array([0.0, TWICE]),
        )
        for fit in result.fits
    ]
    return dataclasses.replace(result, study=name, trials=result.trials.assign(**params), fits=fits)


@pytest.fixture(scope="module")
def comparison(small_result: StudyResult) -> Comparison:
    return compare_studies(
        [small_result, _altered(small_result, "b", **{"optimizer.name": "adam"})]
    )


def test_ratios_are_to_the_first_study(comparison: Comparison) -> None:
    ratios = comparison.ratios.set_index(["target_loss", "quantity"])["ratio"].unstack()
    assert len(ratios) == 2
    np.testing.assert_allclose(ratios["critical_batch_size"], 2)
    np.testing.assert_allclose(ratios["min_examples"], 2)
    np.testing.assert_allclose(ratios["min_steps"], 1)
    assert set(comparison.ratios["of"]) == {comparison.studies[0]}


def test_ratio_interval_is_of_the_quotients_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    one, other = (
        FitResult({}, 0.1, draws=rng.normal([1.0, mean], 0.1, size=(4000, 2))) for mean in (3, 2)
    )
    low, high = ratio_interval(one, other, "critical_batch_size")
    assert low is not None
    assert high is not None
    # log of the ratio: mean 1, four independent spreads of 0.1
    np.testing.assert_allclose(np.log([low, high]), [1 - 0.392, 1 + 0.392], atol=0.03)
    assert ratio_interval(one, FitResult({}, 0.1), "min_steps") == (None, None)


def test_studies_without_a_common_target_stand_at_their_own(small_result: StudyResult) -> None:
    fits = [dataclasses.replace(f, target_loss=f.target_loss / 3) for f in small_result.fits]
    frontier = small_result.frontier.assign(target_loss=small_result.frontier["target_loss"] / 3)
    other = dataclasses.replace(
        small_result, study="b", fits=fits, frontier=frontier,
        targets=[fit.target_loss for fit in fits],
    )  # fmt: skip
    found = compare_studies([small_result, other])
    assert not found.common_targets
    assert len(found.rows) == 4
    assert found.ratios.empty
    assert "no target in common" in found.warnings[0]
    assert [drawing.name for drawing in draw_comparison(found)] == [
        "steps_against_batch_size", "best_lr_against_batch_size",
    ]  # fmt: skip


def test_a_group_is_held_against_the_same_value_of_an_ungrouped_study(
    small_result: StudyResult,
) -> None:
    groups = [{"task.dimension": 16}, {"task.dimension": 32}]
    fits = [dataclasses.replace(f, group=g) for g in groups for f in small_result.fits]
    frontier = pd.concat([small_result.frontier.assign(**group) for group in groups])
    grouped = dataclasses.replace(
        small_result, study="grouped", fits=fits, frontier=frontier, group_by=["task.dimension"]
    )
    both = compare_studies([grouped, dataclasses.replace(small_result, study="b")])
    assert len(both.ratios) == 2 * 3
    np.testing.assert_allclose(both.ratios["ratio"], 1)


def test_params_that_differ(small_result: StudyResult) -> None:
    more = {"optimizer.name": "momentum", "optimizer.momentum": 0.9, "task.label_noise": 2.0}
    other = _altered(small_result, "b", model_size=7.0, seconds=3.0, **more)
    differing = differing_params([small_result, other])
    assert differing["optimizer.momentum"] == ["none", "0.9"]
    assert "seconds" not in differing
    assert sorted(questions(differing)) == ["optimizer.name", "task.label_noise"]
    (warning,) = compare_studies([small_result, other]).warnings
    assert "differ in 2 params" in warning
    assert "task.label_noise (1.0, 2.0)" in warning
    assert questions(differing_params([small_result, small_result])) == []


def test_unequal_tuning_is_said(small_result: StudyResult) -> None:
    half = small_result.trials[small_result.trials["seed"] == 0]
    found = compare_studies(
        [small_result, dataclasses.replace(small_result, study="b", trials=half)]
    )
    assert any(
        "not tuned equally; seeds per batch size: simulated 2, b 1" in w for w in found.warnings
    )


def test_one_study_cannot_be_compared(small_result: StudyResult) -> None:
    with pytest.raises(AnalysisError, match="two or more different studies"):
        compare_studies([small_result, small_result])


def test_report(comparison: Comparison, tmp_path: Path) -> None:
    comparison = dataclasses.replace(
        comparison, warnings=["<script>alert(1)</script>"], differing={"<b>": ["<i>", "$x_"]}
    )
    page = write_comparison(comparison, tmp_path, ["python -m analysis"]).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page
    assert page.count("<figure id=") == 4
    assert comparison_lead(comparison)[-1] in page.replace("&#39;", "'")
    written = {path.name for path in (tmp_path / "tables").iterdir()}
    assert written == {"rows.csv", "ratios.csv", "frontier.csv", "comparison.tex"}
    latex = (tmp_path / "tables" / "comparison.tex").read_text()
    assert latex.count(r"\\") == 1 + len(comparison.rows)
