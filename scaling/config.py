"""Typed configuration of one trial: the fields and their defaults.

Hydra uses these classes as its schema and checks types by them; nothing here knows Hydra. Values
are checked by scaling.validation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from scaling.schema import current_name

MISSING = "???"  # Hydra's sign for a value that must be given


class ConfigError(ValueError):
    """A value that the user can put right; the message is one line and names the key."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")


@dataclass
class StudyConfig:
    """One question: its trials, its targets, its report. The name is the MLflow experiment's.

    published: results to hold the trials' last evaluations against, each {where: {param: value},
    metric: accuracy or loss, value: .., source: ..}. predictions: what theory says must come true,
    with tolerances fixed before the trials run: schema.PREDICTION_KEYS. report: what it is about,
    schema.REPORTS.
    """

    name: str = "scratch"
    question: str = ""
    published: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    report: str = "batch_sizes"


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
    inputs: Any = None  # list[list[float]], whole numbers too; checked by the task
    labels: Any = None  # list[float]
    initial_weights: list[float] = field(default_factory=lambda: [0.0])
    loss_scale: float = 1.0
    sampling: str = "with_replacement"


@dataclass
class CustomTaskConfig(TaskConfig):
    """A task of the user's own (scaling.tasks.custom). path: module.Class; options: its
    arguments."""

    name: str = "custom"
    path: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
    sampling: str = "with_replacement"


@dataclass
class ColourizationConfig(TaskConfig):
    """Grey photographs to colours, with the groups `model` and `data`; see
    scaling.tasks.colourization."""

    name: str = "colourization"
    sampling: str = "with_replacement"


@dataclass
class OptimizerConfig:
    name: str = MISSING


@dataclass
class CustomOptimizerConfig(OptimizerConfig):
    """Any torch.optim.Optimizer (scaling.optimizers.custom). path: module.Class; options: its
    arguments but for the parameters and lr."""

    name: str = "custom"
    path: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DecayingConfig(OptimizerConfig):
    weight_decay: float = 0.0


@dataclass
class PreconditionedConfig(DecayingConfig):
    """SGD with (H + damping)^-power in front of the gradient, H the task's own curvature."""

    name: str = "preconditioned"
    power: float = 1.0
    damping: float = 0.0


@dataclass
class SgdConfig(DecayingConfig):
    name: str = "sgd"


@dataclass
class MomentumConfig(DecayingConfig):
    name: str = "momentum"
    momentum: float = 0.9


@dataclass
class NesterovConfig(DecayingConfig):
    name: str = "nesterov"
    momentum: float = 0.9


@dataclass
class RmspropConfig(DecayingConfig):
    name: str = "rmsprop"
    alpha: float = 0.99
    eps: float = 1e-8


@dataclass
class AdamConfig(DecayingConfig):
    name: str = "adam"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass
class SgdwConfig(SgdConfig):
    """As all whose name ends so: weight decay apart from the gradient
    (scaling.optimizers.builtin)."""

    name: str = "sgdw"
    weight_decay: float = 0.01


@dataclass
class MomentumwConfig(MomentumConfig):
    name: str = "momentumw"
    weight_decay: float = 0.01


@dataclass
class RmspropwConfig(RmspropConfig):
    name: str = "rmspropw"
    weight_decay: float = 0.01


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
    """Evaluated at every step up to `every_step_until`, then at steps growing by `ratio`.

    recompute_statistics: batch-norm statistics are those of statistics_examples training examples
    under the weights evaluated, instead of moving averages that lag behind.
    """

    every_step_until: int = 20
    ratio: float = 1.05
    recompute_statistics: bool = True
    statistics_examples: int = 512


@dataclass
class NoiseScaleConfig:
    """Gradient statistics while training (scaling.noise_scale); what is trained stays the same.

    measure: none, parts, examples or both. parts: the batch of every interval_steps-th step (null:
    64, of regression 256, which costs at most 3 %) is taken apart once more, into so many (the
    micro batches, where there are any), and recorded at the first evaluation after window_steps
    measured ones. examples: single gradients of so many fresh examples at evaluations whose steps
    grow by `ratio`.
    """

    measure: str = "none"
    interval_steps: int | None = None
    parts: int = 2
    window_steps: int = 4
    examples: int = 64
    ratio: float = 1.25


@dataclass
class CheckpointConfig:
    """Training is saved this often; null: only when it is told to stop."""

    interval_seconds: float | None = 60.0


@dataclass
class TrackingConfig:
    """uri null: MLFLOW_TRACKING_URI, else sqlite:///<working directory>/mlflow.db; none: no store.

    patience_seconds: how long the end of a sweep waits for a store that is locked or away.
    """

    uri: str | None = None
    patience_seconds: float = 90.0


