"""Whether a custom problem is what a task needs: what is needed and what came, with shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from scaling.custom_code import first_line
from scaling.draws import kept_draws
from scaling.limits import ConfigError
from scaling.tasks.content import data_digest, is_held
from scaling.tasks.examples import arrays_of
from scaling.tasks.nests import parts_of

if TYPE_CHECKING:
    from scaling.tasks.problem import Problem
    from scaling.tasks.supervised import SupervisedTask

N_EXAMPLES = 2
LEAVES = "a tuple of tensors or arrays, (inputs, targets), whose first axis are the examples"


def check_data(problem: Problem, path: str) -> None:
    """ConfigError for data that are no examples, and for those that do not say what they hold."""
    for key in ("train", "held_out"):
        given = getattr(problem, key, None)
        if is_held(given):
            _check_leaves(path, key, given)
    if any(not is_held(getattr(problem, key, None)) for key in ("train", "held_out")):
        data_digest(problem)  # which is quick: it is said, or refused


def check_network(task: SupervisedTask, path: str) -> None:
    """ConfigError for a network or a loss that cannot be trained: what it makes of two examples.

    Computed as an evaluation computes it, and, where that has a loss of its own, as a training step
    does; on the trial's own device; no draws are used up.
    """
    of_its_own = hasattr(task.problem, "eval_loss")
    with kept_draws(), torch.no_grad():
        if of_its_own:
            _check_loss(task, path, "loss", training=True)
        _check_loss(task, path, "eval_loss" if of_its_own else "loss", training=False)


def _check_loss(task: SupervisedTask, path: str, name: str, training: bool) -> None:
    """The problem's function of this name, of what the network returns in this mode."""
    inputs, *targets = task.examples(N_EXAMPLES)
    shown = f"inputs of {_what(inputs)}"
    module = task.new_module(0).train(training)
    outputs = _call(path, f"the network, given {shown},", task.forward, [module, inputs])
    given = ", ".join(_what(leaf) for leaf in (outputs, *targets))
    if isinstance(outputs, Tensor):
        who = f"{name}, given {given},"
    else:
        mode = " in training mode" if training else ""
        returned = f"the network returns {_what(outputs)} for {shown}{mode}, not one tensor"
        who = f"{returned}, and {name}, given that,"
    loss = _call(path, who, getattr(task.problem, name), [outputs, *targets])
    if not isinstance(loss, Tensor) or loss.dim():
        allowed = f"{name} returns {_what(loss)} for {given}; it must return one number, the mean"
        raise _refused(path, allowed)


def _check_leaves(path: str, key: str, leaves: Any) -> None:
    if isinstance(leaves, DataLoader):
        allowed = f"{key} is {_what(leaves)}; it must be {LEAVES}, or its Dataset: batches are "
        raise _refused(path, allowed + "drawn by the trial")
    if not isinstance(leaves, tuple | list):
        raise _refused(path, f"{key} is {_what(leaves)}; it must be {LEAVES}")
    for number, leaf in enumerate(leaves):
        _check_leaf(path, key, f"{key}[{number}]", leaf)


def _check_leaf(path: str, key: str, place: str, leaf: Any) -> None:
    if isinstance(leaf, dict):
        for name, value in leaf.items():
            _check_leaf(path, key, f"{place}[{name!r}]", value)
        return
    try:
        arrays = arrays_of(leaf)
    except (TypeError, ValueError, RuntimeError):
        raise _refused(path, f"{place} is {_what(leaf)}; {key} must be {LEAVES}") from None
    if any(not len(array.shape) for _, array in parts_of(arrays)):
        raise _refused(path, f"{place} is a single number; {key} must be {LEAVES}")


def _call(path: str, who: str, function: Any, given: Sequence[Any]) -> Any:
    try:
        return function(*given)
    except Exception as error:
        raise _refused(path, f"{who} raised {first_line(error)}") from None


def _what(thing: Any) -> str:
    """The kind of a thing, with its shape or keys."""
    if isinstance(thing, Tensor | np.ndarray):
        return f"{type(thing).__name__}{list(thing.shape)}"
    if isinstance(thing, dict):
        return f"a dict of {', '.join(map(str, thing))}"
    if isinstance(thing, tuple | list):
        return f"a {type(thing).__name__} of {', '.join(type(one).__name__ for one in thing[:4])}"
    article = "an" if type(thing).__name__[:1] in "AEIOUaeiou" else "a"
    return f"{article} {type(thing).__name__}"


def _refused(path: str, allowed: str) -> ConfigError:
    return ConfigError("task.path", path, allowed)
