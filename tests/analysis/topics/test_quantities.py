"""Predictions of quantities that are found from several trials."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.errors import AnalysisError
from analysis.report.predictions import FAILS, HOLDS, NOT_MEASURED, check_predictions
from analysis.report.report import Provenance, Report
from analysis.study import Study
from analysis.topics import QUANTITIES
from analysis.topics.topic import Finding, Frames
from scaling import schema
from tests.analysis.report.test_predictions import STUDY
from tests.analysis.topics.quantities import part_of


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the quantity "critical_batch_size" finds in a study; to be filled by the test."""
    numbers: list[Finding] = []

    def quantity(study: Study, frames: Frames) -> Sequence[Finding]:
        if not numbers:
            raise AnalysisError("it needs two batch sizes")
        return numbers

    monkeypatch.setitem(QUANTITIES, "critical_batch_size", quantity)
    return numbers


def check(**prediction) -> pd.DataFrame:
    prediction = {"says": "so it is", "quantity": "critical_batch_size"} | prediction
    return check_predictions(STUDY, [prediction])


EXACT = {"equals": "theory"}


@pytest.mark.parametrize(
    ("prediction", "number", "holds", "reason"),
    [
        (EXACT | {"standard_errors": 4}, Finding("", 1.3, 0.1, predicted=1.0), HOLDS, ""),
        (
            EXACT | {"standard_errors": 2},
            Finding("", 1.3, 0.1, predicted=1.0),
            FAILS,
            "3 standard errors above what was predicted",
        ),
        (
            EXACT | {"relative_tolerance": 1e-6},
            Finding("", 0.999, predicted=1.0),
            FAILS,
            "0.001 (0.1 %) below what was predicted",
        ),
        ({"equals": 1.0, "tolerance": 0.1}, Finding("", 1.09, 3.0), HOLDS, ""),
        ({"at_most": 1.0}, Finding("", 0.99, 3.0), HOLDS, ""),
        (
            {"at_most": 1.0, "standard_errors": 2},
            Finding("", 0.9, 0.1),
            FAILS,
            "only 1 standard errors below the bound",
        ),
        ({"at_least": 1.0, "standard_errors": 2}, Finding("", 1.3, 0.1), HOLDS, ""),
        ({"at_least": 1.0}, Finding("", 0.9), FAILS, "0.1 (10 %) below what was predicted"),
        (EXACT | {"tolerance": 1}, Finding("", 0.9), NOT_MEASURED, "no theory is known for it"),
        (
            {"equals": 1.0, "standard_errors": 4},
            Finding("", 1.0),
            NOT_MEASURED,
            "its standard error is not known",
        ),
        (
            {"at_most": 9.0},
            Finding("", None, reason="all slopes are flat"),
            NOT_MEASURED,
            "all slopes are flat",
        ),
        ({"at_most": 9.0}, Finding("", np.nan), NOT_MEASURED, "no value was found"),
        ({"at_most": 9.0}, None, NOT_MEASURED, "it needs two batch sizes"),
    ],
)
def test_a_number_against_its_prediction(
    found: list[Finding], prediction: dict, number: Finding | None, holds: str, reason: str
) -> None:
    found += [number] if number else []
    row = check(**prediction).iloc[0].to_dict()
    assert (row["holds"], row["reason"], row["n"]) == (holds, reason, 3)


def test_each_of_several_numbers_is_a_row_and_what_fails_comes_first(found: list[Finding]) -> None:
    found += [Finding("batch size 1", 1.0), Finding("batch size 2", None, reason="too few")]
    found += [Finding("batch size 4", 2.0, 0.25, 1.5, 2.5)]
    table = check(equals=1.0, tolerance=0.5)
    assert table["what"].tolist() == ["batch size 4", "batch size 2", "batch size 1"]
    assert table["holds"].tolist() == [FAILS, NOT_MEASURED, HOLDS]
    assert [table[name][0] for name in ("standard_error", "low", "high")] == [0.25, 1.5, 2.5]
    none = check(equals=1.0, tolerance=0.5, where={"optimizer.name": "rmsprop"}).iloc[0]
    assert (none["holds"], none["reason"]) == (NOT_MEASURED, "no trial of the study matches it")


def test_every_quantity_of_the_contract_has_its_function() -> None:
    assert set(QUANTITIES) == set(schema.QUANTITIES)


@pytest.fixture(scope="module")
def two_optimizers(small_study: tuple[pd.DataFrame, pd.DataFrame]) -> StudyResult:
    trials, curves = small_study
    other = trials.assign(run_id=trials["run_id"] + "x", **{"optimizer.name": "adam"})
    both = pd.concat([trials.assign(**{"optimizer.name": "sgd"}), other], ignore_index=True)
    again = curves.assign(run_id=curves["run_id"] + "x")
    return analyse(both, pd.concat([curves, again], ignore_index=True), n_bootstrap=50)


def test_a_part_of_a_study_keeps_the_groups_that_it_speaks_of(two_optimizers: StudyResult) -> None:
    part = part_of(two_optimizers, {"optimizer.name": "adam"})
    assert part.group_by == ["optimizer.name"]
    assert len(part.trials) == len(two_optimizers.trials) / 2
    assert set(part.curves["run_id"]) == set(part.trials["run_id"])
    assert set(part.frontier["optimizer.name"]) == {"adam"}
    assert {fit.group["optimizer.name"] for fit in part.fits} == {"adam"}
    assert len(part_of(two_optimizers, None).fits) == 2 * len(part.fits)
    one_size = part_of(two_optimizers, {"batch_size": 4})
    assert len(one_size.fits) == 2 * len(part.fits)
    assert set(one_size.trials["batch_size"]) == {4}


def test_the_measured_critical_batch_size_is_held_against_the_exact_one(
    two_optimizers: StudyResult,
) -> None:
    prediction = {
        "says": "it is the exact one", "quantity": "critical_batch_size", "equals": "theory",
        "standard_errors": 1e3, "where": {"optimizer.name": "sgd"},
    }  # fmt: skip
    table = check_predictions(two_optimizers, [prediction])
    fits = [fit for fit in two_optimizers.fits if fit.group["optimizer.name"] == "sgd"]
    assert table["measured"].tolist() == [fit.critical_batch_size for fit in fits]
    exact = [(fit.exact or {})["continuous_lr"] for fit in fits]
    assert table["predicted"].tolist() == pytest.approx(exact)
    assert (table["standard_error"] > 0).all()
    assert (table["holds"] == HOLDS).all()
    beyond = prediction | {"equals": 1e9, "standard_errors": 4}
    assert (check_predictions(two_optimizers, [beyond])["holds"] == FAILS).all()


def test_the_page_says_the_reason_in_red_and_first(small_result: StudyResult) -> None:
    says = {"says": "far off", "quantity": "critical_batch_size", "at_most": 1.0}
    says |= {"note": "it is no batch size"}
    sound = {"says": "near", "quantity": "critical_batch_size", "at_least": 0.0}
    sound |= {"note": "not shown"}
    tags = {"predictions": json.dumps([sound, says])}
    page = Report(small_result, Provenance(sweeps=[tags])).page()
    section = page[page.index('<section id="predictions">') : page.index('<section id="answer">')]
    assert section.index(">far off") < section.index(">near")
    assert "above what was predicted" in section
    assert "critical batch size; " in section
    assert section.index("it is no batch size") < section.index(">near")
    assert "not shown" not in section  # what holds needs no explanation
    assert section.count('<tr class="fails">') == len(small_result.fits) + 1  # the note
