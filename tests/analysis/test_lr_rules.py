"""The rules of lr against batch size: planted rules come back and are preferred."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.lr_rules import lr_rule_frame, predict_lr

SIZES = 2.0 ** np.arange(11)


def rules_for(lrs, optimizer="sgd", sizes=SIZES):
    noise = np.exp(0.03 * np.random.default_rng(0).standard_normal(len(sizes)))
    frontier = pd.DataFrame({"batch_size": sizes, "lr": lrs * noise})
    rows = lr_rule_frame(frontier, {"model_size": 8}, 0.1, optimizer).to_dict("records")
    return {row["rule"]: row for row in rows}


def preferred(rules):
    return [rule for rule, row in rules.items() if row["preferred"]]


def test_saturating_rule():
    rules = rules_for(0.9 / (1 + 40 / SIZES))
    assert list(rules) == ["linear", "square_root", "saturating", "surge"]
    assert [rule["shown"] for rule in rules.values()] == [True, True, True, False]
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


@pytest.mark.parametrize(("rule", "exponent"), [("linear", 1.0), ("square_root", 0.5)])
def test_power_rules(rule, exponent):
    rules = rules_for(0.002 * SIZES**exponent)
    assert preferred(rules) == [rule]
    assert rules[rule]["coefficient"] == pytest.approx(0.002, rel=0.03)
    assert np.isnan(rules[rule]["lr_max"])
    assert rules[rule]["rmse_log_lr"] < 0.05


def test_predictions_invert_the_rules():
    rules = rules_for(0.9 / (1 + 40 / SIZES))
    linear, root, saturating, _ = rules.values()
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
    row = lr_rule_frame(frontier, {}, 0.1, "sgd", drawn).iloc[2]
    assert row["lr_max_low"] < 0.9 < row["lr_max_high"] < 1.05
    assert row["batch_scale_low"] < 40 < row["batch_scale_high"] < 55
    assert np.isnan(row["exponent_low"])  # fixed at 1
    free = lr_rule_frame(frontier, {}, 0.1, "adam", drawn).iloc[2]
    assert 0.7 < free["exponent_low"] < 1 < free["exponent_high"] < 1.4
    assert lr_rule_frame(frontier, {}, 0.1).iloc[2][["lr_max_low", "lr_max_high"]].isna().all()


def test_the_refined_lr_is_fitted_where_there_is_one():
    frontier = pd.DataFrame({"batch_size": SIZES, "lr": 1.0, "lr_refined": 0.01 * SIZES})
    frontier.loc[3, ["lr", "lr_refined"]] = [0.08, np.nan]
    assert lr_rule_frame(frontier, {}, 0.1).iloc[0]["coefficient"] == pytest.approx(0.01)


def test_few_points():
    assert lr_rule_frame(pd.DataFrame({"batch_size": [4], "lr": [0.1]}), {}, 0.1).empty
    two = rules_for(np.array([0.1, 0.2]), sizes=np.array([4.0, 8.0]))
    assert all(np.isnan(row["aicc"]) for row in two.values())
    assert len(preferred(two)) == 1
