"""Typed configuration of one trial: the fields, their defaults and what is allowed.

Hydra uses these classes as its schema; nothing here knows Hydra. Types are checked there, values
by `validate`, whose messages name the key, what came and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING = "???"  # Hydra's sign for a value that must be given


class ConfigError(ValueError):
    """A value that the user can put right; the message is one line and names the key."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")


@dataclass
class StudyConfig:
    """One question: its trials, its targets, its report. The name is the MLflow experiment's."""

    name: str = "scratch"
    question: str = ""
    cost: str = ""
    expected: str = ""


@dataclass
class TaskConfig:
    name: str = MISSING


@dataclass
class LinearRegressionConfig(TaskConfig):
    """Streaming regression with a power-law spectrum, see scaling.tasks.linear_regression."""

    name: str = "linear_regression"
    dimension: int = 64
    spectrum_exponent: float = 1.0
    label_noise: float = 1.0
    true_weight: float = 1.0
    initial_weight: float = 0.0


@dataclass
class FiniteRegressionConfig(TaskConfig):
    """Regression on a fixed data set, drawn or given, see scaling.tasks.finite_regression."""

    name: str = "finite_regression"
    data_examples: int = 32
    dimension: int = 64
    spectrum_exponent: float = 1.0
    label_noise: float = 1.0
    true_weight: float = 1.0
    data_seed: int = 0
    inputs: list[list[float]] | None = None
    labels: list[float] | None = None
    initial_weights: list[float] = field(default_factory=lambda: [0.0])
    loss_scale: float = 1.0
    sampling: str = "with_replacement"


@dataclass
class OptimizerConfig:
    name: str = MISSING
    weight_decay: float = 0.0


@dataclass
class SgdConfig(OptimizerConfig):
    name: str = "sgd"


@dataclass
class MomentumConfig(OptimizerConfig):
    name: str = "momentum"
    momentum: float = 0.9


@dataclass
class NesterovConfig(OptimizerConfig):
    name: str = "nesterov"
    momentum: float = 0.9


@dataclass
class RmspropConfig(OptimizerConfig):
    name: str = "rmsprop"
    alpha: float = 0.99
    eps: float = 1e-8


@dataclass
class AdamConfig(OptimizerConfig):
    name: str = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass
class AdamwConfig(AdamConfig):
    name: str = "adamw"
    weight_decay: float = 0.01


@dataclass
class ScheduleConfig:
    """Factor on lr by optimizer step; see scaling.schedules. Lengths are in steps."""

    name: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 0
    final_fraction: float = 0.0


@dataclass
class BudgetConfig:
    """A trial ends at whichever comes first; at least one must be set."""

    max_steps: int | None = 1000
    max_examples: int | None = None


@dataclass
class EvaluationConfig:
    """Evaluated at every step up to `every_step_until`, then at steps growing by `ratio`."""

    every_step_until: int = 20
    ratio: float = 1.05


@dataclass
class TrackingConfig:
    """uri null: MLFLOW_TRACKING_URI, else sqlite:///<working directory>/mlflow.db."""

    uri: str | None = None


@dataclass
class TrialConfig:
    study: StudyConfig = field(default_factory=StudyConfig)
    task: TaskConfig = MISSING  # pyright: ignore[reportAssignmentType]
    optimizer: OptimizerConfig = MISSING  # pyright: ignore[reportAssignmentType]
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_size: int = 64
    lr: float = 0.1
    seed: int = 0
    targets: list[float] = field(default_factory=list)
    relative_targets: list[float] = field(default_factory=list)
    tail_factor: float = 2.0
    divergence_factor: float = 1000.0
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    precision: str = "float32"
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


TASKS: dict[str, type[TaskConfig]] = {
    "linear_regression": LinearRegressionConfig,
    "finite_regression": FiniteRegressionConfig,
}
OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SgdConfig,
    "momentum": MomentumConfig,
    "nesterov": NesterovConfig,
    "rmsprop": RmspropConfig,
    "adam": AdamConfig,
    "adamw": AdamwConfig,
}
SCHEDULES = ("constant", "warmup", "cosine")
PRECISIONS = ("float32", "float64")
SAMPLINGS = ("with_replacement", "without_replacement")


def trial_config(content: dict[str, Any]) -> TrialConfig:
    """Build the typed configuration from plain containers whose types have been checked."""
    task = {**content["task"]}
    optimizer = {**content["optimizer"]}
    for key, given, known in (("task", task, TASKS), ("optimizer", optimizer, OPTIMIZERS)):
        _member(f"{key}.name", given["name"], tuple(known))
    fields = content | {
        "study": StudyConfig(**content["study"]),
        "task": TASKS[task["name"]](**task),
        "optimizer": OPTIMIZERS[optimizer["name"]](**optimizer),
        "schedule": ScheduleConfig(**content["schedule"]),
        "budget": BudgetConfig(**content["budget"]),
        "evaluation": EvaluationConfig(**content["evaluation"]),
        "tracking": TrackingConfig(**content["tracking"]),
    }
    return TrialConfig(**fields)


