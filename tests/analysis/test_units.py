"""Answers in examples and in the units that an example holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import analyse, write_report
from analysis.report.answers import answer_lines
from analysis.report.note import markdown
from analysis.report.summary import summary
from analysis.result import StudyResult
from analysis.words import USUAL, Units

Frames = tuple[pd.DataFrame, pd.DataFrame]
SEQUENCES = {"example": "sequence", "unit": "tokens", "units_per_example": 64}


def result(study: Frames, **columns: Any) -> StudyResult:
    trials, curves = study
    return analyse(trials.assign(**columns), curves, n_bootstrap=20)


def test_a_study_of_sequences_answers_in_sequences_and_tokens(small_study: Frames) -> None:
    study = result(small_study, **SEQUENCES)
    fit = study.headline({})
    assert fit is not None
    critical = fit.critical_batch_size
    assert critical is not None
    shown = float(f"{critical:.3g}") if critical < 100 else round(critical)
    lines = answer_lines(study)
    assert f"{shown:,g} sequences ({shown * 64:,.0f} tokens; 95 % interval" in lines[0]
    assert " sequences (" in lines[1]
    assert lines[1].split(" (extra")[0].endswith(" tokens")
    label = study.plot("pareto").axes[0].get_xlabel()
    assert label == "sequences of 64 tokens to target E = B S"
    content = summary(study)
    assert {name: content[name] for name in SEQUENCES} == SEQUENCES
    assert "| steps | sequences |" in markdown(study, [])


@pytest.mark.long
def test_the_page_says_what_a_sequence_is(small_study: Frames, tmp_path: Path) -> None:
    page = write_report(result(small_study, **SEQUENCES), tmp_path).read_text()
    assert "A sequence is 64 tokens." in page
    assert "<small>sequences a batch, " in page
    figure = next(tmp_path.rglob("steps_against_batch_size.svg")).read_text()
    assert "batch size B (sequences of 64 tokens)" in figure


def test_without_units_nothing_is_said_of_them(small_study: Frames) -> None:
    study = result(small_study)
    assert study.units == USUAL
    assert "sequence" not in " ".join(answer_lines(study))
    assert study.plot("pareto").axes[0].get_xlabel() == "examples to target E = B S"


@pytest.mark.parametrize(
    "columns",
    [
        {"unit": ["tokens", "bytes"], "units_per_example": [64, 64]},
        {"unit": ["tokens", "tokens"], "units_per_example": [64, 128]},
        {"unit": ["tokens", None], "units_per_example": [64, np.nan]},
        {"unit": ["tokens", "tokens"]},
        {"unit": ["$<b>$"] * 2, "units_per_example": [64, 64]},
    ],
)
def test_trials_that_do_not_agree_have_no_unit(columns: dict[str, list[object]]) -> None:
    assert Units.of(pd.DataFrame(columns)) == USUAL


@pytest.mark.parametrize(
    ("example", "examples"),
    [("sequence", "sequences"), ("patch", "patches"), ("entry", "entries"), ("day", "days")],
)
def test_plurals(example: str, examples: str) -> None:
    assert Units(example).examples == examples
    assert Units(example).of_size(1024.4) == f"1,024 {examples}"
