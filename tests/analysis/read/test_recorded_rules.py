"""Trials whose optimizer follows the batch size form one curve."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.read.recorded_rules import FOLLOWS, NOTHING, recorded_rules, with_reference_values

HALF_LIFE = {
    "name": "sqrt", "batch_size": 16, "exponent": None, "batch_scale": None,
    "reference": {"lr": 0.1, "optimizer.beta2": 0.999},
}  # fmt: skip
TIMESCALE = HALF_LIFE | {"name": "linear", "reference": {"optimizer.weight_decay": 0.1}}


def trials(*given: tuple[int, float, float], rule: dict | None = None) -> pd.DataFrame:
    """batch_size, beta2, weight_decay of each."""
    columns = ["batch_size", "optimizer.beta2", "optimizer.weight_decay"]
    frame = pd.DataFrame(given, columns=pd.Index(columns))
    frame["run_id"] = [f"run{i}" for i in range(len(frame))]
    frame["rule"] = [None] * (len(frame) - 1) + [json.dumps([HALF_LIFE if rule is None else rule])]
    return frame


def beta2(batch_size: int) -> float:
    return float(f"{0.999 ** (batch_size / 16):.12g}")  # as a trial has it


def runs_of(frame: pd.DataFrame) -> dict[str, list[str]]:
    return {str(key): rows["run_id"].tolist() for key, rows in frame.groupby(FOLLOWS)}


def test_trials_under_a_rule_alone_are_one_group() -> None:
    frame = trials(*((size, beta2(size), 0.0) for size in (4, 16, 64)))
    moved = with_reference_values(frame)
    assert runs_of(moved) == {"half-life of beta2 from 16": ["run0", "run1", "run2"]}
    assert set(moved["optimizer.beta2"]) == {0.999}


def test_beside_tuned_trials_the_reference_is_in_both() -> None:
    tuned = [(size, 0.999, 0.0) for size in (4, 16, 64)]
    moved = with_reference_values(trials(*tuned, (4, beta2(4), 0.0), (64, beta2(64), 0.0)))
    assert runs_of(moved) == {
        NOTHING: ["run0", "run1", "run2"],
        "half-life of beta2 from 16": ["run1", "run3", "run4"],
    }
    assert set(moved["optimizer.beta2"]) == {0.999}


def test_another_value_stays_a_group_of_its_own() -> None:
    frame = trials((16, 0.999, 0.0), (64, beta2(64), 0.0), (64, 0.95, 0.0))
    moved = with_reference_values(frame)
    assert moved.loc[moved["run_id"] == "run2", "optimizer.beta2"].tolist() == [0.95]


def test_timescale_of_weight_decay() -> None:
    """Under the linear rule weight decay stays; under the square root it grows by sqrt(B)."""
    linear = trials((16, 0.9, 0.1), (64, 0.9, 0.1), rule=TIMESCALE)
    assert set(with_reference_values(linear)["optimizer.weight_decay"]) == {0.1}
    root = trials((16, 0.9, 0.1), (64, 0.9, 0.2), rule=TIMESCALE | {"name": "sqrt"})
    moved = with_reference_values(root)
    assert set(moved["optimizer.weight_decay"]) == {0.1}
    assert set(moved[FOLLOWS]) == {"timescale of weight decay by sqrt from 16"}


def test_without_records_nothing_changes() -> None:
    frame = trials((16, 0.999, 0.0), (64, beta2(64), 0.0), rule=HALF_LIFE | {"reference": {}})
    assert with_reference_values(frame) is frame
    plain = frame.drop(columns="rule")
    assert with_reference_values(plain) is plain


def test_each_rule_counts_once_and_several_lrs_are_none() -> None:
    other = HALF_LIFE | {"reference": {"lr": 0.2, "optimizer.beta2": 0.999}}
    texts = [json.dumps(rules) for rules in ([HALF_LIFE, TIMESCALE], [TIMESCALE], [other])]
    rules = recorded_rules(pd.DataFrame({"rule": [*texts, None]}))
    assert sorted((rule.name, rule.lr) for rule in rules) == [("linear", None), ("sqrt", None)]
    [alone] = recorded_rules(pd.DataFrame({"rule": [json.dumps([other])]}))
    assert alone.lr == 0.2


@pytest.mark.parametrize(
    "change",
    [
        {"name": "cube"}, {"batch_size": 0}, {"batch_size": "16"}, {"exponent": "x"},
        {"reference": {"lr": "0.1"}}, {"reference": None}, {"name": "saturating"},
        {"reference": {"lr": np.inf}},
    ],
)  # fmt: skip
def test_a_damaged_tag_is_one_line(change: dict) -> None:
    with pytest.raises(AnalysisError, match="tag rule is not") as caught:
        recorded_rules(pd.DataFrame({"rule": [json.dumps([HALF_LIFE | change])]}))
    assert "\n" not in str(caught.value)