def validate(config: TrialConfig) -> None:
    """Raise ConfigError for the first value that no trial can have.

    What needs the task's data (targets against its losses) is checked by scaling.trial.
    """
    validate_study(config.study)
    _whole("batch_size", config.batch_size, 1)
    _real("lr", config.lr, above=0)
    _whole("seed", config.seed, 0)
    for target in config.targets:
        _real("targets", target)
    for fraction in config.relative_targets:
        _real("relative_targets", fraction, above=0, below=1)
    _real("tail_factor", config.tail_factor, least=1)
    _real("divergence_factor", config.divergence_factor, above=1)
    _member("precision", config.precision, PRECISIONS)
    _validate_budget(config.budget, config.batch_size)
    _whole("evaluation.every_step_until", config.evaluation.every_step_until, 1)
    _real("evaluation.ratio", config.evaluation.ratio, above=1)
    _validate_schedule(config.schedule)
    _validate_optimizer(config.optimizer)
    _validate_task(config.task)


def validate_study(study: StudyConfig) -> None:
    """The name stands in paths and in the store: it must be plain."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", study.name):
        allowed = "letters, digits, '_', '-' and '.', a letter or digit first, at most 100 of them"
        raise ConfigError("study.name", study.name, allowed)


def _validate_budget(budget: BudgetConfig, batch_size: int) -> None:
    if budget.max_steps is None and budget.max_examples is None:
        raise ConfigError("budget.max_steps", None, "set it or budget.max_examples")
    if budget.max_steps is not None:
        _whole("budget.max_steps", budget.max_steps, 1)
    if budget.max_examples is not None and budget.max_examples < batch_size:
        allowed = f"must be at least one batch (batch_size={batch_size})"
        raise ConfigError("budget.max_examples", budget.max_examples, allowed)


def _validate_schedule(schedule: ScheduleConfig) -> None:
    _member("schedule.name", schedule.name, SCHEDULES)
    _whole("schedule.warmup_steps", schedule.warmup_steps, 1 if schedule.name == "warmup" else 0)
    if schedule.name == "cosine":
        _whole("schedule.total_steps", schedule.total_steps, schedule.warmup_steps + 1)
        _real("schedule.final_fraction", schedule.final_fraction, least=0, most=1)


def _validate_optimizer(optimizer: OptimizerConfig) -> None:
    _member("optimizer.name", optimizer.name, tuple(OPTIMIZERS))
    _real("optimizer.weight_decay", optimizer.weight_decay, least=0)
    for key in ("momentum", "alpha", "beta1", "beta2"):
        if hasattr(optimizer, key):
            _real(f"optimizer.{key}", getattr(optimizer, key), least=0, below=1)
    if hasattr(optimizer, "eps"):
        _real("optimizer.eps", optimizer.eps, least=0)  # pyright: ignore[reportAttributeAccessIssue]


def _validate_task(task: TaskConfig) -> None:
    _member("task.name", task.name, tuple(TASKS))
    if isinstance(task, LinearRegressionConfig):
        for key in ("true_weight", "initial_weight"):
            _real(f"task.{key}", getattr(task, key))
        if task.true_weight == task.initial_weight:
            allowed = "must differ from task.true_weight, else there is nothing to learn"
            raise ConfigError("task.initial_weight", task.initial_weight, allowed)
    if isinstance(task, FiniteRegressionConfig):
        _whole("task.data_examples", task.data_examples, 1)
        _real("task.true_weight", task.true_weight)
        _whole("task.data_seed", task.data_seed, 0)
        _real("task.loss_scale", task.loss_scale, above=0)
        _member("task.sampling", task.sampling, SAMPLINGS)
    if isinstance(task, LinearRegressionConfig | FiniteRegressionConfig):
        _whole("task.dimension", task.dimension, 1)
        _real("task.spectrum_exponent", task.spectrum_exponent)
        _real("task.label_noise", task.label_noise, least=0)


def _whole(key: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(key, value, f"must be a whole number >= {least}")


def _member(key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(key, value, f"must be one of {', '.join(allowed)}")


def _real(
    key: str,
    value: float,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> None:
    bounds = {">": above, ">=": least, "<": below, "<=": most}
    text = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
    inside = (
        isinstance(value, int | float)
        and math.isfinite(value)
        and (above is None or value > above)
        and (least is None or value >= least)
        and (below is None or value < below)
        and (most is None or value <= most)
    )
    if not inside:
        raise ConfigError(key, value, f"must be a finite number {text}".rstrip())
