"""Any torch.optim.Optimizer in the training loop: one object a trial, stepped beside the others.

Each object has the trial's parameters in their own shapes (kernels, matrices, vectors), gets their
gradients and the scheduled lr, and makes its step; its state_dict is in the checkpoint.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from scaling.custom_code import digest_of_sources, module_of
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.optimizers.groups import Groups

Leaves = dict[str, Tensor]
Shaped = Callable[[Leaves], Leaves]  # views of one trial's leaves in their own shapes

KEY = "optimizer.path"


class CustomOptimizers:
    """The optimizers of a stack's rows; rows that compute the same trial share one.

    options [R] and lrs [R]: of each row; members [R]: the trial that a row computes.
    """

    def __init__(
        self,
        configs: Sequence[CustomOptimizerConfig],
        lrs: Sequence[float],
        members: Sequence[int],
        params: Leaves,
        gradients_of: Sequence[str],
        shaped: Shaped,
        groups: Groups | None = None,
    ) -> None:
        self._keys = list(gradients_of)
        self._shaped = shaped
        self._of_row = list(members)
        self._of_member: dict[int, TrialOptimizer] = {}
        for row, member in enumerate(members):
            if member not in self._of_member:
                leaves = self._shaped(self._row(params, row))
                self._of_member[member] = TrialOptimizer(configs[row], lrs[row], leaves, groups)

    def step(self, gradients: Leaves, params: Leaves, step: int, lr_factor: float | None) -> Leaves:
        """New parameters of all rows; leaves without a gradient (buffers) stay as they are."""
        new = {**params} | {key: torch.empty_like(params[key]) for key in self._keys}
        first = {member: row for row, member in reversed(list(enumerate(self._of_row)))}
        for member, row in first.items():
            of_row = self._shaped(self._row(gradients, row))
            stepped = self._of_member[member].step(of_row, lr_factor)
            for name, view in self._shaped(self._row(new, row)).items():
                view.copy_(stepped[name])
        for row, member in enumerate(self._of_row):
            if row != first[member]:
                for key in self._keys:
                    new[key][row] = new[key][first[member]]
        return new

    def keep(self, index: Tensor) -> None:
        """Go on with the rows `index` alone, in that order."""
        self._of_row = [self._of_row[row] for row in index.tolist()]
        self._of_member = {member: self._of_member[member] for member in set(self._of_row)}

    def saved(self, index: Tensor) -> list[dict[str, Any]]:
        """The state_dicts of the rows `index`, on the CPU."""
        return [self._of_member[self._of_row[row]].saved() for row in index.tolist()]

    def restore(self, saved: list[dict[str, Any]], index: Tensor, params: Leaves) -> None:
        """Go on from `saved`; index [R]: where each row stands in it; params: the rows' own."""
        seen: set[int] = set()
        for row, (member, source) in enumerate(zip(self._of_row, index.tolist(), strict=True)):
            if member not in seen:
                seen.add(member)
                leaves = self._shaped(self._row(params, row))
                self._of_member[member].restore(saved[source], leaves)

    def _row(self, leaves: Leaves, row: int) -> Leaves:
        return {key: leaves[key][row] for key in self._keys}


class TrialOptimizer:
    """The optimizer of one trial and the parameters that it owns: contiguous, each in its shape.

    They stand in the order of their groups, which is that of the state_dict.
    """

    def __init__(
        self,
        config: CustomOptimizerConfig,
        lr: float,
        leaves: Leaves,
        groups: Groups | None = None,
    ) -> None:
        self._lr = lr
        names = {None: list(leaves)} if groups is None else groups.names(leaves)
        self._params = {
            key: nn.Parameter(_whole(leaves[key])) for keys in names.values() for key in keys
        }
        make = cast(Callable[..., torch.optim.Optimizer], optimizer_class(config))
        named = getattr(make, "takes_names", False)
        parts: list[Any] = list(self._params.items()) if named else list(self._params.values())
        if groups is not None:
            _check_groups(config, named)
            parts = [{"params": [self._params[key] for key in keys]} for keys in names.values()]
        self.optimizer = make(parts, lr=lr, **_plain(config.options))
        self._lr_factors = [1.0] * len(self.optimizer.param_groups)
        if groups is not None:
            self._lr_factors = [1.0 if group is None else group.lr_factor for group in names]
        for group, given in zip(names, self.optimizer.param_groups, strict=False):
            if group is not None and group.weight_decay_factor != 1:
                _check_decay(config, given)
                given["weight_decay"] *= group.weight_decay_factor

    def step(self, gradients: Leaves, lr_factor: float | None) -> Leaves:
        """New parameters; not a number for a gradient that is none, which no method is asked of."""
        if not all(torch.isfinite(leaf).all() for leaf in gradients.values()):
            return {key: torch.full_like(leaf, math.nan) for key, leaf in gradients.items()}
        lr = self._lr if lr_factor is None else self._lr * lr_factor
        for group, factor in zip(self.optimizer.param_groups, self._lr_factors, strict=True):
            group["lr"] = lr * factor
        for key, param in self._params.items():
            param.grad = _whole(gradients[key])
        self.optimizer.step()
        return {key: param.detach() for key, param in self._params.items()}

    def saved(self) -> dict[str, Any]:
        return _on_cpu(self.optimizer.state_dict())

    def restore(self, saved: dict[str, Any], leaves: Leaves) -> None:
        with torch.no_grad():
            for key, param in self._params.items():
                param.copy_(leaves[key])
        self.optimizer.load_state_dict(copy.deepcopy(saved))
        groups = self.optimizer.param_groups  # state_dict numbers parameters in their order
        for number, param in enumerate(param for group in groups for param in group["params"]):
            state = self.optimizer.state.get(param, {})
            for key, value in saved["state"].get(number, {}).items():
                if isinstance(value, Tensor) and state[key].dtype != value.dtype:
                    state[key] = value.clone().to(
                        state[key].device
                    )  # torch casts to the parameter's