@dataclass
class SweepConfig:
    """dry_run: say what a multirun would do, and do nothing. probe: time a few steps of each
    batch size and model, each alone, and train nothing.

    round, cell: of the search that asked for the trial, which sets them itself. cell: what tells
    the trials of one lr search from those of the others, as overrides.
    """

    dry_run: bool = False
    probe: bool = False
    round: int | None = None
    cell: str | None = None


@dataclass
class TrialConfig:
    study: StudyConfig = field(default_factory=StudyConfig)
    task: TaskConfig = MISSING  # pyright: ignore[reportAssignmentType]
    optimizer: OptimizerConfig = MISSING  # pyright: ignore[reportAssignmentType]
    model: Any = None  # scaling.models.config, for tasks that take one
    data: Any = None  # scaling.data.config
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
    micro_batch_size: int | None = None
    device: str = "auto"
    stack_networks: str = "auto"
    picture_ratio: float | None = 2.0
    save_models: bool = False
    cache_dir: str | None = None
    noise_scale: NoiseScaleConfig = field(default_factory=NoiseScaleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    record_dir: str = "runs"


TASKS: dict[str, type[TaskConfig]] = {
    "linear_regression": LinearRegressionConfig,
    "finite_regression": FiniteRegressionConfig,
    "colourization": ColourizationConfig,
    "custom": CustomTaskConfig,
}
OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SgdConfig,
    "momentum": MomentumConfig,
    "nesterov": NesterovConfig,
    "rmsprop": RmspropConfig,
    "adam": AdamConfig,
    "sgdw": SgdwConfig,
    "momentumw": MomentumwConfig,
    "rmspropw": RmspropwConfig,
    "adamw": AdamwConfig,
    "preconditioned": PreconditionedConfig,
    "custom": CustomOptimizerConfig,
}
SCHEDULES = ("constant", "warmup", "cosine")
PRECISIONS = ("float32", "float64", "bf16")
DEVICES = ("auto", "cpu", "cuda")
MEASURES = ("none", "parts", "examples", "both")
STACKING = ("auto", "true", "false")
SAMPLINGS = ("with_replacement", "without_replacement")
NETWORK_SAMPLINGS = (*SAMPLINGS, "fixed_order")


def _group_config(group: str, given: dict[str, Any] | None) -> Any:
    from scaling.data.config import DATASETS
    from scaling.models.config import LAYOUTS, ColourizationModelConfig

    if given is None:
        return None
    known = {"data": DATASETS, "model": dict.fromkeys(LAYOUTS, ColourizationModelConfig)}[group]
    name = given.get("name")
    if name not in known:
        raise ConfigError(f"{group}.name", name, f"must be one of {', '.join(known)}")
    if set(given) != {one.name for one in fields(known[name])}:
        raise ConfigError(f"{group}.name", name, f"choose the group instead: {group}={name}")
    return known[name](**given)


def use_current_names(content: dict[str, Any]) -> None:
    """Replace names of earlier versions in place; a warning says each."""
    for group in ("task", "optimizer"):
        name = content[group].get("name")
        current = current_name(f"{group}.name", name)
        if current != name:
            say_renamed(f"{group}={name} is now called {group}={current}")
            content[group]["name"] = current


@cache
def say_renamed(line: str) -> None:
    """Once in each process."""
    warnings.warn(line, FutureWarning, stacklevel=3)


def trial_config(content: dict[str, Any]) -> TrialConfig:
    """Build the typed configuration from plain containers whose types have been checked."""
    content = content | {group: {**content[group]} for group in ("task", "optimizer")}
    use_current_names(content)
    task, optimizer = content["task"], content["optimizer"]
    for key, given, known in (("task", task, TASKS), ("optimizer", optimizer, OPTIMIZERS)):
        name = given["name"]
        if name not in known:
            raise ConfigError(f"{key}.name", name, f"must be one of {', '.join(known)}")
        if set(given) != {one.name for one in fields(known[name])}:
            raise ConfigError(f"{key}.name", name, f"choose the group instead: {key}={name}")
    values = content | {
        "model": _group_config("model", content["model"]),
        "data": _group_config("data", content["data"]),
        "study": StudyConfig(**content["study"]),
        "task": TASKS[task["name"]](**task),
        "optimizer": OPTIMIZERS[optimizer["name"]](**optimizer),
        "schedule": ScheduleConfig(**content["schedule"]),
        "budget": BudgetConfig(**content["budget"]),
        "evaluation": EvaluationConfig(**content["evaluation"]),
        "noise_scale": NoiseScaleConfig(**content["noise_scale"]),
        "checkpoint": CheckpointConfig(**content["checkpoint"]),
        "tracking": TrackingConfig(**content["tracking"]),
        "sweep": SweepConfig(**content["sweep"]),
    }
    return TrialConfig(**values)
