"""Tables of steps to target as papers publish them, read and analysed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.read.steps import read_steps_csv, tidy_steps
from analysis.report.answers import answer_lines
from analysis.report.trust import trust_facts
from analysis.step_study import analyse_steps

SIZES = [16, 64, 256, 1024, 4096]


def published(min_steps: float = 50.0, min_examples: float = 10_000.0) -> pd.DataFrame:
    return pd.DataFrame(
        {"batch_size": SIZES, "steps": [min_steps + min_examples / b for b in SIZES]}
    )


@pytest.mark.parametrize(
    "names", [{"batch_size": "bs", "steps": "iterations"}, {"batch_size": "B", "steps": "train/n"}]
)
def test_a_published_table(tmp_path: Path, names: dict[str, str]) -> None:
    path = tmp_path / "paper.csv"
    published().rename(columns=names).to_csv(path, index=False)
    table = read_steps_csv(path, names)
    assert table.attrs["study"] == "paper"
    result = analyse_steps(table, n_bootstrap=10)
    assert result.study == "paper"
    assert result.fits[0].critical_batch_size == pytest.approx(200, rel=1e-3)
    assert result.frontier["lr"].isna().all()
    assert any("has no target loss" in text for text in result.warnings)


def test_targets_groups_seeds_and_outcomes() -> None:
    frames = [
        published(50 * factor, 1e4 * factor).assign(
            target_loss=target, model_size=size, seed=seed, lr=0.1, note=f"{size}{seed}{target}"
        )
        for target, factor in ((1.0, 1.0), (0.5, 3.0))
        for size in (10, 20)
        for seed in (0, 1, 2)
    ]
    table = pd.concat(frames, ignore_index=True)
    table["outcome"] = "reached"
    table.loc[(table["batch_size"] == 16) & (table["target_loss"] == 0.5), "outcome"] = "censored"
    tidy = tidy_steps(table, group_by=["model_size"])
    assert list(tidy.columns) == [
        "params.model_size", "target_loss", "batch_size", "lr", "seed", "steps", "outcome",
        "model_size",
    ]  # fmt: skip
    result = analyse_steps(tidy, n_bootstrap=20)
    assert result.targets == [1.0, 0.5]
    assert result.group_by == ["params.model_size"]
    assert len(result.fits) == 4
    censored = result.frontier[result.frontier["outcome"] == "censored"]
    assert set(zip(censored["batch_size"], censored["target_loss"], strict=True)) == {(16, 0.5)}
    only = analyse_steps(tidy, targets=[0.5], n_bootstrap=5)
    assert only.targets == [0.5]
    with pytest.raises(
        AnalysisError, match=r"targets: the table has no target_loss 0.7; it has 1,"
    ):
        analyse_steps(tidy, targets=[0.7])


def test_the_least_over_lr_and_a_further_tuned_column() -> None:
    table = pd.concat(
        [
            published().assign(lr=lr, momentum=momentum, steps=lambda f, s=slower: f["steps"] * s)
            for lr, momentum, slower in (
                (0.1, 0.0, 3.0), (0.2, 0.0, 2.0), (0.4, 0.0, 4.0),
                (0.1, 0.9, 1.5), (0.2, 0.9, 1.0), (0.4, 0.9, 1.8),
            )
        ],
        ignore_index=True,
    )  # fmt: skip
    result = analyse_steps(table, tuned=["lr", "momentum"], n_bootstrap=5)
    assert set(result.frontier["lr"]) == {0.2}
    assert set(result.frontier["params.momentum"]) == {0.9}
    assert not result.frontier["lr_at_edge"].any()
    assert result.fits[0].critical_batch_size == pytest.approx(200, rel=1e-3)
    assert set(result.cells["lr"]) == {0.1, 0.2, 0.4}
    # with the best momentum no lr above the best was tried: 0.4 without it is no neighbour
    ends = table[(table["lr"] < 0.3) | (table["momentum"] == 0)].reset_index(drop=True)
    alone = analyse_steps(ends, tuned=["lr", "momentum"], n_bootstrap=5)
    assert alone.frontier["lr_at_edge"].all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), unit=st.sampled_from([1.0, 0.001, 1000.0]))
def test_row_order_and_the_unit_of_steps_do_not_matter(seed: int, unit: float) -> None:
    table = published().assign(seed=3)
    changed = pd.concat([table, table.sample(3, random_state=seed)])
    changed = changed.sample(frac=1, random_state=seed, ignore_index=True)
    changed["steps"] *= unit
    tidy = tidy_steps(changed)
    np.testing.assert_allclose(tidy["steps"], table["steps"] * unit)
    assert tidy["batch_size"].tolist() == SIZES


GOOD = "batch_size,steps\n8,100\n16,60\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bs,steps\n8,100\n", "has no column batch_size; did you mean bs"),
        ("batch_size,iters\n8,100\n", "has no column steps; did you mean iters"),
        (GOOD + "32,many\n", "column steps is 'many' in row 4; it must be a number"),
        (GOOD + "32,-5\n", "column steps is -5 in row 4; it must be greater than 0"),
        (GOOD + "32,0\n", "column steps is 0 in row 4; it must be greater than 0"),
        (GOOD + "32,inf\n", "column steps is 'inf' in row 4; it must be a finite number"),
        ("batch_size,steps,seed\n8,9,0\n8,7,0\n", "rows 2 and 3 contradict .* is 9 and 7"),
        ("batch_size,steps,outcome\n8,9,done\n", "column outcome is 'done' in row 2; it must be"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(AnalysisError, match=f"^source.path={re.escape(str(path))}.*{says}") as told:
        read_steps_csv(path)
    assert "\n" not in str(told.value)


def test_what_can_be_analysed_is() -> None:
    table = published().assign(outcome="reached")
    table.loc[5] = {"batch_size": 8192, "steps": np.nan, "outcome": "reached"}
    tidy = tidy_steps(table)
    assert tidy.attrs["left_out"] == [
        "Rows left out because they lack steps: 1 (the first: row 5)."
    ]
    assert analyse_steps(tidy, n_bootstrap=5).fits[0].identified
    one = analyse_steps(published().head(1), n_bootstrap=5)
    assert not one.fits[0].identified
    with pytest.raises(
        AnalysisError, match=r"no row of the table reached its target \(5 censored\)"
    ):
        analyse_steps(published().assign(outcome="censored"))


def test_a_target_that_the_table_does_not_name_is_not_called_a_loss() -> None:
    table = pd.DataFrame({"batch_size": [8, 32, 128, 512, 2048], "steps": [461, 146, 66, 47, 41]})
    nameless, named = analyse_steps(table), analyse_steps(table.assign(target_loss=0.5))
    assert answer_lines(nameless)[0].startswith("critical batch size for the target: ")
    assert answer_lines(named)[0].startswith("critical batch size for a held-out loss of 0.5: ")
    assert "Tuning" not in trust_facts(nameless)
