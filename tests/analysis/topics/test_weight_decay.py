"""Pairs of trials that differ in how their weights decay: which are paired, and how far apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult
from analysis.report.predictions import FAILS, HOLDS, NOT_MEASURED, check_predictions
from analysis.topics.weight_decay import EQUAL, WITH_MOMENTUM, drawings, weight_decay_gaps
from tests.analysis.report.test_predictions import study_of
from tests.analysis.topics.quantities import whole

STEPS = [0, 1, 2, 4]


def run(name: str, decay: float, end: float, **changes: Any) -> dict[str, Any]:
    """A trial whose weights go in a line from 0 to (0.6, 0.8) * end."""
    mu = 0.9 if name.startswith("momentum") else np.nan
    trial = {
        "optimizer.name": name, "optimizer.weight_decay": decay, "optimizer.momentum": mu,
        "task.name": "finite_regression", "batch_size": 4, "lr": 0.1, "seed": 0, "end": end,
    }  # fmt: skip
    trial |= changes
    return trial | {"run_id": "-".join(map(str, trial.values()))}


def study(*runs: dict[str, Any], steps: list[int] = STEPS) -> StudyResult:
    curves = [
        (one["run_id"], step, 0.6 * one["end"] * step / 4, 0.8 * one["end"] * step / 4)
        for one in runs
        for step in steps
    ]
    frame = pd.DataFrame(curves, columns=["run_id", "step", "weight_1", "weight_2"])
    return study_of(pd.DataFrame(runs).drop(columns="end"), frame.assign(loss=1.0))


def test_the_gap_is_the_distance_over_the_greatest_length() -> None:
    found = weight_decay_gaps(study(run("sgd", 0.1, 2.0), run("sgdw", 0.1, 1.5)))
    equal = found[found["decay"] == EQUAL]
    assert equal["step"].tolist() == STEPS
    assert equal["gap"].tolist() == pytest.approx([0.0, 0.0625, 0.125, 0.25])
    assert (equal["optimizer"] == "sgd").all()
    moved = found.loc[found["decay"] == WITH_MOMENTUM, "gap"].tolist()
    assert moved == pytest.approx(equal["gap"].tolist())  # no momentum: one pair


def test_momentum_is_paired_with_and_without_the_factor() -> None:
    runs = [run("momentum", 0.1, 2.0), run("momentumw", 0.1, 1.0), run("momentumw", 1.0, 1.8)]
    last = weight_decay_gaps(study(*runs)).groupby("decay")["gap"].last()
    assert last.to_dict() == pytest.approx({EQUAL: 0.5, WITH_MOMENTUM: 0.1})


@pytest.mark.parametrize(
    "other",
    [
        run("sgdw", 0.1, 1.0, batch_size=8),
        run("sgdw", 0.1, 1.0, seed=1),
        run("sgdw", 0.1, 1.0, lr=0.2),
        run("sgdw", 0.2, 1.0),
        run("adamw", 0.1, 1.0),
        run("sgdw", 0.1, 1.0, **{"task.name": "custom"}),
    ],
)
def test_what_differs_otherwise_is_no_pair(other: dict[str, Any]) -> None:
    apart = study(run("sgd", 0.1, 2.0), other)
    assert weight_decay_gaps(apart).empty
    row = check_predictions(apart, [SAYS]).iloc[0].to_dict()
    assert row["holds"] == NOT_MEASURED
    assert "decoupled decay" in row["reason"]
    assert not list(drawings(whole(apart)))


SAYS = {"says": "alike", "quantity": "weight_decay_path_gap", "at_most": 1e-12}


def test_a_pair_that_comes_apart_breaks_the_prediction() -> None:
    runs = [run("sgd", 0.1, 2.0), run("sgdw", 0.1, 2.0, seed=0)]
    assert check_predictions(study(*runs), [SAYS])["holds"].tolist() == [HOLDS]
    runs += [run("sgd", 0.1, 2.0, batch_size=8), run("sgdw", 0.1, 2.0 + 1e-9, batch_size=8)]
    table = check_predictions(study(*runs), [SAYS])
    assert table["holds"].tolist() == [FAILS, HOLDS]
    assert table["what"].tolist()[0] == "sgd, weight_decay 0.1, batch size 8"


def test_paths_of_different_length_are_compared_where_both_were_measured() -> None:
    runs = [run("sgd", 0.1, 2.0), run("sgdw", 0.1, 1.0)]
    both = study(*runs)
    early = both.curves[(both.curves["run_id"] != runs[1]["run_id"]) | (both.curves["step"] < 2)]
    found = weight_decay_gaps(study_of(both.trials, early))
    assert found.loc[found["decay"] == EQUAL, "step"].tolist() == [0, 1]


def test_the_figure_shows_the_largest_batch_size_and_its_table_all() -> None:
    runs = [run(name, 0.1, end) for name, end in (("momentum", 2.0), ("momentumw", 1.0))]
    runs += [run("momentumw", 1.0, 1.8)]
    runs += [run("adam", 0.1, 2.0, batch_size=2), run("adamw", 0.1, 1.5, batch_size=2)]
    (drawing,) = drawings(whole(study(*runs)))
    (ax,) = drawing.figure.axes
    assert len(ax.lines) == 2  # momentum, with and without the factor
    assert set(drawing.table["batch_size"]) == {2, 4}
    ends = sorted(np.asarray(line.get_ydata(), float)[-1] for line in ax.lines)
    assert ends == pytest.approx([0.1, 0.5])
