"""The regret of rules on tables of steps whose S(B, lr) is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.measure.rule_regret import (
    INTERPOLATED,
    OUTSIDE,
    RUN,
    LrRule,
    default_reference,
    read_steps,
    regret_rows,
)
from scaling.schema import CENSORED, DIVERGED, REACHED
from tests.benchmarks.regret_coverage import (
    LR_AT_ONE,
    RULES,
    SIZES,
    planted_lr_table,
    simulate,
    tried,
    true_steps,
)


def cells(*given: tuple[float, float, str]) -> pd.DataFrame:
    return pd.DataFrame(given, columns=pd.Index(["lr", "steps", "outcome"]))


TRIED = cells(
    (0.1, 400.0, REACHED), (0.2, 200.0, REACHED), (0.4, 100.0, REACHED), (0.8, np.nan, DIVERGED),
    (1.6, np.nan, DIVERGED),
)  # fmt: skip


@pytest.mark.parametrize(
    ("lr", "steps", "how"),
    [
        (0.2, 200.0, RUN),
        (0.20000199, 200.0, RUN),  # a search rounds its lrs to six digits
        (0.2 * 2**0.5, 200 / 2**0.5, INTERPOLATED),  # log S falls linearly in log lr
        (0.5, np.nan, OUTSIDE),  # it may diverge, or not
        (0.8, np.nan, DIVERGED),
        (1.0, np.nan, DIVERGED),
        (9.0, np.nan, DIVERGED),
        (0.05, np.nan, OUTSIDE),
    ],
)
def test_steps_at_an_lr(lr: float, steps: float, how: str) -> None:
    at = read_steps(TRIED, lr)
    assert at.how == how
    assert at.steps == pytest.approx(steps, rel=1e-4, nan_ok=True)


def test_does_not_extrapolate_what_ran_out_of_budget() -> None:
    some = cells((0.1, np.nan, CENSORED), (0.2, 50.0, REACHED))
    assert read_steps(some, 0.1).how == CENSORED
    assert read_steps(some, 0.14).how == OUTSIDE


def regret_of(rule: LrRule, table: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """The rows by batch size."""
    measured = tried(table, 50)
    return {row["batch_size"]: row for row in regret_rows(rule, measured, measured)}


@pytest.mark.parametrize("name", RULES)
def test_without_noise_it_is_the_planted_one(name: str) -> None:
    """S(B, lr) of a parabola: log(1 + regret) = c/2 log(lr/lr*)^2."""
    rule = LrRule(name, 4)
    rows = regret_of(rule, planted_lr_table(np.random.default_rng(0), 3, 0.0))
    for size in (16, 64):
        off = np.log(rule.ratio(size) * np.sqrt(4 / size))
        assert rows[size]["regret"] == pytest.approx(np.expm1(off**2 / 2), rel=1e-9, abs=1e-9)
        assert rows[size]["how"] == RUN
    assert {round(row["reference_lr"], 9) for row in rows.values()} == {2 * LR_AT_ONE}


def test_a_given_lr_is_taken_instead_of_the_best() -> None:
    """Half a spacing off, between two lrs: the interval holds what lies below the line."""
    table, lr = planted_lr_table(np.random.default_rng(0), 3, 0.0), 2 * LR_AT_ONE * 2**0.25
    rows = regret_of(LrRule("sqrt", 4, lr=lr), table)
    assert {row["how"] for row in rows.values()} == {INTERPOLATED}
    steps, least = (true_steps(64, np.array([at]), 1.0, 8.0)[0] for at in (lr * 4, 8 * LR_AT_ONE))
    assert rows[64]["regret"] > steps / least - 1
    assert rows[64]["regret_low"] <= steps / least - 1 <= rows[64]["regret_high"]


def test_a_rule_that_diverges() -> None:
    rows = regret_of(LrRule("linear", 4), planted_lr_table(np.random.default_rng(0), 3, 0.0))
    assert rows[1024]["how"] == DIVERGED
    assert np.isnan([rows[1024][name] for name in ("steps", "regret", "regret_low")]).all()


def test_a_rule_that_runs_out_of_budget_is_a_bound() -> None:
    table = planted_lr_table(np.random.default_rng(0), 3, 0.0)
    at = (table["batch_size"] == 16) & np.isclose(table["lr"], 2 * LR_AT_ONE)
    table.loc[at, ["steps", "outcome"]] = [160.0, CENSORED]
    row = regret_of(LrRule("constant", 4), table)[16]
    assert row["how"] == CENSORED
    assert row["regret_low"] == pytest.approx(160 / (20 + 2000 / 16) - 1)
    assert np.isnan(row["regret_high"])


def test_below_three_seeds_there_is_no_interval() -> None:
    rows = regret_of(LrRule("sqrt", 4), planted_lr_table(np.random.default_rng(0), 2, 0.05))
    assert np.isfinite([row["regret"] for row in rows.values()]).all()
    assert np.isnan([row["regret_low"] for row in rows.values()]).all()


def test_where_the_best_lr_is_at_an_edge_the_regret_is_at_least_that() -> None:
    table = planted_lr_table(np.random.default_rng(0), 3, 0.01)
    table = table[(table["batch_size"] != 64) | (table["lr"] < 8.1 * LR_AT_ONE)]
    row = regret_of(LrRule("constant", 4), table)[64]
    assert row["regret_low"] > 1
    assert np.isnan(row["regret_high"])


def test_reference_is_the_smallest_batch_size_that_was_tuned() -> None:
    table = planted_lr_table(np.random.default_rng(0), 3, 0.0)
    assert default_reference(tried(table, 5).frontier) == SIZES[0]
    edge = (table["batch_size"] == 4) & (table["lr"] < 2.1 * LR_AT_ONE)
    few = (table["batch_size"] == 16) & ~np.isclose(table["lr"], 4 * LR_AT_ONE)
    not_four = (table["batch_size"] != 4) | edge
    assert default_reference(tried(table[not_four], 5).frontier) == 16
    assert default_reference(tried(table[not_four & ~few], 5).frontier) == 64


@pytest.mark.long
def test_intervals_cover_the_true_regret() -> None:
    """That of the right rule is 0, and the estimate never below it."""
    found = simulate(30, ("sqrt", "constant"), 4, 0.05, n_bootstrap=200).dropna(subset="covered")
    right = found["rule"] == "sqrt"
    assert found.loc[right, "covered"].mean() > 0.93
    assert found.loc[~right, "covered"].mean() > 0.87
