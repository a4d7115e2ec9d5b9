"""Compose the configurations of many jobs cheaply, equal to Hydra's own composition.

Composing is slow because defaults lists are resolved and YAML files are merged anew for every job.
Jobs that choose the same groups differ only in plain values: the first is composed by Hydra, and
the values of the others are set on that configuration, through the same typed nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from scaling.limits import ConfigError
from sweeps.run.job import HydraNode


class Composer:
    """Configurations of a multirun's jobs; `master` is the multirun's own configuration."""

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self.master = master
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._nodes: dict[tuple[str, ...], dict[str, Any]] = {}
        self._contents: dict[tuple[str, ...], dict[str, Any]] = {}  # of what no job changes
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
            config.hydra.job.override_dirname = self._dirname(config.hydra, overrides)
        # set_config would copy it, at twice the cost of all the rest
        HydraConfig.instance().cfg = config  # pyright: ignore[reportAttributeAccessIssue]
        return config

    def hydra_node(self, config: DictConfig, overrides: Sequence[str]) -> HydraNode:
        """What Hydra keeps of a job as hydra.yaml; most of it is the same for all of one kind."""
        kind = self._kind(overrides)
        if kind not in self._nodes:
            node = OmegaConf.to_container(config.hydra, resolve=False, enum_to_str=True)
            assert isinstance(node, dict)
            self._nodes[kind] = {str(key): value for key, value in node.items()}
        node, job = self._nodes[kind], config.hydra.job
        of_job = {
            "overrides": {**node["overrides"], "task": list(overrides)},
            "job": {
                **node["job"],
                **{key: job._get_node(key)._value() for key in ("id", "num", "override_dirname")},
            },
        }
        return HydraNode(node, of_job)

    def content(self, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
        """The job's configuration without its hydra node, resolved, as plain containers.

        Jobs of one kind differ in what they override and in what refers to something else.
        """
        kind = self._kind(overrides)
        if kind not in self._contents:
            set_here = {one.key_or_group.partition(".")[0] for one in map(self._parse, overrides)}
            fixed = [key for key in config if key not in set_here and not _refers(config, key)]
            self._contents[kind] = _resolved(config, fixed)
        fixed = self._contents[kind]
        others = _resolved(config, [key for key in config if key not in fixed])
        return {
            key: _copied(fixed[key]) if key in fixed else others[key]
            for key in map(str, config)
            if key != "hydra"
        }

    def _dirname(self, hydra: DictConfig, overrides: Sequence[str]) -> str:
        settings = hydra.job.config.override_dirname
        return get_overrides_dirname(
            [one for one in map(self._parse, overrides) if not one.is_hydra_override()],
            kv_sep=settings.kv_sep,
            item_sep=settings.item_sep,
            exclude_keys=settings.exclude_keys,
        )

    def _kind(self, overrides: Sequence[str]) -> tuple[str, ...]:
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


def _refers(config: DictConfig, key: Any) -> bool:
    """A value there is an interpolation."""
    node: Any = config._get_node(key)
    return "${" in str(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value())


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


def _copied(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    return [_copied(value) for value in content] if isinstance(content, list) else content