def _check_groups(config: CustomOptimizerConfig, named: bool) -> None:
    if named:
        allowed = f"{config.path} chooses its groups by the names of parameters; leave it out"
        raise ConfigError("param_groups", "[..]", allowed)


def _check_decay(config: CustomOptimizerConfig, group: dict[str, Any]) -> None:
    if "weight_decay" not in group:
        allowed = f"{config.path} has no weight_decay; leave weight_decay_factor out"
        raise ConfigError("param_groups", "[.. weight_decay_factor: ..]", allowed)


def _whole(leaf: Tensor) -> Tensor:
    return leaf.detach().clone(memory_format=torch.contiguous_format)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in options.items()}


def _on_cpu(value: Any) -> Any:
    """A copy that later steps do not reach."""
    if isinstance(value, Tensor):
        return value.detach().clone().cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_on_cpu(inner) for inner in value)
    return copy.deepcopy(value)


def optimizer_class(config: CustomOptimizerConfig) -> type[torch.optim.Optimizer]:
    """The class that `config.path` names, with options that it takes; ConfigError otherwise."""
    path, name = config.path, config.path.rpartition(".")[2]
    kind = getattr(module_of(KEY, path), name, None)
    if not isinstance(kind, type):
        reason = "has no such class in its module" if kind is None else "is not a class"
        raise ConfigError(KEY, path, f"{reason}; it must name a torch.optim.Optimizer")
    if not issubclass(kind, torch.optim.Optimizer):
        raise ConfigError(KEY, path, "is not a subclass of torch.optim.Optimizer")
    taken = _arguments(kind)
    if "lr" not in taken:
        raise ConfigError(KEY, path, "does not take lr, which every trial sets")
    if {"lr", "params"} & set(config.options):
        allowed = "leave lr and params out: lr is the trial's own key"
        raise ConfigError("optimizer.options", ", ".join(config.options), allowed)
    if unknown := sorted(set(_plain(config.options)) - taken):
        allowed = f"{path} takes {', '.join(sorted(taken - {'lr', 'params'}))}"
        raise ConfigError("optimizer.options", ", ".join(unknown), allowed)
    return kind


def _arguments(kind: type) -> set[str]:
    """Named arguments of the constructors: a class that passes **kwargs on takes its parents'."""
    names: set[str] = set()
    for parent in kind.__mro__:
        if parent is torch.optim.Optimizer:
            break
        if "__init__" not in vars(parent):
            continue
        arguments = inspect.signature(vars(parent)["__init__"]).parameters.values()
        names |= {a.name for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)}
        if not any(a.kind is a.VAR_KEYWORD for a in arguments):
            break
    return names - {"self"}


def optimizer_content(config: CustomOptimizerConfig) -> str:
    """Digest of its code, a part of its trials' identity; empty for torch's and ours.

    The user's files and what they import from beside them; of an installed package the file alone
    in which the class stands.
    """
    kind = optimizer_class(config)
    module = sys.modules[kind.__module__]
    if module.__name__.split(".")[0] in ("torch", "scaling"):
        return ""
    file = Path(inspect.getfile(kind))
    if "site-packages" in file.parts:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    return digest_of_sources(module_of(KEY, config.path)).hexdigest()[:16]
