"""The optimizer of a stack's rows: a built-in one for all at once, or an object a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from scaling.config import TrialConfig
from scaling.limits import ConfigError
from scaling.optimizers import builtin as optimizers
from scaling.optimizers.config import CustomOptimizerConfig, PreconditionedConfig
from scaling.optimizers.custom import CustomOptimizers, Shaped
from scaling.optimizers.custom_check import check_custom_optimizer
from scaling.optimizers.groups import GroupFactors, Groups
from scaling.param_groups import REST, grouped, param_groups
from scaling.tasks.task import Params, Task, optimized


class StackOptimizer(Protocol):
    """State and hyperparameters of the rows of a stack."""

    def step(self, gradients: Params, params: Params, step: int, lr_factor: float | None) -> Params:
        """New parameters after update number `step` (from 1); None: lr is not scheduled."""
        ...

    def keep(self, index: Tensor) -> None:
        """Go on with the rows `index` alone, in that order."""
        ...

    def saved(self, index: Tensor) -> Any:
        """What the next steps of the rows `index` depend on, as checkpoints hold it."""
        ...

    def restore(self, saved: Any, index: Tensor, params: Params) -> None:
        """Go on from `saved`; index [R]: where each row stands in it; params: the rows' own."""
        ...


@dataclass
class BuiltIn:
    """One of scaling.optimizers.builtin: a computation for all rows; leaves of state and hyper are
    [R]."""

    name: str
    state: dict[str, optimizers.Leaf]
    hyper: optimizers.Hyper
    groups: GroupFactors | None = None
    _shaped: dict[str, optimizers.Hyper] | None = None  # of each leaf, while no step changes them

    def step(self, gradients: Params, params: Params, step: int, lr_factor: float | None) -> Params:
        shaped, hyper = self._shaped, self.hyper
        if shaped is None or lr_factor is not None:
            if lr_factor is not None:
                hyper = {**hyper, "lr": hyper["lr"] * lr_factor}
            coefficients = optimizers.coefficients(hyper, step)
            shaped = {key: optimizers.shaped_as(params[key], coefficients) for key in gradients}
            if self.groups is not None:
                shaped = self.groups.applied(shaped, hyper, lr_factor is None)
            if lr_factor is None and optimizers.same_every_step(hyper):
                self._shaped = shaped
        new, self.state = optimizers.updated(self.name, gradients, self.state, params, shaped)
        return new

    def keep(self, index: Tensor) -> None:
        self._shaped = None
        if self.groups is not None:
            self.groups.forget()
        self.hyper = {key: leaf[index] for key, leaf in self.hyper.items()}
        self.state = {
            key: {part: leaf[index] for part, leaf in state.items()}
            for key, state in self.state.items()
        }

    def saved(self, index: Tensor) -> dict[str, optimizers.Leaf]:
        return {
            key: {part: leaf[index].cpu() for part, leaf in state.items()}
            for key, state in self.state.items()
        }

    def restore(self, saved: Any, index: Tensor, params: Params) -> None:
        device = next(iter(params.values())).device
        self.state = {
            key: {part: leaf[index].to(device) for part, leaf in state.items()}
            for key, state in saved.items()
        }


def start_optimizer(
    task: Task, rows: Sequence[TrialConfig], members: Sequence[int], params: Params
) -> StackOptimizer:
    """Before the first update. rows [R]: the trial that each row computes; members: its number."""
    first = rows[0].optimizer
    groups = _groups(rows[0], task, params)
    if isinstance(first, CustomOptimizerConfig):
        return CustomOptimizers(
            [cast(CustomOptimizerConfig, config.optimizer) for config in rows],
            [config.lr for config in rows],
            members,
            params,
            optimized(params),
            _shaped(task),
            groups,
        )
    hyper = _hyper([_numbers(config) for config in rows])
    state = optimizers.init(first.name, {key: params[key] for key in optimized(params)})
    if isinstance(first, PreconditionedConfig):
        [key] = optimized(params)
        matrix = optimizers.preconditioner(_curvature(task), hyper["power"], hyper["damping"])
        state[key]["preconditioner"] = matrix.to(params[key])
    factors = None
    if groups is not None:
        leaves = {key: params[key][0] for key in optimized(params)}
        factors = GroupFactors.of_leaves(groups, leaves, _shaped(task))
    return BuiltIn(first.name, state, hyper, factors)


def _groups(config: TrialConfig, task: Task, params: Params) -> Groups | None:
    """None where all parameters are one group; ConfigError for groups that hold none."""
    groups = param_groups(config)
    if not groups:
        return None
    leaves = _shaped(task)({key: params[key][0] for key in optimized(params)})
    of_name = grouped(groups, {name: leaf.dim() for name, leaf in leaves.items()})
    return Groups([*groups, REST], of_name)


def check_optimizer(config: TrialConfig, task: Task, params: Params) -> None:
    """ConfigError where the task and the optimizer do not fit; params: leaves [R, ...] at start."""
    optimizer, groups = config.optimizer, _groups(config, task, params)
    if isinstance(optimizer, CustomOptimizerConfig):
        leaves = {key: params[key][0] for key in optimized(params)}
        check_custom_optimizer(optimizer, config.lr, _shaped(task)(leaves), groups)
    elif isinstance(optimizer, PreconditionedConfig):
        if not hasattr(task, "curvature"):
            allowed = f"requires a task that knows its curvature, and {config.task.name} does not: "
            allowed += "linear_regression, finite_regression, or a custom task with curvature()"
            raise ConfigError("optimizer.name", optimizer.name, allowed)
        curvature = _curvature(task)
        values = curvature if curvature.dim() == 1 else torch.linalg.eigvalsh(curvature)
        least = values.max() * len(values) * torch.finfo(torch.float64).eps
        if optimizer.power > 0 and optimizer.damping == 0 and values.min() <= least:
            allowed = "must be > 0: the curvature is singular, some directions have none"
            raise ConfigError("optimizer.damping", optimizer.damping, allowed)


def _curvature(task: Task) -> Tensor:
    return task.curvature()  # pyright: ignore[reportAttributeAccessIssue]


def _shaped(task: Task) -> Shaped:
    """Leaves of tasks that do not say otherwise have their own shapes already."""
    return getattr(task, "shaped", lambda leaves: leaves)


def _numbers(config: TrialConfig) -> dict[str, float]:
    """The numeric hyperparameters of a trial's optimizer, lr among them."""
    optimizer = config.optimizer
    hyper = {f.name: getattr(optimizer, f.name) for f in fields(optimizer) if f.name != "name"}
    return {"lr": config.lr, **hyper}


def _hyper(rows: Sequence[dict[str, float]]) -> optimizers.Hyper:
    hyper: dict[str, Tensor] = {
        key: torch.tensor([row[key] for row in rows], dtype=torch.float64) for key in rows[0]
    }
    if not hyper["weight_decay"].any():
        del hyper["weight_decay"]
    return hyper
