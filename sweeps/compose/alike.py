"""Jobs that differ in nothing but values: what Hydra composed for one of them stands for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sweeps.run.job import HydraNode

NUMBER = "${hydra.job.num}"
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")  # to another value; not by a resolver


@dataclass(frozen=True)
class Composed:
    """A job's configuration. content: resolved, without the hydra node; subdir: of its folder."""

    content: dict[str, Any]
    subdir: str
    hydra: HydraNode


@dataclass(frozen=True)
class Common:
    """What jobs of one kind have in common.

    content: of one of them. subdir: None for the job's number. node: hydra's, unresolved. alike:
    nothing but the overridden values themselves differs. dirname: hydra.job.override_dirname.
    """

    content: dict[str, Any]
    subdir: str | None
    node: dict[str, Any]
    alike: bool
    dirname: Callable[[Iterable[Override]], str]

    def hydra_node(self, overrides: Sequence[Override], number: int) -> HydraNode:
        job = {"id": str(number), "num": number, "override_dirname": self.dirname(overrides)}
        task = [str(override.input_line) for override in overrides]
        of_job = {
            "overrides": {**self.node["overrides"], "task": task},
            "job": {**self.node["job"], **job},
        }
        return HydraNode(self.node, of_job)


def common(config: DictConfig, content: dict[str, Any], keys: Sequence[str]) -> Common:
    """Of the jobs that override these keys, one of which is composed."""
    node = OmegaConf.to_container(config.hydra, resolve=False, enum_to_str=True)
    assert isinstance(node, dict)
    subdir = str(node["sweep"]["subdir"])
    ours = [config._get_node(key) for key in config if key != "hydra"]
    return Common(
        content=copied(content),
        subdir=None if subdir == NUMBER else subdir,
        node={str(key): value for key, value in node.items()},
        alike=(subdir == NUMBER or not refers(subdir)) and not depend(map(_raw, ours), keys),
        dirname=dirname_of(config.hydra),
    )


def depend(texts: Iterable[str], keys: Sequence[str]) -> bool:
    """A value refers to one of these keys, to Hydra's own or to what a resolver makes; or one of
    the keys lies in another."""
    references = set()
    for text in texts:
        references.update(found := REFERENCE.findall(text))
        if len(found) < text.count("${"):
            return True
    inside = any(one != other and _overlap(one, other) for one in keys for other in keys)
    return inside or any(_overlap(key, one) for one in references for key in [*keys, "hydra"])


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _raw(node: Any) -> str:
    return str(OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value())


def refers(text: str) -> bool:
    """It holds an interpolation, or a value that is missing."""
    return "${" in text or "???" in text


def dirname_of(hydra: DictConfig) -> Callable[[Iterable[Override]], str]:
    """What hydra.job.override_dirname is for some overrides."""
    options = hydra.job.config.override_dirname
    separators = {"kv_sep": options.kv_sep, "item_sep": options.item_sep}
    excluded = list(options.exclude_keys)

    def dirname(overrides: Iterable[Override]) -> str:
        of_task = [one for one in overrides if not one.is_hydra_override()]
        return get_overrides_dirname(of_task, exclude_keys=excluded, **separators)

    return dirname


def copied(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: copied(value) for key, value in content.items()}
    return [copied(value) for value in content] if isinstance(content, list) else content


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a value at a dotted path that is there."""
    *above, last = key.split(".")
    for name in above:
        content = content[name]
    content[last] = value
