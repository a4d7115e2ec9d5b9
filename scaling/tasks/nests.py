"""Tensors in dicts, tuples and dataclasses: what networks take, what they give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Nest = Any  # a tensor, or a dict, tuple, list or dataclass of nests
_WIDENED = (torch.uint16, torch.uint32, torch.uint64)


def mapped(function: Callable[[Tensor], Tensor], nest: Nest) -> Nest:
    """The nest with function(tensor) in the place of each tensor or array; all else as it is.

    Keys are gone through in alphabetical order, whatever their order in a dict.
    """
    if isinstance(nest, Tensor):
        return function(nest)
    if isinstance(nest, np.ndarray):
        return function(torch.as_tensor(nest))
    named = _named(nest)
    changed = {name: mapped(function, value) for name, value in named}
    if all(changed[name] is value for name, value in named):
        return nest
    if _is_dataclass(nest):
        return replace(nest, **changed)
    if isinstance(nest, Mapping):
        made: Any = copy.copy(nest) if isinstance(nest, MutableMapping) else {}
        for name, value in changed.items():
            made[name] = value
        return made
    parts = list(changed.values())
    return type(nest)(*parts) if hasattr(nest, "_fields") else type(nest)(parts)


def _named(nest: Nest) -> list[tuple[Any, Any]]:
    """What a container holds, by name or number; nothing of what is none."""
    if _is_dataclass(nest):
        return [(one.name, getattr(nest, one.name)) for one in fields(nest) if one.init]
    if isinstance(nest, Mapping):
        return [(key, nest[key]) for key in sorted(nest, key=str)]
    return list(enumerate(nest)) if isinstance(nest, tuple | list) else []


def _is_dataclass(nest: Nest) -> bool:
    return is_dataclass(nest) and not isinstance(nest, type)


def parts_of(nest: Nest, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is no container in it, with its place: ("0.input_ids", tensor)."""
    if not (_is_dataclass(nest) or isinstance(nest, Mapping | tuple | list)):
        yield name, nest
    for key, value in _named(nest):
        yield from parts_of(value, f"{name}.{key}" if name else str(key))


def tensors_of(nest: Nest) -> list[Tensor]:
    """Its tensors in the order of `mapped`."""
    return [part for _, part in parts_of(nest) if isinstance(part, Tensor)]


def filled(template: Nest, tensors: Sequence[Tensor]) -> Nest:
    """A nest like the template with these tensors, in the order of `mapped`."""
    waiting = iter(tensors)
    return mapped(lambda _: next(waiting), template)


def widened(tensor: Tensor) -> Tensor:
    """Unsigned integers that no embedding takes as 64 bits; all else as it is."""
    return tensor.long() if tensor.dtype in _WIDENED else tensor


def as_dtype(values: Nest, dtype: torch.dtype) -> Nest:
    """Real numbers as `dtype`, complex ones as its complex counterpart, all else as it is."""

    def one(tensor: Tensor) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        return tensor.to(dtype.to_complex() if tensor.is_complex() else dtype)

    return one(values) if isinstance(values, Tensor) else mapped(one, values)


def arguments(inputs: Nest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a network is called: a dict by keyword, a tuple by position, all else as one input."""
    if isinstance(inputs, Mapping):
        return (), {str(key): value for key, value in inputs.items()}
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def call(module: nn.Module, inputs: Nest) -> Any:
    args, kwargs = arguments(inputs)
    return module(*args, **kwargs)
