"""Twice the compute: planted losses come back; what cannot be compared is left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult
from analysis.errors import AnalysisError
from analysis.fit.twice_the_compute import (
    BASE,
    BATCH,
    MODEL,
    STEPS,
    TWICE_COLUMNS,
    twice_the_compute,
    way_curves,
)
from analysis.measure.model_sizes import Family, families
from analysis.topics.twice_the_compute import loss_over_larger_model, plot_twice_the_compute
from tests.analysis.planted import group_curves, planted_cells, planted_fit

NAME = "model.width"
STEP_AXIS = np.arange(1.0, 201.0)
SIZES = [4, 8, 16, 32, 64]
FIT = planted_fit({NAME: 4.0}, 0.7, 10.0, 10.0 * 15)  # critical batch size 15


def loss(n: float, b: float, s: np.ndarray) -> np.ndarray:
    return n**-0.5 + s**-0.5 + 0.2 * b**-0.5


def planted(flops: dict[float, float], noise: float = 0.0, n_seeds: int = 4) -> list[Family]:
    groups = []
    for n, of_example in flops.items():
        cells = []
        for lr, worse in ((0.1, 1.0), (0.2, 1.3)):
            cells += planted_cells(
                lambda b, s, n=n, worse=worse: worse * loss(n, b, s), SIZES, STEP_AXIS,
                n_seeds=n_seeds, noise=noise, rng=np.random.default_rng([int(n)]), lr=lr,
            )  # fmt: skip
        groups.append(group_curves({NAME: n}, n, cells=cells, flops=of_example, floor=0.5))
    return families(groups)


def row_of(frame: pd.DataFrame, way: str) -> dict:
    [row] = frame[frame["way"] == way].to_dict("records")
    return row


def test_each_way_is_read_at_twice_the_compute() -> None:
    frame = twice_the_compute(planted({4.0: 6.0, 9.0: 15.0}), [FIT])
    assert frame["way"].tolist() == [BASE, STEPS, BATCH, MODEL]
    base = row_of(frame, BASE)
    assert (base["batch_size"], base["steps"], base["lr"]) == (16, 100, 0.1)
    np.testing.assert_allclose(frame["compute"] / base["compute"], [1, 2, 2, 2])
    assert base["compute"] == 6 * 16 * 100
    wanted = {
        STEPS: (4.0, 16, 200), BATCH: (4.0, 32, 100), MODEL: (9.0, 16, 200 * 6 / 15),
    }  # fmt: skip
    for way, (size, batch_size, steps) in wanted.items():
        row = row_of(frame, way)
        assert (row["model_size"], row["batch_size"]) == (size, batch_size)
        assert row["steps"] == pytest.approx(steps)
        expected = 0.5 + loss(size, batch_size, np.array(steps))
        assert row["loss"] == pytest.approx(expected, rel=1e-3)
    over = row_of(frame, STEPS)["loss"] - row_of(frame, MODEL)["loss"]
    assert row_of(frame, STEPS)["over_larger_model"] == pytest.approx(over)
    assert np.isnan(row_of(frame, MODEL)["over_larger_model"])
    assert frame["standard_error"].isna().all()  # no bootstrap was asked for


def test_steps_are_those_that_all_three_have() -> None:
    [family] = planted({4.0: 6.0, 9.0: 15.0})
    short = [c for c in family.members[1].cells if c.batch_size != 16]
    ended = planted_cells(lambda b, s: loss(9.0, b, s), [16], STEP_AXIS[:40])
    members = [family.members[0], dataclasses.replace(family.members[1], cells=short + ended)]
    frame = twice_the_compute([dataclasses.replace(family, members=members)], [FIT])
    assert row_of(frame, MODEL)["steps"] == pytest.approx(40)
    assert row_of(frame, BASE)["steps"] == 50


@pytest.mark.parametrize(
    ("flops", "fit"),
    [
        ({4.0: 6.0, 9.0: 30.0}, FIT),  # the larger model is five times as large
        ({4.0: 6.0}, FIT),
        ({4.0: 6.0, 9.0: 12.0}, planted_fit({NAME: 4.0}, 0.7, 10.0, 10.0 * 500)),  # far away
        ({4.0: 6.0, 9.0: 12.0}, dataclasses.replace(FIT, identified=False)),
        ({4.0: 6.0, 9.0: 12.0}, planted_fit({NAME: 9.0}, 0.7, 10.0, 10.0 * 15)),  # the largest
    ],
)
def test_what_cannot_be_compared_has_no_rows(flops: dict, fit) -> None:
    frame = twice_the_compute(planted(flops), [fit])
    assert frame.empty
    assert list(frame.columns) == [NAME, *TWICE_COLUMNS]


def test_standard_errors_are_those_of_the_seeds() -> None:
    """Over many planted studies the errors of the difference are as large as is said."""
    gaps, errors, covered = [], [], []
    exact = loss(4.0, 16, np.array(200.0)) - loss(9.0, 16, np.array(80.0))
    for k in range(60):
        found = planted({4.0: 6.0, 9.0: 15.0}, n_seeds=6)
        rng = np.random.default_rng(k)
        for member in found[0].members:
            for cell in member.cells:
                cell.excess[:] *= np.exp(0.05 * rng.standard_normal((6, 1)))
        row = row_of(twice_the_compute(found, [FIT], n_bootstrap=200, seed=k), STEPS)
        gaps.append(row["over_larger_model"] - exact)
        errors.append(row["over_larger_model_error"])
        covered.append(row["over_larger_model_low"] <= exact <= row["over_larger_model_high"])
    assert np.mean(errors) == pytest.approx(np.std(gaps), rel=0.3)
    assert np.mean(covered) > 0.88


def _result(small_result: StudyResult, found: list[Family], n_bootstrap: int = 50) -> StudyResult:
    frame = twice_the_compute(found, [FIT], n_bootstrap)
    result = dataclasses.replace(small_result, group_by=[NAME])
    result.families = found
    result.frames = {"twice_the_compute": frame}
    return result


def test_the_quantity_and_the_figure(small_result: StudyResult) -> None:
    found = planted({4.0: 6.0, 9.0: 15.0}, noise=0.02)
    result = _result(small_result, found)
    steps, batch = loss_over_larger_model(result, result.frames)
    assert steps.what == "width = 4, twice the steps"
    assert batch.what == "width = 4, twice the batch"
    frame = result.frames["twice_the_compute"]
    assert steps.value == row_of(frame, STEPS)["over_larger_model"]
    assert steps.standard_error
    assert steps.low is not None
    assert steps.high is not None
    assert steps.low < (steps.value or 0.0) < steps.high
    curves = way_curves(found, frame)
    for way in (STEPS, BATCH, MODEL):  # the points lie on their curves
        own, point = curves[curves["way"] == way], row_of(frame, way)
        at = np.interp(np.log(point["compute"]), np.log(own["compute"]), own["loss"])
        assert at == pytest.approx(point["loss"], rel=1e-3)
    figure = plot_twice_the_compute(frame, curves)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "a larger model: model 9, B = 16" in labels


def test_without_seeds_there_is_no_standard_error(small_result: StudyResult) -> None:
    result = _result(small_result, planted({4.0: 6.0, 9.0: 15.0}, n_seeds=1))
    assert [one.standard_error for one in loss_over_larger_model(result, result.frames)] == [
        None,
        None,
    ]


def test_a_study_without_sizes_is_told_what_it_needs(small_result: StudyResult) -> None:
    with pytest.raises(AnalysisError, match=r"it needs a model of 1\.5 to 2\.7 times the FLOPs"):
        loss_over_larger_model(small_result, small_result.frames)
