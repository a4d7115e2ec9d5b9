"""A trial under a rule is the trial with its numbers written by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from scaling.apply_rule import rule_record, with_rule
from scaling.config import RuleConfig, TrialConfig, trial_config
from scaling.limits import ConfigError
from scaling.optimizers.config import AdamwConfig
from scaling.trial import prepare
from tests.scaling.trials import regression_trial


def ruled(name: str = "sqrt", optimizer: str = "sgd", **fields: Any) -> TrialConfig:
    """At batch size 64 from 16, unless fields say otherwise."""
    names = {"batch_size", "lr"} & set(fields)
    of_trial = {"batch_size": 64, "lr": 0.1} | {key: fields.pop(key) for key in names}
    rule = RuleConfig(name=name, batch_size=16, **fields)
    return regression_trial(optimizer, rule=rule, **of_trial)


@pytest.mark.parametrize(
    ("name", "fields", "lr"),
    [
        ("constant", {}, 0.1),
        ("sqrt", {}, 0.2),
        ("linear", {}, 0.4),
        ("linear", {"batch_size": 48}, 0.3),  # not 0.30000000000000004
        ("power", {"exponent": -0.5}, 0.05),
        ("saturating", {"batch_scale": 48.0, "exponent": 1.0}, 0.228571428571),
    ],
)
def test_is_the_trial_that_one_would_write(name: str, fields: dict[str, Any], lr: float) -> None:
    config = ruled(name, **fields)
    [trial], [written] = (
        prepare([one]) for one in (config, replace(config, rule=RuleConfig(), lr=lr))
    )
    assert trial.config.lr == lr
    assert (trial.trial_id, trial.stack_key) == (written.trial_id, written.stack_key)


def test_moves_averages_and_weight_decay() -> None:
    config = ruled("sqrt", "adamw", half_life=["beta1", "beta2"], weight_decay="timescale")
    config.optimizer = AdamwConfig(weight_decay=0.1)
    optimizer = with_rule(config).optimizer
    assert isinstance(optimizer, AdamwConfig)
    assert optimizer.beta1 == pytest.approx(0.9**4, rel=1e-11)
    assert optimizer.beta2 == pytest.approx(0.999**4, rel=1e-11)
    assert optimizer.weight_decay == 0.2  # 4 times the batch size at twice the lr
    assert asdict(config.optimizer)["beta1"] == 0.9  # what was given is as it was


def test_without_a_rule_nothing_moves() -> None:
    config = regression_trial("adamw", batch_size=64)
    left_alone = replace(config, rule=RuleConfig(batch_size=16, half_life=["beta2"]))
    assert with_rule(left_alone) is left_alone
    assert prepare([config])[0].trial_id == prepare([left_alone])[0].trial_id


def test_at_the_reference_it_is_the_same_trial() -> None:
    config = ruled("sqrt", "adamw", batch_size=16, half_life=["beta2"], weight_decay="timescale")
    [trial], [plain] = prepare([config]), prepare([replace(config, rule=RuleConfig())])
    assert trial.trial_id == plain.trial_id
    assert rule_record(trial.config) == ""


def test_is_applied_once() -> None:
    once = with_rule(ruled("linear"))
    assert with_rule(once) is once
    [trial], [again] = prepare([ruled("linear")]), prepare([once])
    assert trial.trial_id == again.trial_id


def test_says_where_the_numbers_come_from() -> None:
    config = with_rule(ruled("sqrt", "adamw", half_life=["beta2"]))
    reference = {"lr": 0.1, "optimizer.beta2": 0.999}
    assert config.rule.reference == reference
    record = {"name": "sqrt", "batch_size": 16, "reference": reference}
    assert json.loads(rule_record(config)) == record


def test_keeps_only_what_the_rule_has() -> None:
    rules = [
        with_rule(ruled(name, exponent=0.3, batch_scale=9.0)).rule for name in ("sqrt", "power")
    ]
    assert [(rule.exponent, rule.batch_scale) for rule in rules] == [(None, None), (0.3, None)]


def test_records_from_before_have_no_rule() -> None:
    content = asdict(regression_trial())
    del content["rule"]
    assert trial_config(content).rule == RuleConfig()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (regression_trial(rule=RuleConfig(name="sqrt")), "rule.batch_size=null: rule=sqrt"),
        (ruled("power"), "rule.exponent=null: rule=power requires it"),
        (ruled("saturating"), "rule.batch_scale=null: rule=saturating requires it"),
        (ruled(half_life=["beta2"]), r"rule.half_life=\[beta2\]: optimizer=sgd has no beta2"),
        (ruled(half_life=["momentum"]), "rule.half_life=momentum: must be one of"),
        (ruled("sqrt", "adam", weight_decay="timescale"), "rule.weight_decay=timescale: "),
        (ruled("cube"), "rule.name=cube: must be one of none, constant, sqrt"),
        (ruled("power", exponent=1e3, batch_size=2**20), "rule=power: at batch size .* lr=inf"),
        (regression_trial("adam", batch_size=1,
                          rule=RuleConfig("constant", 10**10, half_life=["beta2"])),
         "rule=constant: at batch size 1 gives optimizer.beta2=1.0: must be a finite number"),
        (ruled(reference={"lr": 0.3}), "rule.reference=.* does not give lr=0.1"),
    ],
)  # fmt: skip
def test_refuses(config: TrialConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        prepare([config])
    assert "\n" not in str(caught.value)
