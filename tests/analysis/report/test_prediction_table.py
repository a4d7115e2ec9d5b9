"""The table of predictions: a block a prediction, numbers with the digits that are known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from analysis.report.prediction_table import blocks, number_words


def row(says: str, holds: str = "holds", **changes: Any) -> dict[str, Any]:
    return {
        "says": says,
        "source": "a paper",
        "note": "",
        "metric": "",
        "at": "",
        "quantity": "best_lr",
        "what": "batch size 8",
        "relation": "equals",
        "predicted": 0.163348,
        "measured": 0.115106,
        "standard_error": 0.0077,
        "allowed": "4 standard errors",
        "n": 10,
        "holds": holds,
        "reason": "" if holds == "holds" else "6.3 standard errors below what was predicted",
        **changes,
    }


def test_rows_of_one_prediction_stand_together_in_their_order() -> None:
    rows = [row("b", "does not hold", what="batch size 4"), row("a"), row("b")]
    found = blocks(rows)
    assert [(block.says, len(block.lines)) for block in found] == [("b", 2), ("a", 1)]
    assert [block.broken for block in found] == ["b (1 of 2)", ""]
    assert blocks([row("a", "not measured")])[0].broken == "a"
    assert [block.about for block in found] == ["a paper; best lr; 10 trials"] * 2
    assert blocks([row("a", n=1, source="")])[0].about == "best lr; 1 trial"
    assert blocks([row("a", n=1), row("a", n=4)])[0].about.endswith("; 1 to 4 trials")
    first = found[0].lines[0]
    assert (first.value, first.sound) == ("batch size 4", False)
    assert (first.predicted, first.measured) == ("0.1633", "0.1151 ± 0.0077")


def test_values_are_named() -> None:
    metric = row("a", quantity="", metric="row_space_residual", at="greatest", what="")
    at_step = metric | {"at": "3"}
    whole = row("a", what="")
    lines = [line for block in blocks([metric, at_step, whole]) for line in block.lines]
    expected = ["row space residual, greatest", "row space residual, step 3", "best lr"]
    assert [line.value for line in lines] == expected


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.163348, 0.115106, 0.0077), ("0.1633", "0.1151 ± 0.0077")),
        ((3190.4, 3068.2, 246.1), ("3,190", "3,068 ± 246")),
        ((0.25, 0.393558, 0.14), ("0.25", "0.39 ± 0.14")),
        ((1.0, 2.8691, 1.39), ("1", "2.9 ± 1.4")),
        ((1e-6, 2.34567891e-9, 1e-12), ("1e-06", "2.34568e-09")),
        ((1 / 3, 1 / 3, None), ("0.333333", "0.333333")),
        ((1e-12, 5.7e-15, math.nan), ("1e-12", "5.7e-15")),
        ((None, math.nan, None), ("", "")),
    ],
)
def test_digits(numbers: tuple[Any, ...], words: tuple[str, str]) -> None:
    assert number_words(*numbers) == words


def test_bounds_say_so() -> None:
    assert blocks([row("a", relation="at_most")])[0].lines[0].predicted == "at most 0.1633"
    assert not blocks([row("a", relation="at_least", predicted=None)])[0].lines[0].predicted
