"""A trial under a named rule: the same trial as with the numbers written by hand."""

from __future__ import annotations

import json
from dataclasses import replace

from scaling.config import RuleConfig, TrialConfig
from scaling.limits import ConfigError, check_limits
from scaling.rules import NO_RULE, half_life, lr_ratio, timescale

DIGITS = 12  # 0.1 * 3 is the 0.3 that one writes: the same number, the same trial
# Where a step shrinks the weights by lr * weight_decay (times a constant): see rules.timescale.
DECAYS_BY_LR = ("sgd", "momentum", "nesterov", "sgdw", "momentumw", "rmspropw", "adamw")
_SHAPES = {"exponent": ("power", "saturating"), "batch_scale": ("saturating",)}
_SAME = 1e-9


def with_rule(config: TrialConfig) -> TrialConfig:
    """The trial with the lr, averages and weight decay that its rule gives at its batch size.

    What they are at the reference batch size is kept in rule.reference; a configuration that has it
    is left as it is. ConfigError for a rule that lacks a value, or whose values the optimizer does
    not have or cannot have.
    """
    rule = config.rule
    if rule.name == NO_RULE:
        return config
    _check(rule)
    given = _reference(config)
    if rule.reference:
        _check_applied(config, given)
        return config
    applied = replace(rule, reference=given)
    for key, names in _SHAPES.items():  # a sweep of several rules gives each what one requires
        if rule.name not in names:
            applied = replace(applied, **{key: None})
    return _with_values(replace(config, rule=applied), values_at(config))


def values_at(config: TrialConfig) -> dict[str, float]:
    """What the rule makes of the values in rule.reference, otherwise of those of the trial."""
    rule, size = config.rule, config.batch_size
    assert rule.batch_size is not None
    given = rule.reference or _reference(config)
    ratio = lr_ratio(rule.name, size, rule.batch_size, rule.exponent, rule.batch_scale)
    values: dict[str, float] = {}
    for key, value in given.items():
        if key == "lr":
            moved = value * ratio
        elif key == "optimizer.weight_decay":
            moved = timescale(value, size, rule.batch_size, ratio)
        else:
            moved = half_life(value, size, rule.batch_size)
        values[key] = value if moved == value else float(f"{float(moved):.{DIGITS}g}")
    return values


def rule_record(config: TrialConfig) -> str:
    """Which rule made the trial's numbers, and from what: JSON of what its RuleConfig holds; ""
    where it changed none."""
    rule = config.rule
    if rule.name == NO_RULE or values_at(config) == rule.reference:
        return ""
    parts = ("name", "batch_size", "exponent", "batch_scale", "reference")
    return json.dumps({key: value for key in parts if (value := getattr(rule, key)) is not None})


def _check(rule: RuleConfig) -> None:
    """Each rule has what its formula requires, and nothing else."""
    if rule.batch_size is None:
        allowed = f"rule={rule.name} requires it: the batch size at which lr holds"
        raise ConfigError("rule.batch_size", "null", allowed)
    needed = {"power": ("exponent",), "saturating": ("batch_scale",)}.get(rule.name, ())
    for key in needed:
        if getattr(rule, key) is None:
            raise ConfigError(f"rule.{key}", "null", f"rule={rule.name} requires it")


def _reference(config: TrialConfig) -> dict[str, float]:
    """The values that the rule moves, as they stand in the configuration."""
    rule, optimizer = config.rule, config.optimizer
    given = {"lr": float(config.lr)}
    for name in rule.half_life:
        if not hasattr(optimizer, name):
            allowed = f"optimizer={optimizer.name} has no {name}; leave it out"
            raise ConfigError("rule.half_life", f"[{','.join(rule.half_life)}]", allowed)
        given[f"optimizer.{name}"] = float(getattr(optimizer, name))
    if rule.weight_decay == "timescale":
        if optimizer.name not in DECAYS_BY_LR:
            allowed = f"optimizer={optimizer.name} does not decay by lr * weight_decay; "
            allowed += f"{', '.join(DECAYS_BY_LR)} do"
            raise ConfigError("rule.weight_decay", rule.weight_decay, allowed)
        given["optimizer.weight_decay"] = float(getattr(optimizer, "weight_decay"))  # noqa: B009
    return given


def _with_values(config: TrialConfig, values: dict[str, float]) -> TrialConfig:
    names = {key.rpartition(".")[2]: value for key, value in values.items() if key != "lr"}
    optimizer = replace(config.optimizer, **names)
    try:
        moved = replace(config, lr=values["lr"], optimizer=optimizer)
        check_limits(optimizer, "optimizer.")
        check_limits(moved)
    except ConfigError as error:
        allowed = f"at batch size {config.batch_size} gives {error}"
        raise ConfigError("rule", config.rule.name, allowed) from None
    return moved


def _check_applied(config: TrialConfig, current: dict[str, float]) -> None:
    """ConfigError where rule.reference is not what the values come from: it is not an option."""
    for key, value in values_at(config).items():
        if abs(value - current.get(key, 0.0)) > _SAME * abs(value):
            allowed = f"does not give {key}={current.get(key)}; leave rule.reference out"
            raise ConfigError("rule.reference", config.rule.reference, allowed)
