"""Params and tags of our own runs as they must be: a store may have been changed by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from scaling import schema

FIX = "restore it, or delete the run"


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _whole(text: str, least: int) -> None:
    value = _number(text)
    if value != int(value) or not least <= value < 2**53:
        raise ValueError


def _positive(text: str) -> None:
    if _number(text) <= 0:
        raise ValueError


def _names(text: str) -> None:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError


def _losses(text: str) -> None:
    for value in json.loads(text):
        _positive(value)


_COUNTS = ("task.dimension", "task.data_examples")
_NUMBERS = (  # of which the exact theory is computed
    *("task.spectrum_exponent", "task.label_noise", "task.true_weight", "task.initial_weight"),
    *("task.loss_scale", "task.data_seed"),
    *("optimizer.momentum", "optimizer.power", "optimizer.damping", "optimizer.weight_decay"),
)
_RULES: dict[str, tuple[Callable[[str], Any], str]] = {
    "batch_size": (lambda text: _whole(text, 1), "a whole number of at least 1"),
    "seed": (lambda text: _whole(text, 0), "a whole number of at least 0"),
    "lr": (_positive, "a number above 0"),
    schema.MODEL_SIZE: (_positive, "a number above 0"),
    schema.INITIAL_LOSS: (_number, "a number"),
    schema.IRREDUCIBLE_LOSS: (_number, "a number"),
    schema.TARGETS: (_losses, "a JSON list of losses"),
    **{key: (lambda text: _whole(text, 1), "a whole number of at least 1") for key in _COUNTS},
    **dict.fromkeys(_NUMBERS, (_number, "a number")),
}


_TAG_RULES: dict[str, tuple[Callable[[str], Any], str]] = {
    schema.ROUND: (lambda text: _whole(text, 0), "a whole number"),
    schema.TUNED: (_names, "a JSON list of params"),
    schema.SECONDS: (_number, "a number"),
}


def check_values(params: pd.DataFrame, tags: pd.DataFrame, study: str) -> None:
    """AnalysisError for the first param or tag that is not as it must be.

    params, tags: a column of texts each, a row a run. Each distinct text is looked at once.
    """
    for kind, values, rules in (("param", params, _RULES), ("tag", tags, _TAG_RULES)):
        for name, (rule, allowed) in rules.items():
            for text in values[name].dropna().unique() if name in values else ():
                try:
                    rule(text)
                except (ValueError, TypeError, OverflowError):
                    run_id = values.index[values[name] == text][0]
                    raise AnalysisError(
                        f"study={study}: run {run_id} has the {kind} {name}={shown(text)}; "
                        f"it must be {allowed}: {FIX}"
                    ) from None


def listed(sweeps: Sequence[Mapping[str, str]], key: str) -> list[dict[str, Any]]:
    """A tag of the newest sweep that has it: a JSON list of mappings."""
    for tags in sweeps:
        if not tags.get(key):
            continue
        try:
            content = json.loads(tags[key])
        except ValueError:
            content = None
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise wrong_tag(key, tags[key], "a JSON list of mappings")
        return content
    return []


def wrong_tag(key: str, value: object, allowed: str) -> AnalysisError:
    return AnalysisError(
        f"the tag {key} is not {allowed} ({shown(value)}): restore it, or delete the tag"
    )


def shown(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:60]}.."


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
