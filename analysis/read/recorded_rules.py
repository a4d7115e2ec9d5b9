"""The rules that made trials of a study, and the trials whose optimizer follows one.

Under a rule, beta2 or weight_decay of a trial may be a function of its batch size (scaling.rules).
Told apart by these values, every batch size would be a group of its own. So such trials hold the
values at the rule's reference batch size instead, and FOLLOWS names what follows the batch size.
Which trials do is told by their numbers: it does not matter who asked for them first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.read.stored_values import is_number, listed, wrong_tag
from scaling.rules import LR_RULES, half_life, lr_ratio, timescale
from scaling.schema import RULE

FOLLOWS = "follows_batch_size"  # column of trials: "none", or what a rule moves besides lr
NOTHING = "none"
_DECAY = "optimizer.weight_decay"
_SAME = 1e-9  # values by formula have 12 digits


@dataclass(frozen=True)
class RecordedRule:
    """What scaling.config.RuleConfig says. lr: at batch_size, where all its trials have one;
    values: of the optimizer there, by param, those that the rule moves."""

    name: str
    batch_size: int
    exponent: float | None
    batch_scale: float | None
    lr: float | None
    values: tuple[tuple[str, float], ...]

    @property
    def follows(self) -> str:
        """What follows the batch size besides lr, in words; NOTHING if it is lr alone."""
        names = [key.rpartition(".")[2] for key, _ in self.values if key != _DECAY]
        parts = [f"half-life of {' and '.join(names)}"] if names else []
        if any(key == _DECAY for key, _ in self.values):
            parts.append(f"timescale of weight decay by {self.name}")
        return f"{', '.join(parts)} from {self.batch_size}" if parts else NOTHING

    def at(self, key: str, value: float, batch_sizes: NDArray) -> NDArray:
        """The value of a param of the optimizer at batch sizes."""
        if key != _DECAY:
            return half_life(value, batch_sizes, self.batch_size)
        given = self.batch_size, self.exponent, self.batch_scale
        ratio = lr_ratio(self.name, batch_sizes, *given)
        return timescale(value, batch_sizes, self.batch_size, ratio)


def recorded_rules(trials: pd.DataFrame) -> list[RecordedRule]:
    """Those that stand with the trials, each once; AnalysisError for a record that is not sound.

    A rule whose lr at the reference batch size differs between trials has none: the best is taken.

    >>> text = '[{"name": "sqrt", "batch_size": 16, "reference": {"lr": 0.1}}]'
    >>> recorded_rules(pd.DataFrame({"rule": [text, None, text]}))[0].lr
    0.1
    """
    if RULE not in trials:
        return []
    texts = sorted(trials[RULE].dropna().astype(str).unique())
    rules = [_rule(entry) for text in texts for entry in listed([{RULE: text}], RULE)]
    lrs: dict[RecordedRule, set[float | None]] = {}
    for rule in rules:
        lrs.setdefault(replace(rule, lr=None), set()).add(rule.lr)
    return [replace(rule, lr=of.pop() if len(of) == 1 else None) for rule, of in lrs.items()]


def with_reference_values(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials, those that follow a recorded rule with its values at the reference and
    FOLLOWS.

    A trial at the reference batch size follows every rule from there. It is there once for each,
    and once more if there are trials at other batch sizes with the same values.
    """
    rules = [rule for rule in recorded_rules(trials) if rule.values]
    parts: list[pd.DataFrame] = []
    stays, at_reference = np.ones(len(trials), bool), np.zeros(len(trials), bool)
    for rule in {rule.follows: rule for rule in rules}.values():
        follows, there = _following(trials, rule)
        if not follows[~there].any():
            continue
        parts.append(trials[follows].assign(**dict(rule.values), **{FOLLOWS: rule.follows}))
        stays &= ~follows | there
        same = stays & ~there & _equal(trials, rule)
        at_reference |= follows & there & (not same.any())
    if not parts:
        return trials
    plain = trials[stays & ~at_reference].assign(**{FOLLOWS: NOTHING})
    together = pd.concat([plain, *parts], ignore_index=True)
    together.attrs = trials.attrs
    return together


def _rule(entry: Mapping[str, Any]) -> RecordedRule:
    size, reference = entry.get("batch_size"), entry.get("reference")
    exponent, batch_scale = entry.get("exponent"), entry.get("batch_scale")
    values: dict[str, Any] = reference if isinstance(reference, dict) else {"lr": None}
    sound = entry.get("name") in LR_RULES and isinstance(size, int) and size > 0
    sound &= all(value is None or is_number(value) for value in (exponent, batch_scale))
    sound &= all(is_number(value) and value >= 0 for value in values.values())
    if not sound or (entry["name"] == "saturating" and not (batch_scale or 0) > 0):
        raise wrong_tag(RULE, entry, "a list of sound rules")
    others = tuple((key, float(value)) for key, value in values.items() if key != "lr")
    name = str(entry["name"])
    return RecordedRule(name, int(str(size)), exponent, batch_scale, values.get("lr"), others)


def _following(trials: pd.DataFrame, rule: RecordedRule) -> tuple[NDArray, NDArray]:
    """Which trials have the rule's values at their batch size, and which of all are at its own."""
    sizes = trials["batch_size"].to_numpy(float)
    follows = np.ones(len(trials), bool)
    for key, value in rule.values:
        right = rule.at(key, value, sizes)
        follows &= np.abs(_column(trials, key) - right) <= _SAME * np.abs(right)
    return follows, sizes == rule.batch_size


def _equal(trials: pd.DataFrame, rule: RecordedRule) -> NDArray:
    """Which trials have the rule's values at its reference batch size."""
    equal = [np.abs(_column(trials, key) - value) <= _SAME * value for key, value in rule.values]
    return np.logical_and.reduce(equal)


def _column(trials: pd.DataFrame, key: str) -> NDArray:
    if key not in trials:
        return np.full(len(trials), np.nan)
    return pd.to_numeric(trials[key], errors="coerce").to_numpy(float)
