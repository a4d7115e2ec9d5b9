"""Typed configuration of one trial: fields, defaults and limits.

Hydra uses these classes as its schema and checks types by them; nothing here knows Hydra. Limits
are checked by scaling.limits, what concerns several fields by scaling.validation.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from scaling.data.config import DATASETS
from scaling.limits import MISSING, ConfigError, limited
from scaling.models.config import MODELS
from scaling.optimizers.config import OPTIMIZERS, OptimizerConfig
from scaling.rules import DECAY_RATES, LR_RULES, NO_RULE
from scaling.schema import REPORTS, current_name
from scaling.tasks.config import TASKS, TaskConfig

SCHEDULES = ("constant", "warmup", "cosine", "linear", "wsd")
PRECISIONS = ("float32", "float64", "bf16")
DEVICES = ("auto", "cpu", "cuda")
MEASURES = ("none", "parts", "examples", "both")
STACKING = ("auto", "true", "false")
AVERAGES = ("none", "ema")
RULES = (NO_RULE, *LR_RULES)
CHOICES: dict[str, Mapping[str, type]] = {
    "task": TASKS,
    "optimizer": OPTIMIZERS,
    "model": MODELS,
    "data": DATASETS,
}


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
    report: str = limited(REPORTS[0], among=REPORTS)


@dataclass
class ScheduleConfig:
    """Factor on lr by optimizer step; see scaling.schedules.

    Each length is given in steps, in examples, or as a fraction of the budget's steps, never in two
    of them; 0 and null leave it out.
    """

    name: str = limited("constant", among=SCHEDULES)
    warmup_steps: int = limited(0, least=0)
    total_steps: int = limited(0, least=0)
    final_fraction: float = limited(0.0, least=0, most=1)  # of lr, where the decay ends
    warmup_examples: int | None = limited(None, least=0)
    warmup_fraction: float | None = limited(None, least=0, most=1)
    decay_steps: int | None = limited(None, least=0)
    decay_examples: int | None = limited(None, least=0)
    decay_fraction: float | None = limited(None, least=0, most=1)
    total_examples: int | None = limited(None, least=0)
    total_fraction: float | None = limited(None, least=0, most=1)


@dataclass
class RuleConfig:
    """Hyperparameters by batch size, from their values at batch_size; formulas: scaling.rules.

    exponent: of power and saturating; batch_scale: B_* of saturating, in examples; half_life:
    decay rates of the optimizer whose half-life in examples is kept; weight_decay: keep its value,
    or its timescale. reference: what the values were at batch_size, filled in where a rule is
    applied (scaling.apply_rule).
    """

    name: str = limited(NO_RULE, among=RULES)
    batch_size: int | None = limited(None, least=1)
    exponent: float | None = limited(None)
    batch_scale: float | None = limited(None, above=0)
    half_life: list[str] = limited([], among=DECAY_RATES)
    weight_decay: str = limited("keep", among=("keep", "timescale"))
    reference: dict[str, float] = field(default_factory=dict)


@dataclass
class BudgetConfig:
    """A trial ends at whichever comes first; at least one must be set."""

    max_steps: int | None = limited(1000, least=1)
    max_examples: int | None = limited(None, least=1)

    def steps(self, batch_size: int) -> int:
        """Optimizer steps that it allows, whichever of its two limits comes first."""
        limits = [] if self.max_steps is None else [self.max_steps]
        if self.max_examples is not None:
            limits.append(self.max_examples // batch_size)
        return min(limits)


@dataclass
class EvaluationConfig:
    """Evaluated at every step up to `every_step_until`, then at steps growing by `ratio`.

    recompute_statistics: batch-norm statistics are those of statistics_examples training examples
    under the weights evaluated, instead of moving averages that lag behind. average: ema evaluates
    an exponential average of the weights, whose past halves in weight every
    average_half_life_examples, in place of the weights themselves (scaling.averaging).
    """

    every_step_until: int = limited(20, least=1)
    ratio: float = limited(1.05, above=1)
    recompute_statistics: bool = True
    statistics_examples: int = limited(512, least=1)
    average: str = limited("none", among=AVERAGES)
    average_half_life_examples: int | None = limited(None, least=1)


@dataclass
class NoiseScaleConfig:
    """Gradient statistics while training (scaling.noise_scale); what is trained stays the same.

    measure: none, parts, examples or both. parts: the batch of every interval_steps-th step (null:
    64, of regression 256, which costs at most 3 %) is taken apart once more, into so many (the
    micro batches, where there are any), and recorded at the first evaluation after window_steps
    measured ones. examples: single gradients of so many fresh examples at evaluations whose steps
    grow by `ratio`.
    """

    measure: str = limited("none", among=MEASURES)
    interval_steps: int | None = limited(None, least=1)
    parts: int = limited(2, least=2)
    window_steps: int = limited(4, least=2)
    examples: int = limited(64, least=3)  # a jackknife of pairs
    ratio: float = limited(1.25, above=1)


@dataclass
class CheckpointConfig:
    """Training is saved this often; null: only when it is told to stop."""

    interval_seconds: float | None = limited(60.0, least=0)


@dataclass
class TrackingConfig:
    """uri null: MLFLOW_TRACKING_URI, else sqlite:///<working directory>/mlflow.db; none: no store.

    patience_seconds: how long the end of a sweep waits for a store that is locked or away.
    """

    uri: str | None = None
    patience_seconds: float = limited(90.0, least=0)


@dataclass
class SweepConfig:
    """dry_run: say what a multirun would do, and do nothing. probe: time a few steps of each
    batch size and model, each alone, and train nothing."""

    dry_run: bool = False
    probe: bool = False


@dataclass
class TrialConfig:
    study: StudyConfig = field(default_factory=StudyConfig)
    task: TaskConfig = MISSING  # pyright: ignore[reportAssignmentType]
    optimizer: OptimizerConfig = MISSING  # pyright: ignore[reportAssignmentType]
    model: Any = None  # scaling.models.config, for tasks that take one
    data: Any = None  # scaling.data.config
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_size: int = limited(64, least=1)
    lr: float = limited(0.1, above=0)
    rule: RuleConfig = field(default_factory=RuleConfig)
    clip_norm: float | None = limited(None, above=0)
    param_groups: list[Any] = field(default_factory=list)  # of scaling.param_groups.ParamGroup
    seed: int = limited(0, least=0)
    targets: list[float] = limited([])
    relative_targets: list[float] = limited([], above=0, below=1)
    tail_factor: float = limited(2.0, least=1)
    divergence_factor: float = limited(1000.0, above=1)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    precision: str = limited("float32", among=PRECISIONS)
    micro_batch_size: int | None = limited(None, least=1)
    device: str = limited("auto", among=DEVICES)
    data_workers: int = limited(0, least=0)
    stack_networks: str = limited("auto", among=STACKING)
    picture_ratio: float | None = limited(2.0, above=1)
    save_models: bool = False
    cache_dir: str | None = None
    noise_scale: NoiseScaleConfig = field(default_factory=NoiseScaleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    record_dir: str = "runs"


NESTED = {
    "study": StudyConfig,
    "schedule": ScheduleConfig,
    "rule": RuleConfig,
    "budget": BudgetConfig,
    "evaluation": EvaluationConfig,
    "noise_scale": NoiseScaleConfig,
    "checkpoint": CheckpointConfig,
    "tracking": TrackingConfig,
    "sweep": SweepConfig,
}


def use_current_names(content: dict[str, Any]) -> None:
    """Replace names of earlier versions in place; a warning says each."""
    for group in ("task", "optimizer"):
        name = content.get(group, {}).get("name")
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
    content = {"rule": {}} | content  # records from before have none
    content |= {group: {**content[group]} for group in ("task", "optimizer")}
    use_current_names(content)
    groups = {group: _chosen(group, content[group]) for group in CHOICES}
    nested = {name: node(**content[name]) for name, node in NESTED.items()}
    return TrialConfig(**(content | groups | nested))


def _chosen(group: str, given: dict[str, Any] | None) -> Any:
    """The configuration of a group's choice; None where a task takes none of this group."""
    if given is None:
        return None
    choices, name = CHOICES[group], str(given.get("name"))
    if name not in choices:
        raise ConfigError(f"{group}.name", name, f"must be one of {', '.join(choices)}")
    if set(given) != {one.name for one in fields(choices[name])}:
        raise ConfigError(f"{group}.name", name, f"choose the group instead: {group}={name}")
    return choices[name](**given)
