"""Published values and pictures: which trials they speak of, and what is missing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.read.pictures import _step, best_trials
from analysis.report.published import compare_published, published_of

TRIALS = pd.DataFrame(
    {
        "run_id": ["a", "b", "c"],
        "model.name": ["unet", "unet", "plain"],
        "batch_size": [4, 8, 4],
        "lr": [0.1, 0.1, 0.1],
    }
)
CURVES = pd.DataFrame(
    {
        "run_id": ["a", "a", "b", "b", "c"],
        "step": [1, 9, 9, 1, 9],
        "loss": [3.0, 1.0, 2.0, 4.0, 1.5],
        "accuracy": [0.1, 0.5, 0.7, 0.2, np.nan],
    }
)


def test_the_last_evaluation_counts() -> None:
    where = {"model.name": "unet"}
    claims = [
        {"where": where, "metric": "accuracy", "value": 0.5, "source": "paper"},
        {"where": {**where, "batch_size": 8}, "metric": "loss", "value": 2.5},
        {"where": {"model.name": "plain"}, "metric": "accuracy", "value": 0.4},
        {"where": {"model.name": "absent"}, "metric": "loss", "value": 1.0},
        {"where": {"no such param": 1}, "metric": "loss", "value": 1.0},
    ]
    table = compare_published(TRIALS, CURVES, claims)
    first, second, *missing = table.to_dict("records")
    assert (first["measured"], first["least"], first["most"], first["n"]) == (0.6, 0.5, 0.7, 2)
    assert first["off_by"] == pytest.approx(0.1)
    assert (second["trials"], second["measured"], second["off_by"]) == (
        "unet, batch_size = 8",
        2.0,
        -0.5,
    )
    assert [row["n"] for row in missing] == [0, 0, 0]
    assert compare_published(TRIALS, CURVES, []).empty


def test_the_newest_sweep_that_says_something() -> None:
    claims = [{"where": {}, "metric": "loss", "value": 1}]
    assert published_of([{"name": "newest"}, {"published": json.dumps(claims)}]) == claims
    assert published_of([]) == []


def test_one_trial_of_each_group() -> None:
    assert [row["run_id"] for row in best_trials(TRIALS, CURVES, ["model.name"])] == ["c", "a"]
    assert [row["run_id"] for row in best_trials(TRIALS, CURVES, [])] == ["a"]


def test_steps_of_pictures() -> None:
    name = "images/pictures+step+66+timestamp+17+acb50bf2"
    assert _step(f"{name}.png") == 66
    assert _step(f"{name}+compressed.webp") is None
    assert _step("images/other.png") is None
