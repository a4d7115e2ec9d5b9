"""The rules of lr against batch size: planted rules come back and are preferred."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.fit.lr_rules import FEWEST_FOR_VERDICT, lr_rule_frame, predict_lr, rule_words
from tests.benchmarks.rule_coverage import NOT_DECIDED, called

SIZES = 2.0 ** np.arange(11)


def rules_for(lrs, optimizer="sgd", sizes=SIZES):
    noise = np.exp(0.03 * np.random.default_rng(0).standard_normal(len(sizes)))
    frontier = pd.DataFrame({"batch_size": sizes, "lr": lrs * noise})
    rows = lr_rule_frame(frontier, {"model_size": 8}, 0.1, optimizer).to_dict("records")
    return {row["rule"]: row for row in rows}


def saturating_row(frontier, optimizer="sgd", drawn=None):
    rows = lr_rule_frame(frontier, {}, 0.1, optimizer, drawn).to_dict("records")
    return next(row for row in rows if row["rule"] == "saturating")


def preferred(rules):
    return [rule for rule, row in rules.items() if row["preferred"]]


def test_saturating_rule():
    rules = rules_for(0.9 / (1 + 40 / SIZES))
    assert list(rules) == ["constant", "linear", "square_root", "power", "saturating", "surge"]
    assert [name for name, rule in rules.items() if not rule["shown"]] == ["surge"]
    assert preferred(rules) == ["saturating"]
    found = rules["saturating"]
    assert found["lr_max"] == pytest.approx(0.9, rel=0.05)
    assert found["batch_scale"] == pytest.approx(40, rel=0.1)
    assert found["exponent"] == 1
    assert np.isnan(found["coefficient"])
    assert found["model_size"] == 8


def test_adaptive_optimizers_have_a_free_exponent():
    found = rules_for(0.01 / (1 + 40 / SIZES) ** 0.6, "adam")["saturating"]
    assert found["exponent"] == pytest.approx(0.6, abs=0.07)


@pytest.mark.parametrize(
    ("rule", "exponent"),
    [("constant", 0.0), ("linear", 1.0), ("square_root", 0.5), ("power", 0.25)],
)
def test_power_rules(rule, exponent):
    rules = rules_for(0.002 * SIZES**exponent)
    assert preferred(rules) == [rule]
    assert rules[rule]["coefficient"] == pytest.approx(0.002, rel=0.05)
    assert rules[rule]["exponent"] == pytest.approx(exponent, abs=0.02)
    assert np.isnan(rules[rule]["lr_max"])
    assert rules[rule]["rmse_log_lr"] < 0.05


def test_predictions_invert_the_rules():
    rules = rules_for(0.9 / (1 + 40 / SIZES))
    linear, root, saturating = (rules[name] for name in ("linear", "square_root", "saturating"))
    assert predict_lr(linear, 8.0) == pytest.approx(8 * linear["coefficient"])
    assert predict_lr(root, 16.0) == pytest.approx(4 * root["coefficient"])
    assert predict_lr(saturating, saturating["batch_scale"]) == pytest.approx(
        saturating["lr_max"] / 2
    )


def test_surge_rises_and_falls():
    ratio = np.sqrt(SIZES / 64)
    rules = rules_for(0.02 / (ratio + 1 / ratio), "adam")
    assert preferred(rules) == ["surge"]
    assert rules["surge"]["lr_max"] == pytest.approx(0.01, rel=0.05)
    assert rules["surge"]["batch_scale"] == pytest.approx(64, rel=0.1)
    assert rules["surge"]["shown"]
    assert predict_lr(rules["surge"], rules["surge"]["batch_scale"]) == pytest.approx(
        rules["surge"]["lr_max"]
    )


def test_another_exponent_than_sgds_needs_evidence():
    assert rules_for(0.9 / (1 + 40 / SIZES) ** 0.5)["saturating"]["exponent"] == pytest.approx(
        0.5, abs=0.06
    )
    assert rules_for(0.9 / (1 + 40 / SIZES))["saturating"]["exponent"] == 1


def test_intervals_come_from_the_draws():
    rng = np.random.default_rng(1)
    lrs = 0.9 / (1 + 40 / SIZES)
    frontier = pd.DataFrame({"batch_size": SIZES, "lr": lrs, "lr_refined": lrs})
    drawn = lrs * np.exp(0.05 * rng.standard_normal((300, len(SIZES))))
    drawn[0, 0] = np.nan  # a resample that does not reach the target somewhere
    row = saturating_row(frontier, "sgd", drawn)
    assert row["lr_max_low"] < 0.9 < row["lr_max_high"] < 1.05
    assert row["batch_scale_low"] < 40 < row["batch_scale_high"] < 55
    assert np.isnan(row["exponent_low"])  # fixed at 1
    free = saturating_row(frontier, "adam", drawn)
    assert 0.7 < free["exponent_low"] < 1 < free["exponent_high"] < 1.4
    without = saturating_row(frontier)
    assert np.isnan([without["lr_max_low"], without["lr_max_high"]]).all()


def test_the_refined_lr_is_fitted_where_there_is_one():
    frontier = pd.DataFrame({"batch_size": SIZES, "lr": 1.0, "lr_refined": 0.01 * SIZES})
    frontier.loc[3, ["lr", "lr_refined"]] = [0.08, np.nan]
    rows = lr_rule_frame(frontier, {}, 0.1).set_index("rule")
    assert rows.loc["linear", "coefficient"] == pytest.approx(0.01)


def test_few_points():
    assert lr_rule_frame(pd.DataFrame({"batch_size": [4], "lr": [0.1]}), {}, 0.1).empty
    two = rules_for(np.array([0.1, 0.2]), sizes=np.array([4.0, 8.0]))
    assert all(np.isnan(row["aicc"]) for row in two.values())
    assert preferred(two) == []
    assert "power" not in two  # no power law through two points


@pytest.mark.parametrize("n", [3, 5, FEWEST_FOR_VERDICT - 1])
@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_no_verdict_on_few_batch_sizes(n, exponent):
    sizes = SIZES[:n]
    frame = lr_rule_frame(pd.DataFrame({"batch_size": sizes, "lr": sizes**exponent}), {}, 0.1)
    assert not frame["preferred"].any()
    assert frame["aicc"].isna().all()
    said = f"{n} batch sizes have a best learning rate; a verdict needs {FEWEST_FOR_VERDICT}"
    assert set(frame["reason"]) == {said}
    assert rule_words(frame) == f"The rule is not decided: {said}."


def test_the_verdict_in_words():
    rows = lr_rule_frame(pd.DataFrame({"batch_size": SIZES, "lr": SIZES**0.5}), {}, 0.1)
    assert set(rows["reason"]) == {""}
    assert "the square root rule" in rule_words(rows)
    assert rule_words(rows.iloc[:0]) == ""


def test_rules_within_the_error_of_the_lrs_are_not_told_apart():
    """Equal lrs on a coarse grid: known to a factor 4 only, a slow rise fits as well."""
    sizes = 8 * 1.1 ** np.arange(8)
    exact = pd.DataFrame({"batch_size": sizes, "lr": 0.1})
    assert lr_rule_frame(exact, {}, 0.1).set_index("rule").loc["constant", "preferred"]
    coarse = exact.assign(lr_low=0.05, lr_high=0.2)
    frame = lr_rule_frame(coarse, {}, 0.1)
    assert not frame["preferred"].any()
    assert frame["reason"].iloc[0].startswith("constant, linear and square root describe")


@pytest.mark.parametrize("rule", ["constant", "square_root", "saturating"])
def test_the_searchs_lattice_decides_rightly(rule):
    """The whole of it: python -m tests.benchmarks.coverage rules."""
    found = called(rule, 25, FEWEST_FOR_VERDICT, "sgd", 0.5)
    assert found[rule] >= 24
    assert called(rule, 10, 5, "sgd", 0.5) == {NOT_DECIDED: 10}
