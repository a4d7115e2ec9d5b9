"""What can be configured, by dotted path, and the nearest of it to what was typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from hydra.conf import HydraConf

from scaling.commands import command
from scaling.config import CHOICES, TrialConfig
from scaling.limits import ConfigError

LISTS = ("targets", "relative_targets", "task.initial_weights")
OPTIONS = ("task.options.", "optimizer.options.")  # whose keys belong to the user's class
ELSEWHERE = {  # what other programs call it
    "learning_rate": "lr",
    "bs": "batch_size",
    "steps": "budget.max_steps",
    "epochs": "budget.max_examples",
    "seeds": "seed",
    "name": "study.name",
    "workers": "hydra.launcher.workers",
    "num_workers": "hydra.launcher.workers",
    "output_dir": "record_dir",
    "wd": "optimizer.weight_decay",
    "uri": "tracking.uri",
}


class Refused(ConfigError):
    """A mistake that is not about the value of a key; the line says all."""

    def __init__(self, line: str) -> None:
        ValueError.__init__(self, line)


@cache
def known_keys() -> tuple[str, ...]:
    """Every key of a trial, of any task, optimizer, model and data, and of launchers."""
    keys = list(_paths(TrialConfig, ""))
    for group, choices in CHOICES.items():
        for node in choices.values():
            keys += _paths(node, f"{group}.")
    keys += _paths(HydraConf, "hydra.")
    for group, nodes in hydra_choices().items():
        for node in nodes.values():
            keys += _paths(node, group.replace("/", ".") + ".")
    return tuple(dict.fromkeys(keys))


def hydra_choices() -> dict[str, dict[str, type]]:
    """Our launchers and sweepers: {group: {choice: its fields}}."""
    from hydra_plugins.batch_scaling._options import FrontierOptions, GridOptions, StackedOptions

    sweepers = {"grid": GridOptions, "frontier": FrontierOptions}
    return {"hydra/launcher": {"stacked": StackedOptions}, "hydra/sweeper": sweepers}


def _paths(node: type, prefix: str) -> Iterator[str]:
    types = get_type_hints(node)
    for one in fields(node):
        yield prefix + one.name
        inner = types[one.name]
        if is_dataclass(inner) and isinstance(inner, type):
            yield from _paths(inner, f"{prefix}{one.name}.")


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """The most similar name; case and hyphens do not count."""
    plain = {name.lower().replace("-", "_"): name for name in known}
    matches = difflib.get_close_matches(typed.lower().replace("-", "_"), plain, n=1)
    return plain[matches[0]] if matches else None


def nearest_key(typed: str) -> str | None:
    """The key that was meant: one that ends so, or is written nearly so."""
    if typed in ELSEWHERE:
        return ELSEWHERE[typed]
    keys = known_keys()
    last = typed.rpartition(".")[2]
    ends = [key for key in keys if key.rpartition(".")[2] == last]
    if ends:
        return nearest(typed, ends) or ends[0]
    return nearest(typed, keys) or nearest(last, [key for key in keys if "." not in key])


def not_a_list(typed: str, key: str) -> str:
    return f"{typed}: must be a list, {key}=[..]"


def not_one_value(typed: str, key: str) -> str:
    return f"{typed}: is a group of options, not one value; {key}.<option>=.. sets one of them"


def unknown_key(key: str, value: str | None, node: type | None = None) -> str:
    """A line about a key that does not exist; node: the class of the group that lacks it."""
    group, _, name = key.rpartition(".")
    typed = key if value is None else f"{key}={value}"
    for kind, choices in (CHOICES | hydra_choices()).items():
        if kind.replace("/", ".") == group and (missing := _missing(kind, choices, name, node)):
            return f"{typed}: {missing}"
    near = nearest_key(key)
    hint = f"did you mean {near}?" if near else f"{command('sweep', '--help')} lists the options"
    return f"{typed}: there is no option {key}; {hint}"


def _missing(kind: str, choices: Mapping[str, type], name: str, node: type | None) -> str:
    """What a group lacks, and which choice has it, or what comes near; "" if neither is known."""
    having = [f"{kind}={one}" for one, fields_of in choices.items() if name in _names(fields_of)]
    chosen = [f"{kind}={one}" for one, fields_of in choices.items() if fields_of is node]
    if having:
        without = f"{chosen[0]} has no {name}" if chosen else f"there is no {name}"
        return f"{without}; choose {' or '.join(having)}"
    if node is None or not is_dataclass(node):
        return ""
    there = [one for one in _names(node) if one != "name"]
    near = nearest(name, there)
    group = kind.replace("/", ".")
    hint = f"did you mean {group}.{near}?" if near else f"it has {', '.join(there)}"
    return f"{chosen[0] if chosen else f'{kind}=?'} has no {name}; {hint}"


def refuse_other_keys(content: Mapping[str, Any]) -> None:
    """ConfigError for a key of a job's configuration that was added and means nothing, or was
    left out."""
    _refuse_other_keys(content, TrialConfig, "")


def _refuse_other_keys(content: Mapping[str, Any], node: type, prefix: str) -> None:
    names = [one.name for one in fields(node)]
    for key, value in content.items():
        if key not in names:
            raise Refused(unknown_key(f"{prefix}{key}", str(value), node))
    for key in names:
        if key not in content:
            raise Refused(f"~{prefix}{key}: cannot be left out; give it another value")
    types = get_type_hints(node)
    for key, inner in types.items():
        path, value = f"{prefix}{key}", content[key]
        choices = CHOICES.get(path, {})
        if choices and isinstance(value, Mapping):  # that all are of one choice is checked later
            _refuse_other_fields(path, value, choices)
            continue
        of_list = get_origin(inner) is list
        if of_list and not (isinstance(value, list) and _fit(value, get_args(inner)[0])):
            raise Refused(not_a_list(f"{path}={value}", path))
        if is_dataclass(inner) and isinstance(inner, type):
            if not isinstance(value, Mapping):
                raise Refused(not_one_value(f"{path}={value}", path))
            _refuse_other_keys(value, inner, f"{path}.")


def _refuse_other_fields(group: str, given: Mapping[str, Any], choices: Mapping[str, type]) -> None:
    """Refuses a field that no choice of the group has, or that the chosen one does not have."""
    known = {one.name for node in choices.values() for one in fields(node)}
    chosen = choices.get(str(given.get("name")))
    of_choice = {one.name for one in fields(chosen)} if chosen else set()
    for name, value in given.items():
        if name not in known or (of_choice <= set(given) and name not in of_choice):
            inner = next(iter(value.items()), None) if isinstance(value, Mapping) else None
            value = f"{inner[0]}={inner[1]}" if inner else str(value)
            line = unknown_key(f"{group}.{name}", value, chosen)
            raise Refused(line.replace("=", ".", 1) if inner else line)


def _fit(values: list[Any], kind: Any) -> bool:
    """What a list refers to has passed no check of its type."""
    return kind is not float or all(isinstance(value, int | float) for value in values)


def _names(node: Any) -> list[str]:
    return [one.name for one in fields(node) if one.name != "_target_"]
