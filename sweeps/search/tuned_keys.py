"""Hyperparameters that a search tunes beside lr, with the values that it may choose from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from scaling.limits import ConfigError
from sweeps.command_line.grid import combinations, typed_value

SETTING = "hydra.sweeper.tuned"
NOT_TUNED = {
    "batch_size": "batch sizes are what the search compares",
    "seed": "seeds are averaged",
}


@dataclass(frozen=True)
class TunedKey:
    """A key and the values that it may take, increasing. overrides: as they were given."""

    key: str
    values: tuple[float, ...]
    overrides: tuple[str, ...]


def start_point(keys: Sequence[TunedKey], config: DictConfig) -> tuple[int, ...]:
    """Of each key the place of the configuration's own value, or the middle where it has none."""
    places = []
    for key in keys:
        own = OmegaConf.select(config, key.key, default=None)
        middle = (len(key.values) - 1) // 2
        places.append(key.values.index(own) if own in key.values else middle)
    return tuple(places)


def overrides_at(keys: Sequence[TunedKey], point: Sequence[int]) -> list[str]:
    return [key.overrides[place] for key, place in zip(keys, point, strict=True)]


def along_each_key(
    keys: Sequence[TunedKey], start: tuple[int, ...]
) -> Iterator[tuple[TunedKey, tuple[int, ...]]]:
    """Every other value of each key, with those of the others at the start."""
    for number, key in enumerate(keys):
        for place in range(len(key.values)):
            if place != start[number]:
                yield key, (*start[:number], place, *start[number + 1 :])


def tuned_keys(names: Sequence[str], overrides: dict[str, Override]) -> tuple[TunedKey, ...]:
    """The keys of `hydra.sweeper.tuned` but lr, which is always tuned, taken out of `overrides`."""
    keys = []
    for name in dict.fromkeys(str(name) for name in names):
        if name == "lr":
            continue
        if name in NOT_TUNED:
            raise ConfigError(SETTING, f"[{name}]", f"cannot be tuned: {NOT_TUNED[name]}")
        override = overrides.pop(name, None)
        if override is None or not override.is_sweep_override():
            allowed = f"{name} is not swept: give the values to choose from, {name}=value,value,.."
            raise ConfigError(SETTING, f"[{name}]", allowed)
        keys.append(_tuned_key(name, override))
    return tuple(keys)


def _tuned_key(name: str, override: Override) -> TunedKey:
    given = {}
    for (one,) in combinations([override]):
        value = _number(one.partition("=")[2])
        if value is None:
            allowed = (
                f"{SETTING} takes numbers, which have an order; without it, {name} makes cells"
            )
            raise ConfigError(name, typed_value(override), allowed)
        given.setdefault(value, one)
    values = tuple(sorted(given))
    return TunedKey(name, values, tuple(given[value] for value in values))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
