"""Predictions: of which trials they speak, what breaks them; said in red and first."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult
from analysis.measure.cell_frame import CELL_COLUMNS
from analysis.measure.frontier import FRONTIER_COLUMNS
from analysis.report.predictions import (
    FAILS,
    HOLDS,
    NOT_MEASURED,
    check_predictions,
    predictions_of,
    verdict,
)
from analysis.report.report import Provenance, Report

TRIALS = pd.DataFrame(
    {
        "run_id": ["a", "b", "c"],
        "optimizer.name": ["sgd", "sgd", "adam"],
        "task.initial_weights": ["[0.0]", "[1.0]", "[0.0]"],
        "batch_size": [4, 8, 4],
    }
)
CURVES = pd.DataFrame(
    {
        "run_id": ["a", "a", "a", "b", "b", "c"],
        "step": [0, 1, 9, 9, 1, 9],
        "loss": [9.0, 3.0, 1.0, 2.0, 4.0, 1.5],
        "weight_1": [np.nan, 0.5, 0.1, 0.2, 0.7, np.nan],
    }
)


def study_of(trials: pd.DataFrame, curves: pd.DataFrame, **changes) -> StudyResult:
    """Nothing but trials and curves."""
    if "outcome" not in trials:
        trials = trials.assign(outcome="reached")
    empty = {
        "cells": pd.DataFrame(columns=pd.Index(CELL_COLUMNS)),
        "frontier": pd.DataFrame(columns=pd.Index(FRONTIER_COLUMNS)),
    }
    names = changes.get("group_by", [])
    empty = {name: frame.reindex(columns=[*names, *frame]) for name, frame in empty.items()}
    given = {"group_by": [], "targets": [], "fits": [], **empty, **changes}
    return StudyResult(study="mine", trials=trials, curves=curves, **given)


STUDY = study_of(TRIALS, CURVES)


def one(**prediction) -> dict:
    prediction = {"says": "so it is", "metric": "loss", "at": "last"} | prediction
    return check_predictions(STUDY, [prediction]).iloc[0].to_dict()


@pytest.mark.parametrize(
    ("prediction", "measured", "n", "holds"),
    [
        ({"at_most": 2.0}, 2.0, 3, HOLDS),
        ({"at_most": 1.9}, 2.0, 3, FAILS),
        ({"at_least": 1.0, "at": "least"}, 1.0, 3, HOLDS),
        ({"at": "greatest", "at_most": 4.0, "where": {"batch_size": 8}}, 4.0, 1, HOLDS),
        ({"equals": 1.2, "tolerance": 0.31, "where": {"batch_size": [4]}}, 1.5, 2, HOLDS),
        ({"equals": 1.2, "tolerance": 0.29, "where": {"batch_size": [4]}}, 1.5, 2, FAILS),
        ({"at": 1, "at_most": 3.5, "where": {"optimizer.name": "sgd"}}, 4.0, 2, FAILS),
        ({"equals": 1.6, "relative_tolerance": 0.4}, 1.0, 3, HOLDS),
        ({"equals": 1.6, "relative_tolerance": 0.3}, 1.0, 3, FAILS),
        ({"where": {"task.initial_weights": [[0]]}, "at_most": 1.6}, 1.5, 2, HOLDS),
        ({"where": {"optimizer.name": ["sgd", "adam"]}, "at_most": 5}, 2.0, 3, HOLDS),
        ({"where": {"optimizer.name": "rmsprop"}, "at_most": 5}, np.nan, 0, NOT_MEASURED),
        ({"where": {"no.such": 1}, "at_most": 5}, np.nan, 0, NOT_MEASURED),
        ({"metric": "weight_1", "at_most": 5}, np.nan, 3, FAILS),  # a trial without the value
        ({"metric": "weight_2", "at_most": 5}, np.nan, 3, FAILS),  # none has it
    ],
)
def test_the_worst_trial_counts(prediction, measured, n, holds) -> None:
    row = one(**prediction)
    assert (row["n"], row["holds"]) == (n, holds)
    assert row["measured"] == pytest.approx(measured, nan_ok=True)


PREDICTIONS = [
    {"says": "true", "metric": "loss", "at": "last", "at_most": 1e9},
    {"says": "false <b>", "metric": "loss", "at": "last", "at_least": 1e9},
    {"says": "elsewhere", "metric": "loss", "at": "last", "at_most": 1, "where": {"x": 1}},
]


def test_what_does_not_hold_comes_first_and_is_named() -> None:
    table = check_predictions(STUDY, PREDICTIONS)
    assert table["holds"].tolist() == [FAILS, NOT_MEASURED, HOLDS]
    found = verdict(table)
    assert found is not None
    assert not found.sound
    expected = "1 of 3 predictions hold. These do not: false <b>. Not measured: 1."
    assert found.sentence == expected
    good = verdict(check_predictions(STUDY, PREDICTIONS[:1]))
    assert good is not None
    assert good.sound
    assert verdict(check_predictions(STUDY, [])) is None


def test_the_newest_sweep_that_predicts() -> None:
    sweeps = [{"name": "newest"}, {"predictions": json.dumps(PREDICTIONS)}]
    assert predictions_of(sweeps) == PREDICTIONS
    assert predictions_of([]) == []


def test_the_page_says_it_in_red_and_first(small_result: StudyResult) -> None:
    provenance = Provenance(sweeps=[{"predictions": json.dumps(PREDICTIONS)}])
    page = Report(small_result, provenance).page()
    assert page.index('<section id="predictions">') < page.index('<section id="answer">')
    section = page[page.index('<section id="predictions">') : page.index('<section id="answer">')]
    assert section.count('class="fails"') == 2
    assert 'class="lead fails"' in section
    assert section.index("does not hold") < section.rindex("holds")
    assert "false &lt;b&gt;" in section
    assert '<section id="predictions">' not in Report(small_result, Provenance()).page()
