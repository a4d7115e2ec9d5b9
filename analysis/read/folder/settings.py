"""Hyperparameters of the runs of a folder: config files beside them, and patterns on their names.

Whatever says the same setting twice must agree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.errors import AnalysisError, first_line
from analysis.read.folder.recorded import File

_SUFFIXES = (".yaml", ".yml", ".json")
_IN_DIRECTORY = (".hydra/config.yaml",)
_RESULTS = re.compile(r"wandb-(summary|metadata)|(all|train|eval)_results|trainer_state")
_MOST_BYTES = 1 << 18  # a larger file is a tokenizer, an index, a result
_WANDB = "_wandb"


@dataclass(frozen=True)
class Source:
    """Settings with where they come from, as a message calls it."""

    called: str
    settings: Mapping[str, Any]


def config_sources(file: File, owns_directory: bool) -> list[Source]:
    """Of files of the same name as the run's, and of its directory if that holds no other run."""
    path = file.path
    files = [path.with_suffix(suffix) for suffix in _SUFFIXES]
    if owns_directory:
        files += [p for p in sorted(path.parent.iterdir()) if p.suffix.lower() in _SUFFIXES]
        files += [path.parent / name for name in _IN_DIRECTORY]
    files = [p for p in dict.fromkeys(files) if p != path and p.is_file()]
    known = [p for p in files if not _RESULTS.match(p.stem) and p.stat().st_size <= _MOST_BYTES]
    read = [(p, _read_config(p)) for p in known]
    return [Source(f"{p.name}", flat(content)) for p, content in read if isinstance(content, dict)]


class _Loader(yaml.SafeLoader):
    """Objects of other programs' classes are left out, not made."""


_Loader.add_multi_constructor("", lambda *_: None)


def _read_config(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return json.loads(text)
        return _Loader(text).get_single_data()
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise AnalysisError(
            f"source.path={path}: is not the {path.suffix[1:]} that its name says "
            f"({first_line(error)}); it lies beside a run: fix or move it"
        ) from None


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names; W&B's `lr: {value: 0.1, desc: null}` is lr.

    >>> flat({"optimizer": {"lr": 0.1}, "batch_size": {"value": 8, "desc": None}})
    {'optimizer.lr': 0.1, 'batch_size': 8}
    """
    settings: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict) and "value" in value and set(value) <= {"value", "desc"}:
            value = value["value"]
        if isinstance(value, dict):
            settings |= flat(value, f"{prefix}{name}.") if name != _WANDB else {}
        elif value is not None:
            settings[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return settings


def compiled(name_pattern: str | None) -> re.Pattern[str] | None:
    if name_pattern is None:
        return None
    example = r"source.name_pattern='bs(?P<batch_size>\d+)_lr(?P<lr>[\d.e-]+)'"
    try:
        pattern = re.compile(name_pattern)
    except re.error as error:
        raise AnalysisError(
            f"source.name_pattern={name_pattern}: is not a regular expression ({error}); {example}"
        ) from None
    if not pattern.groupindex:
        raise AnalysisError(f"source.name_pattern={name_pattern}: has no named group; {example}")
    return pattern


def name_source(run: str, pattern: re.Pattern[str] | None) -> list[Source]:
    if pattern is None:
        return []
    found = pattern.search(run)
    if found is None:
        raise AnalysisError(
            f"source.name_pattern={pattern.pattern}: does not match the run {run}; change the "
            "pattern, or move this run out of the folder"
        )
    known = {name: value for name, value in found.groupdict().items() if value is not None}
    return [Source("its name", known)]


def agreed(
    run: str,
    where: str,
    sources: Iterable[Source],
    watched: Iterable[str],
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """The settings of all sources; of those that are watched, two must not differ.

    columns: ours -> theirs; of a name of theirs that is mapped and ours itself, both count as ours.
    """
    ours = {theirs: name for name, theirs in columns.items()}
    of_interest = {*watched, *columns}
    agreed: dict[str, Any] = {}
    first: dict[str, str] = {}
    for source in sources:
        for name, value in source.settings.items():
            key = ours.get(name, name)
            if key not in agreed:
                agreed[key], first[key] = value, source.called
            elif key in of_interest and not _same(agreed[key], value):
                raise AnalysisError(
                    f"source.path={where}: run {run}: {key} is {agreed[key]} by {first[key]}, but "
                    f"{value} by {source.called}; correct one of them, or move the run away"
                )
    return agreed


def _same(one: Any, other: Any) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=1e-9)
    except (TypeError, ValueError):
        return str(one) == str(other)
