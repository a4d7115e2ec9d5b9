"""Compose the configurations of many jobs cheaply, equal to Hydra's own composition.

Composing is slow because defaults lists are resolved and YAML files are merged anew for every job.
Jobs that choose the same groups differ only in plain values: the first is composed by Hydra, and
the values of the others are set on that configuration, through the same typed nodes. Where nothing
in it refers to them, they are even set on its plain content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from scaling.limits import ConfigError
from sweeps.compose.alike import (
    Common,
    Composed,
    common,
    copied,
    dirname_of,
    put,
    refers,
)

Kind = tuple[str, ...]  # of jobs: what they override, with values but for plain ones


class Composer:
    """Configurations of a multirun's jobs; `master` is the multirun's own configuration."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self.master = master
        self._composed: dict[Kind, DictConfig] = {}
        self._common: dict[Kind, Common] = {}
        self._values: dict[tuple[Kind, str], Any] = {}
        self._parse = lru_cache(maxsize=None)(OverridesParser.create().parse_override)
        self._is_group = lru_cache(maxsize=None)(self._names_a_group)

    def compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The configuration of job `number`, with its hydra node.

        The object is used again for the next job: read it before composing another.
        """
        kind = self._kind(overrides)
        config = self._composed.get(kind)
        if config is None:
            config = self._loader.load_sweep_config(self.master, list(overrides))
            self._composed[kind] = config
        else:
            for override in map(self._parse, overrides):
                if self._is_plain(override):
                    _set(config, override)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.overrides.task = list(overrides)
            dirname = dirname_of(config.hydra)(map(self._parse, overrides))
            config.hydra.job.override_dirname = dirname
        # set_config would copy it, at twice the cost of all the rest
        HydraConfig.instance().cfg = config  # pyright: ignore[reportAttributeAccessIssue]
        return config

    def job(self, overrides: Sequence[str], number: int) -> Composed:
        """Job `number`, from what is known of its kind if that is enough."""
        kind, parsed = self._kind(overrides), list(map(self._parse, overrides))
        known = self._common.get(kind)
        if known is None or not known.alike or any(refers(str(o.input_line)) for o in parsed):
            return self._resolved_job(kind, overrides, number)
        content = copied(known.content)
        for override in filter(self._is_plain, parsed):
            put(content, override.key_or_group, self._value(kind, str(override.input_line)))
        return Composed(content, known.subdir or str(number), known.hydra_node(parsed, number))

    def _resolved_job(self, kind: Kind, overrides: Sequence[str], number: int) -> Composed:
        config = self.compose(overrides, number)
        content, parsed = task_part(config), list(map(self._parse, overrides))
        if kind not in self._common:
            keys = [override.key_or_group for override in filter(self._is_plain, parsed)]
            self._common[kind] = common(config, content, keys)
        hydra = self._common[kind].hydra_node(parsed, number)
        return Composed(content, str(config.hydra.sweep.subdir), hydra)

    def _value(self, kind: Kind, line: str) -> Any:
        """What a plain override sets in jobs of this kind, as the type of its key makes it."""
        if (kind, line) not in self._values:
            config, override = self._composed[kind], self._parse(line)
            _set(config, override)
            self._values[kind, line] = OmegaConf.select(config, override.key_or_group)
        return self._values[kind, line]

    def _kind(self, overrides: Sequence[str]) -> Kind:
        """What the jobs of one composition have in common."""
        parsed = map(self._parse, overrides)
        return tuple(o.key_or_group if self._is_plain(o) else str(o.input_line) for o in parsed)

    def _names_a_group(self, key: str) -> bool:
        return bool(self._loader.get_group_options(key))

    def _is_plain(self, override: Override) -> bool:
        """A value set on a key that exists, which nothing in the composition depends on."""
        return not (
            override.is_add()
            or override.is_force_add()
            or override.is_delete()
            or override.package is not None
            or override.is_hydra_override()
            or isinstance(override.value(), dict | list)
            or self._is_group(override.key_or_group)
        )


def _set(config: DictConfig, override: Override) -> None:
    key = override.key_or_group
    try:
        OmegaConf.update(config, key, override.value(), merge=True)
    except OmegaConfBaseException as error:
        message = f"Error merging override {override.input_line}"
        raise ConfigCompositionException(message) from error


@contextmanager
def hydra_config(config: DictConfig) -> Iterator[None]:
    """What ${hydra:...} refers to: the hydra node of this configuration."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    OmegaConf.set_readonly(config.hydra, False)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def task_part(config: DictConfig) -> dict[str, Any]:
    """The configuration without its hydra node, resolved, as plain containers."""
    return _resolved(config, config)


def _resolved(config: DictConfig, keys: Iterable[Any]) -> dict[str, Any]:
    content = {}
    for key in keys:
        if key != "hydra":
            node = config._get_node(key)
            nested = OmegaConf.is_config(node)
            try:
                content[str(key)] = (
                    OmegaConf.to_container(node, resolve=True) if nested else config[key]
                )
            except (AssertionError, ValueError, TypeError) as error:
                if isinstance(error, OmegaConfBaseException):
                    raise
                raise ConfigError(str(key), node, "refers to a value that it cannot have") from None
    return content
