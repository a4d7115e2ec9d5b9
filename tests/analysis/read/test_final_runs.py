"""Runs as final losses: which of them count, for which length, and with which loss."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.read.final_runs import final_losses_of_runs


def frames(rows: list[tuple], **budget: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    """rows: run_id, batch_size, outcome, {step: loss}."""
    trials = pd.DataFrame([row[:3] for row in rows], columns=["run_id", "batch_size", "outcome"])  # type: ignore[arg-type]
    points = [(row[0], step, loss) for row in rows for step, loss in row[3].items()]
    return trials.assign(**budget), pd.DataFrame(points, columns=["run_id", "step", "loss"])  # type: ignore[arg-type]


def test_the_last_evaluation_counts_wherever_it_stands() -> None:
    trials, curves = frames([("a", 8, "censored", {50: 2.0, 100: 1.0, 0: 3.0})])
    table = final_losses_of_runs(trials, curves, [])
    row = table.iloc[0]
    assert (row["steps"], row["examples"], row["loss"]) == (100, 800, 1.0)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        ({"budget.max_steps": 100}, 100),
        ({"budget.max_steps": np.nan, "budget.max_examples": 807}, 100),
        ({"budget.max_steps": 200, "budget.max_examples": 800}, 100),
        ({"budget.max_steps": 100, "budget.max_examples": 8000}, 100),
    ],
)
def test_the_budget_is_the_length_of_a_diverged_run(budget: dict, steps: int) -> None:
    rows = [("a", 8, "censored", {100: 1.0}), ("b", 8, "diverged", {3: 9.0})]
    table = final_losses_of_runs(*frames(rows, **budget), [])
    assert table["steps"].tolist() == [steps, steps]
    assert table["loss"].tolist() == [1.0, np.inf]


def test_what_ended_before_its_budget_has_no_final_loss() -> None:
    """At its target, in a study that asked for it; never taken for a shorter run."""
    rows = [("a", 8, "censored", {100: 1.0}), ("b", 8, "reached", {50: 1.2})]
    notes: list[str] = []
    table = final_losses_of_runs(*frames(rows, **{"budget.max_steps": 100}), notes)
    assert table["run_id"].tolist() == ["a"]
    assert notes == [
        "Trials left out because they ended before their budget: their loss is not final: 1."
    ]
    with pytest.raises(AnalysisError, match="no trial was trained to the end of its budget"):
        final_losses_of_runs(*frames(rows[1:], **{"budget.max_steps": 100}), [])


def test_a_diverged_run_of_an_unknown_length_is_left_out() -> None:
    rows = [("a", 8, "", {100: 1.0}), ("b", 8, "diverged", {3: 9.0})]
    notes: list[str] = []
    table = final_losses_of_runs(*frames(rows), notes)
    assert table["run_id"].tolist() == ["a"]
    assert notes[0].startswith("Diverged runs left out")
