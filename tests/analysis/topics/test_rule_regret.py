"""Rules against tuning, from anybody's runs to the report's sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import analyse, analyse_frame, read_curves_csv
from analysis.measure.rule_regret import REGRET_COLUMNS
from analysis.report.summary import summary
from analysis.result import StudyResult
from analysis.topics.rule_regret import regret_frame, section
from tests.analysis.conftest import Frames
from tests.benchmarks.regret_coverage import planted_lr_table

TARGET = 0.1


@pytest.fixture(scope="module")
def planted() -> StudyResult:
    """A table of steps with lr* = c sqrt(B)."""
    table = planted_lr_table(np.random.default_rng(0), 3, 0.02)
    table = table.drop(columns=["steps_lower", "steps_upper"])
    return analyse_frame(table, kind="steps", n_bootstrap=50)


def test_curves_of_somebody_else(tmp_path: Path) -> None:
    """A CSV with their names, loss = target S/step: the square-root rule costs nothing, the
    constant one what was planted."""
    table = planted_lr_table(np.random.default_rng(0), 3, 0.0)
    table = table[table["steps"].notna() & table["batch_size"].isin((4, 16, 64))]
    rows = [
        (size, lr, seed, step, TARGET * steps / step)
        for size, lr, seed, steps in table[["batch_size", "lr", "seed", "steps"]].to_numpy(float)
        for step in np.unique(np.geomspace(steps / 8, steps * 4, 12).round())
    ]
    names = pd.Index(["bs", "eta", "seed", "step", "val_loss"])
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "theirs.csv", index=False)
    theirs = {"batch_size": "bs", "lr": "eta", "loss": "val_loss"}
    frames = read_curves_csv(tmp_path / "theirs.csv", theirs)
    regrets = analyse(*frames, targets=[TARGET], n_bootstrap=10).frames["rule_regret"]
    at = regrets.set_index(["rule", "batch_size"])["regret"]
    assert at["sqrt", 64] == pytest.approx(0, abs=1e-9)
    assert at["constant", 64] == pytest.approx(np.expm1(np.log(4) ** 2 / 2), rel=0.02)


def test_sentences(planted: StudyResult) -> None:
    said = section(planted, planted.frames)
    assert said is not None
    constant, root, linear = said.listed
    assert constant.startswith("With the constant rule from batch size 4, batch size 256 takes ")
    assert " % more steps (" in constant
    assert constant.endswith(") than with its own best lr.")
    assert "square-root rule from batch size 4, batch size 1,024 takes as many steps" in root
    assert "batch size 1,024 diverges (lr 5.12)" in linear
    sizes = [f"{size:,}" for size in sorted(planted.frontier["batch_size"].unique())]
    assert said.table is not None
    assert said.table.head == ["rule", *sizes]
    assert [(row[0].text, row[-1].text) for row in said.table.rows][::2] == [
        ("constant from 4", "lr not tried"), ("linear from 4", "diverged"),
    ]  # fmt: skip


def test_figure_has_a_line_a_rule(planted: StudyResult) -> None:
    figure = planted.plot("rule_regret")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "constant, from 4", "square-root, from 4", "linear, from 4",
    ]  # fmt: skip


def test_summary_has_null_where_nothing_is_known(planted: StudyResult) -> None:
    entries = summary(planted)["rule_regret"]
    diverged = [entry for entry in entries if entry["how"] == "diverged"]
    assert diverged
    assert {entry["regret"] for entry in diverged} == {None}
    assert entries[0]["ci95_regret"][0] == 0.0
    json.dumps(entries, allow_nan=False)


def test_a_recorded_rule_starts_from_its_own_lr(small_study: Frames) -> None:
    trials, curves = small_study
    trials = trials.copy()
    lr, size = float(sorted(trials["lr"].unique())[1]), int(trials["batch_size"].max())
    rule = {"name": "power", "exponent": -0.5, "batch_size": size, "reference": {"lr": lr}}
    trials["rule"] = json.dumps([rule])
    regrets = analyse(trials, curves, n_bootstrap=10).frames["rule_regret"]
    rows = regrets[regrets["rule"] == "power"]
    assert set(rows["reference_lr"]) == {lr}
    assert rows["lr"].tolist() == pytest.approx(lr * (rows["batch_size"] / size) ** -0.5)
    assert set(regrets["reference_batch_size"]) == {size}


def test_one_lr_at_each_batch_size_is_no_tuning(small_study: Frames) -> None:
    trials, curves = small_study
    one = trials[trials["lr"] == sorted(trials["lr"].unique())[1]]
    result = analyse(one, curves[curves["run_id"].isin(one["run_id"])], n_bootstrap=5)
    assert list(regret_frame(result).columns) == REGRET_COLUMNS
    assert section(result, result.frames) is None


def test_averages_that_follow_the_batch_size_are_compared_with_tuned_ones(
    small_study: Frames,
) -> None:
    """The trials at one lr again, under another beta2 at every batch size: one group, held against
    the tuned trials."""
    trials, curves = small_study
    lr = float(sorted(trials["lr"].unique())[1])
    start = int(trials["batch_size"].min())
    tuned = trials.assign(**{"optimizer.beta2": 0.9})
    moved = tuned[(tuned["lr"] == lr) & (tuned["batch_size"] > start)].copy()
    moved["optimizer.beta2"] = 0.9 ** (moved["batch_size"] / start)
    moved["run_id"] = moved["run_id"] + "_moved"
    both = pd.concat([tuned, moved], ignore_index=True)
    rule = {"name": "constant", "batch_size": start, "half_life": ["beta2"],
            "reference": {"lr": lr, "optimizer.beta2": 0.9}}  # fmt: skip
    both["rule"] = json.dumps([rule])
    again = curves.assign(run_id=curves["run_id"] + "_moved")
    again = again[again["run_id"].isin(moved["run_id"])]
    result = analyse(both, pd.concat([curves, again], ignore_index=True), n_bootstrap=10)
    assert result.group_by == ["follows_batch_size"]
    regrets = result.frames["rule_regret"].set_index("follows_batch_size")
    moved_rows = regrets.loc[f"half-life of beta2 from {start}"]
    assert set(moved_rows["rule"]) == {"constant"}
    assert moved_rows["reference_lr"].tolist() == [lr] * len(moved_rows)
    of_tuned = (result.cells["lr"] == lr) & (result.cells["follows_batch_size"] == "none")
    same = moved_rows.merge(result.cells[of_tuned], on=["target_loss", "batch_size"])
    assert len(same) > 1
    assert same["steps_x"].tolist() == pytest.approx(same["steps_y"].tolist(), nan_ok=True)
