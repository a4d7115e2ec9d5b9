"""Limits of a configuration's fields: they stand with the field, and one checker reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

MISSING = "???"  # Hydra's sign for a value that must be given


class ConfigError(ValueError):
    """A value that the user can correct; the message is one line and names the key."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")


def short_reason(error: BaseException) -> str:
    """What a library's error says, in one line: its first, or the error's type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@dataclass(frozen=True)
class Limits:
    """Bounds of a number; or `among`: every value that there is. Text has neither: it must not be
    empty."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    among: tuple[Any, ...] = ()


def limited(
    default: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    among: Iterable[Any] = (),
) -> Any:
    """A dataclass field with Limits. A list has the limits of its elements."""
    metadata = {"limits": Limits(above, least, below, most, tuple(among))}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_limits(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for the first value outside the limits of its field, nested ones too.

    prefix: of the keys, `optimizer.` for an optimizer's configuration alone.
    """
    types = _types(type(config))
    for one in fields(config):
        key, value = prefix + one.name, getattr(config, one.name)
        if is_dataclass(value):
            check_limits(value, f"{key}.")
        elif "limits" in one.metadata and not (value is None and type(None) in types[one.name]):
            [kind] = types[one.name] - {type(None)}
            for element in value if isinstance(value, list) else [value]:
                check_value(key, element, kind, one.metadata["limits"])


@cache
def _types(node: type) -> dict[str, set[Any]]:
    """Of each field: its type, and None if it may be null; of a list that of its elements."""
    hints = get_type_hints(node)
    return {name: set(get_args(hint)) or {hint} for name, hint in hints.items()}


def check_value(key: str, value: Any, kind: type, limits: Limits) -> None:
    """Raise ConfigError unless the value is of this kind (int, float or str) and in its limits."""
    if limits.among:
        allowed = f"must be one of {', '.join(map(str, limits.among))}"
        fits = value in limits.among and type(value) is type(limits.among[0])
    elif kind is str:
        allowed, fits = "must be given", value not in ("", MISSING)
    else:
        allowed, fits = _described(kind, limits), _is_inside(value, kind, limits)
    if not fits:
        raise ConfigError(key, value, allowed)


def _is_inside(value: Any, kind: type, limits: Limits) -> bool:
    is_number = isinstance(value, int if kind is int else int | float)
    return (
        is_number
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (limits.above is None or value > limits.above)
        and (limits.least is None or value >= limits.least)
        and (limits.below is None or value < limits.below)
        and (limits.most is None or value <= limits.most)
    )


def _described(kind: type, limits: Limits) -> str:
    if kind is int and limits.most is not None:
        return f"must be a whole number from {limits.least} to {limits.most}"
    bounds = {">": limits.above, ">=": limits.least, "<": limits.below, "<=": limits.most}
    text = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
    return f"must be a {'whole' if kind is int else 'finite'} number {text}".rstrip()
