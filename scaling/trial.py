"""A trial: a validated configuration with what follows from it before the first step."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch

from scaling.config import ConfigError, OwnTaskConfig, TrialConfig
from scaling.tasks import Task, make_task
from scaling.tasks.own import content_hash, first_line
from scaling.validation import validate

TRIAL_FORMAT = 1  # raised whenever equal configurations come to train other numbers


@dataclass(frozen=True)
class Trial:
    """targets: absolute held-out losses, easiest (largest) first.

    task_content: digest of a user's own code and data, empty for the tasks of this package.
    """

    config: TrialConfig
    trial_id: str
    stack_key: str
    targets: tuple[float, ...]
    model_size: int
    initial_loss: float
    irreducible_loss: float
    task_content: str = ""

    @property
    def max_steps(self) -> int:
        """Steps that the budget allows, whichever of its two limits comes first."""
        budget = self.config.budget
        limits = []
        if budget.max_steps is not None:
            limits.append(budget.max_steps)
        if budget.max_examples is not None:
            limits.append(budget.max_examples // self.config.batch_size)
        return min(limits)


def prepare(configs: Sequence[TrialConfig]) -> list[Trial]:
    """Validate configurations and work out what each trial starts from.

    Raises ConfigError for the first one that cannot be trained.
    """
    starts: dict[str, _Start] = {}
    trials = []
    for config in configs:
        validate(config)
        key = _digest({"task": asdict(config.task), "batch_size": config.batch_size})
        if key not in starts:
            starts[key] = _start(config)
        trials.append(_trial(config, starts[key]))
    return trials


@dataclass(frozen=True)
class _Start:
    model_size: int
    initial_loss: float
    irreducible_loss: float
    task_content: str


def _start(config: TrialConfig) -> _Start:
    """What a task says before the first step; what it refuses is refused here."""
    task = task_of(replace(config, precision="float64"))
    own = config.task if isinstance(config.task, OwnTaskConfig) else None
    try:
        task.streams([config.seed], config.batch_size)
        params = task.initial_params([config.seed] * task.tile_width)
        initial_loss = float(task.held_out_loss(params)[0])
    except Exception as error:
        if own is None or isinstance(error, ConfigError):
            raise
        raise ConfigError("task.path", own.path, f"raised {first_line(error)}") from None
    if not math.isfinite(initial_loss):
        raise ConfigError("task.name", config.task.name, "its initial loss is not finite")
    content = content_hash(own, task) if own else ""
    return _Start(task.model_size, initial_loss, task.irreducible_loss, content)


def _trial(config: TrialConfig, start: _Start) -> Trial:
    identity = {
        "format": TRIAL_FORMAT,
        "task": asdict(config.task),
        "optimizer": asdict(config.optimizer),
        "schedule": asdict(config.schedule),
        "batch_size": config.batch_size,
        "lr": config.lr,
        "seed": config.seed,
        "precision": config.precision,
        "evaluation": asdict(config.evaluation),
    }
    if start.task_content:
        identity["task_content"] = start.task_content
    shared = {"optimizer": config.optimizer.name, "lr": None, "seed": None}
    return Trial(
        config=config,
        trial_id=_digest(identity),
        stack_key=_digest(identity | shared),
        targets=_absolute_targets(config, start.initial_loss, start.irreducible_loss),
        **asdict(start),
    )


def task_of(config: TrialConfig) -> Task:
    return make_task(config.task, getattr(torch, config.precision))


def _absolute_targets(
    config: TrialConfig, initial_loss: float, irreducible_loss: float
) -> tuple[float, ...]:
    between = (
        f"must lie below the initial loss {initial_loss:.6g} "
        f"and above the irreducible loss {irreducible_loss:.6g}"
    )
    named = [("targets", target, target) for target in config.targets]
    named += [("relative_targets", f, f * initial_loss) for f in config.relative_targets]
    for key, given, target in named:
        if not irreducible_loss < target < initial_loss:
            raise ConfigError(key, f"{given:g}", f"the target loss {target:.6g} {between}")
    return tuple(sorted({target for _, _, target in named}, reverse=True))


def _digest(content: dict[str, object]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
