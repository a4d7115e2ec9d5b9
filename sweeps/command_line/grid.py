"""The combinations of swept values, counted before any is laid out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from scaling.limits import ConfigError
from sweeps.command_line.hydra_errors import unreadable
from sweeps.command_line.known_keys import Refused

MOST_JOBS = 100_000


def parse(words: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """The overrides; ConfigError for a word that is none."""
    parser = OverridesParser.create(loader)
    parsed: list[Override] = []
    for word in words:
        try:
            word.encode()
            parsed += parser.parse_overrides([word])
        except HydraException as error:
            raise Refused(unreadable(word, str(error))) from None
        except RecursionError:
            raise Refused(f"{word}: has too many nested brackets") from None
        except UnicodeEncodeError:
            raise Refused(f"{word!r}: is not UTF-8") from None
        except (ValueError, TypeError, AssertionError) as error:
            raise Refused(unreadable(word, str(error))) from None
    return parsed


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides of every job; the last override of a key counts, as in Hydra.

    ConfigError for a sweep that is empty or endless, and for too many jobs.
    """
    last = {override.get_key_element(): override for override in overrides}
    counts = {key: _count(override) for key, override in last.items()}
    n_jobs = math.prod(counts.values())
    if n_jobs > MOST_JOBS:
        swept = max(counts, key=lambda key: counts[key])
        allowed = f"makes this a sweep of {n_jobs:,} jobs, and at most {MOST_JOBS:,} are possible"
        raise ConfigError(swept, typed_value(last[swept]), allowed)
    lists = [_values(key, override) for key, override in last.items()]
    return [list(job) for job in itertools.product(*lists)]


def _count(override: Override) -> int:
    if not override.is_sweep_override():
        return 1
    if override.is_interval_sweep():
        allowed = "has infinitely many values; give a list or range(start,stop,step)"
        raise ConfigError(override.key_or_group, typed_value(override), allowed)
    swept: Any = override.value()
    if isinstance(swept, RangeSweep):
        n = _count_range(override, swept)
    elif isinstance(swept, ChoiceSweep):
        n = len(swept.list)
    else:
        n = len(list(override.sweep_string_iterator()))
    if n == 0:
        allowed = "the list of values is empty; give at least one"
        raise ConfigError(override.key_or_group, typed_value(override), allowed)
    return n


def _count_range(override: Override, swept: RangeSweep) -> int:
    start, stop, step = (float(one or 0) for one in (swept.start, swept.stop, swept.step))
    if step == 0 or not all(map(math.isfinite, (start, stop, step, (stop - start) / step))):
        allowed = "has no end: give range(start,stop,step), finite, with a step that is not 0"
        raise ConfigError(override.key_or_group, typed_value(override), allowed)
    return max(0, math.ceil((stop - start) / step))


def _values(key: str, override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def typed_value(override: Override) -> str:
    """As it was given, sweep and all."""
    return str(override.input_line).split("=", 1)[1]
