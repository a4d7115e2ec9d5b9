"""What one example of a problem is called, and how many units (tokens, pixels) it holds."""

from __future__ import annotations

import re
from typing import Any

from scaling.limits import ConfigError, Limits, check_value
from scaling.schema import EXAMPLE, UNIT, UNIT_NAME, UNITS_PER_EXAMPLE


def units_of(problem: object) -> dict[str, Any]:
    """The params `example`, `unit` and `units_per_example` of a problem that says them.

    Raises ConfigError for a unit without a number, and for what is no name or positive number.
    """
    names = (EXAMPLE, UNIT, UNITS_PER_EXAMPLE)
    given = {name: getattr(problem, name) for name in names if hasattr(problem, name)}
    for name, value in given.items():
        key = f"the problem's {name}"
        if name == UNITS_PER_EXAMPLE:
            check_value(key, value, float, Limits(above=0))
        elif not isinstance(value, str) or not re.fullmatch(UNIT_NAME, value):
            form = 'the singular, as "sequence"' if name == EXAMPLE else 'the plural, as "tokens"'
            raise ConfigError(key, value, f"must be a plain name in {form}")
    for name, other in ((UNIT, UNITS_PER_EXAMPLE), (UNITS_PER_EXAMPLE, UNIT)):
        if name in given and other not in given:
            raise ConfigError(f"the problem's {name}", given[name], f"requires {other}, too")
    return given
