"""YAML of configurations that are nearly the same many times: each part is made once."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent
from typing import Any

import yaml

from scaling.addresses import without_password

MOST_PARTS = 16384
_made: dict[str, str] = {}  # by the repr of what it was made of


def yaml_without_passwords(content: Any) -> str:
    """Containers as YAML; each value alone, because YAML folds and quotes what it holds."""
    if isinstance(content, dict) and content:
        return "".join(_once(_of_part, part) for part in content.items())
    if isinstance(content, list) and content:
        return "".join(_once(_plain_yaml, [item]) for item in content)
    return _plain_yaml(content)


def _once(make: Callable[[Any], str], content: Any) -> str:
    key = repr(content)
    if key not in _made:
        if len(_made) >= MOST_PARTS:
            _made.clear()
        _made[key] = make(content)
    return _made[key]


def _of_part(part: tuple[Any, Any]) -> str:
    key, value = part
    head, brackets, _ = _plain_yaml({key: {}}).rpartition(" {}\n")
    if isinstance(value, dict) and value and brackets:
        return f"{head}\n{indent(yaml_without_passwords(value), '  ')}"
    return _plain_yaml({key: value})


def _plain_yaml(content: Any) -> str:
    shown = without_passwords(content)
    return yaml.dump(shown, Dumper=yaml.CSafeDumper, sort_keys=False)


def without_passwords(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: without_passwords(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_passwords(value) for value in content]
    return without_password(content, whole=True) if isinstance(content, str) else content
