"""Noise scale of recorded runs: planted values come back with intervals, at the targets' losses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.errors import AnalysisError
from analysis.measure.noise_records import noise_records
from analysis.report.report import Provenance, Report
from analysis.topics.noise_scale import (
    TOPIC,
    noise_against_critical,
    noise_along_runs,
)
from scaling.schema import noise_metric
from tests.analysis.simulated import Floats
from tests.analysis.topics.quantities import find


def with_noise(study: tuple[pd.DataFrame, pd.DataFrame], weak: bool = False):
    """Records at every fifth evaluation with B_simple = 40 / loss, but for noise."""
    trials, curves = study
    random = np.random.default_rng(1)
    curves = curves.copy()
    chosen = curves.index % 5 == 0
    rows = curves[chosen]
    square: Floats = np.full(len(rows), 1.0) * rows["loss"].to_numpy()
    trace = 40 / rows["loss"].to_numpy() * square
    spread = 20.0 if weak else 0.05
    for name, values in (("trace", trace), ("square", square)):
        noisy = values * (1 + spread * random.standard_normal(len(rows)) * (name == "square"))
        curves.loc[chosen, noise_metric("examples", f"simple_{name}")] = noisy
        curves.loc[chosen, noise_metric("examples", f"exact_simple_{name}")] = values
    return trials, curves


@pytest.fixture(scope="module")
def measured(small_study) -> StudyResult:
    return analyse(*with_noise(small_study), n_bootstrap=50)


def test_studies_without_it_have_no_rows(small_result: StudyResult) -> None:
    assert noise_along_runs(small_result).empty
    assert noise_against_critical(small_result).empty
    assert TOPIC.section(small_result, small_result.frames) is None
    assert noise_records(small_result.trials, small_result.curves).empty


def test_along_runs(measured: StudyResult) -> None:
    along = noise_along_runs(measured)
    assert set(along["batch_size"]) == set(measured.frontier["batch_size"])
    assert (along.groupby("batch_size")["step"].nunique() > 5).all()
    whole = along[along["n_records"] == 2]
    assert np.allclose(whole["noise_scale"] * whole["loss"], 40, rtol=0.2)
    known = whole.dropna(subset="low")
    assert len(known) > len(whole) / 2
    assert (known["low"] <= known["noise_scale"]).all()


def test_beside_the_critical_batch_size(measured: StudyResult) -> None:
    table = noise_against_critical(measured)
    assert table["target_loss"].tolist() == measured.targets
    for row, fit in zip(table.to_dict("records"), measured.fits, strict=True):
        assert row["noise_scale"] == pytest.approx(40 / row["target_loss"], rel=0.2)
        assert row["noise_scale"] == pytest.approx(row["exact"], rel=0.05)
        assert row["low"] < row["noise_scale"] < row["high"]
        assert row["critical_batch_size"] == fit.critical_batch_size
        assert row["ratio"] == pytest.approx(row["noise_scale"] / row["critical_batch_size"])
        # the joined interval is wider than the noise scale's own, and not than both together
        own = np.log(row["high"] / row["low"])
        other = np.log(row["critical_high"] / row["critical_low"])
        joined = np.log(row["ratio_high"] / row["ratio_low"])
        assert max(own, other) < joined < own + other


def test_a_signal_too_weak_is_said_and_not_drawn_as_a_number(small_study) -> None:
    result = analyse(*with_noise(small_study, weak=True), n_bootstrap=20)
    section = TOPIC.section(result, result.frames)
    assert section
    assert section.table
    for *_, estimate, _, _, ratio, _ in section.table.rows:
        assert estimate.small.startswith(("at least", "not known"))
        assert not ratio.small
    drawn = [d for d in result.drawings() if d.name.startswith("simple_noise_scale")]
    assert len(drawn) == 1
    assert "negative estimates are left out" in drawn[0].caption


def test_the_page_has_a_table_and_a_figure(measured: StudyResult) -> None:
    page = Report(measured, Provenance()).page()
    section = re.search(r'<section id="noise">.*?</section>', page, re.DOTALL)
    assert section
    assert section[0].count("single examples") == len(measured.targets)
    assert "simple_noise_scale_from_examples" in [drawing.name for drawing in measured.drawings()]
    assert len(measured.frames["noise_scale_at_targets"]) == len(measured.targets)


def of_streaming_regression(study, factor: float = 1.0) -> StudyResult:
    trials, curves = with_noise(study)
    square = noise_metric("examples", "simple_square")
    curves[square] *= factor
    return analyse(trials, curves, n_bootstrap=20)


def test_over_the_closed_form_is_one_in_every_part_of_the_run(small_study) -> None:
    result = of_streaming_regression(small_study)
    found = find("noise_scale_over_exact", result)
    assert len(found) == len(result.targets) + 1
    assert "above" in found[0].what
    assert "below" in found[-1].what
    for of in found:
        assert of.value is not None
        assert of.standard_error is not None
        assert abs(of.value - 1) < 4 * of.standard_error < 0.2
        assert of.predicted == 1


def test_an_estimate_off_its_closed_form_is_seen(small_study) -> None:
    found = find("noise_scale_over_exact", of_streaming_regression(small_study, 1.5))
    for of in found:
        assert of.value is not None
        assert of.standard_error is not None
        assert of.value == pytest.approx(1 / 1.5, rel=0.1)
        assert abs(of.value - 1) > 4 * of.standard_error


def test_a_negative_signal_has_no_ratio(small_study) -> None:
    found = find("noise_scale_over_exact", of_streaming_regression(small_study, -1.0))
    assert {of.value for of in found} == {None}
    assert all("negative" in of.reason for of in found)


def test_without_records_it_says_what_to_measure(small_result: StudyResult) -> None:
    with pytest.raises(AnalysisError, match=r"noise_scale\.measure"):
        find("noise_scale_over_exact", small_result)
