"""What values a trial may have. Types are checked before; what needs data, by scaling.trial."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Any

from scaling import schema
from scaling.config import (
    DEVICES,
    MEASURES,
    NETWORK_SAMPLINGS,
    OPTIMIZERS,
    PRECISIONS,
    SAMPLINGS,
    SCHEDULES,
    STACKING,
    TASKS,
    BudgetConfig,
    ColourizationConfig,
    ConfigError,
    CustomTaskConfig,
    FiniteRegressionConfig,
    LinearRegressionConfig,
    NoiseScaleConfig,
    OptimizerConfig,
    ScheduleConfig,
    StudyConfig,
    TaskConfig,
    TrialConfig,
)


def validate(config: TrialConfig) -> None:
    """Raise ConfigError for the first value that no trial can have."""
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
    _member("device", config.device, DEVICES)
    _member("stack_networks", config.stack_networks, STACKING)
    if config.micro_batch_size is not None:
        _whole("micro_batch_size", config.micro_batch_size, 1)
    if config.picture_ratio is not None:
        _real("picture_ratio", config.picture_ratio, above=1)
    _whole("evaluation.statistics_examples", config.evaluation.statistics_examples, 1)
    _validate_groups(config)
    _validate_budget(config.budget, config.batch_size)
    _whole("evaluation.every_step_until", config.evaluation.every_step_until, 1)
    _real("evaluation.ratio", config.evaluation.ratio, above=1)
    _validate_noise_scale(config.noise_scale)
    if config.checkpoint.interval_seconds is not None:
        _real("checkpoint.interval_seconds", config.checkpoint.interval_seconds, least=0)
    _real("tracking.patience_seconds", config.tracking.patience_seconds, least=0)
    _validate_schedule(config.schedule)
    _validate_optimizer(config.optimizer)
    _validate_task(config.task)


def validate_study(study: StudyConfig) -> None:
    """The name stands in paths and in the store: it must be plain."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", study.name):
        allowed = "letters, digits, '_', '-' and '.', a letter or digit first, at most 100 of them"
        raise ConfigError("study.name", study.name, allowed)
    _member("study.report", study.report, schema.REPORTS)
    for claim in study.published:
        needed = {"where", "metric", "value"}
        if not isinstance(claim, dict) or not needed <= set(claim):
            raise ConfigError("study.published", claim, f"each needs {', '.join(sorted(needed))}")
    for prediction in study.predictions:
        _validate_prediction(prediction)


def _validate_prediction(prediction: Any) -> None:
    key = "study.predictions"
    if not isinstance(prediction, dict) or "says" not in prediction:
        raise ConfigError(key, prediction, "each needs says, and metric and at, or quantity")
    named = f"{key} ({prediction['says']})"
    if unknown := sorted(set(prediction) - set(schema.PREDICTION_KEYS)):
        allowed = f"a prediction has only {', '.join(schema.PREDICTION_KEYS)}"
        raise ConfigError(named, ", ".join(unknown), allowed)
    if not isinstance(prediction.get("where", {}), dict):
        raise ConfigError(f"{named} where", prediction["where"], "needs params and their values")
    _validate_subject(named, prediction)
    _validate_relation(named, prediction)


def _validate_subject(named: str, prediction: dict[str, Any]) -> None:
    """Of what it speaks: a metric of each trial, or a quantity of all."""
    given = {"metric", "at", "quantity"} & set(prediction)
    if given == {"quantity"}:
        _member(f"{named} quantity", prediction["quantity"], tuple(schema.QUANTITIES))
        return
    if given != {"metric", "at"}:
        value = ", ".join(sorted(given)) or None
        raise ConfigError(named, value, "needs metric and at, or quantity")
    _member(f"{named} metric", prediction["metric"], tuple(schema.METRICS))
    at = prediction["at"]
    if at not in schema.AT and not (type(at) is int and at >= 0):
        raise ConfigError(f"{named} at", at, f"must be {', '.join(schema.AT)} or a step")


def _validate_relation(named: str, prediction: dict[str, Any]) -> None:
    of_all = "quantity" in prediction
    given = [kind for kind in schema.PREDICTED if kind in prediction]
    tolerances = [kind for kind in schema.TOLERANCES if kind in prediction]
    usual = given == ["equals"] and len(tolerances) == 1
    bound = len(given) == 1 and given != ["equals"]
    if not (usual or (bound and tolerances in ([], ["standard_errors"]))):
        allowed = "needs equals with tolerance or relative_tolerance, or at_most, or at_least"
        if of_all:
            allowed += "; a quantity may have standard_errors with any of them instead"
        raise ConfigError(named, ", ".join(given + tolerances) or None, allowed)
    if "standard_errors" in tolerances and not of_all:
        allowed = "only a quantity has standard errors; a metric needs tolerance"
        raise ConfigError(f"{named} standard_errors", prediction["standard_errors"], allowed)
    for number in [*given, *tolerances]:
        if number == "equals" and prediction[number] == schema.THEORY and of_all:
            continue
        _real(f"{named} {number}", prediction[number], least=0 if number in tolerances else None)


def _validate_noise_scale(noise: NoiseScaleConfig) -> None:
    _member("noise_scale.measure", noise.measure, MEASURES)
    if noise.interval_steps is not None:
        _whole("noise_scale.interval_steps", noise.interval_steps, 1)
    _whole("noise_scale.parts", noise.parts, 2)
    _whole("noise_scale.window_steps", noise.window_steps, 2)
    _whole("noise_scale.examples", noise.examples, 3)  # a jackknife of pairs
    _real("noise_scale.ratio", noise.ratio, above=1)


def validate_names(key: str, names: Iterable[str]) -> None:
    """Names of params, metrics and files stand in the store: one bad name rejects a whole batch."""
    for name in names:
        if not re.fullmatch(r"[\w.\- /:]{1,250}", name) or not _is_plain_path(name):
            allowed = "letters, digits, '_', '-', '.', ':', '/' and spaces, no part of it '..'"
            raise ConfigError(
                key, repr(name[:80]), f"is no name for MLflow: {allowed}, at most 250"
            )


def _is_plain_path(name: str) -> bool:
    return name == posixpath.normpath(name) and not name.startswith(("/", "..")) and name != "."


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
        _whole("schedule.total_steps", schedule.total_steps, 1)
        if schedule.warmup_steps >= schedule.total_steps:
            allowed = f"must be below schedule.total_steps={schedule.total_steps}"
            raise ConfigError("schedule.warmup_steps", schedule.warmup_steps, allowed)
        _real("schedule.final_fraction", schedule.final_fraction, least=0, most=1)


def _validate_optimizer(optimizer: OptimizerConfig) -> None:
    _member("optimizer.name", optimizer.name, tuple(OPTIMIZERS))
    for key in ("weight_decay", "eps", "power", "damping"):
        if hasattr(optimizer, key):
            _real(f"optimizer.{key}", getattr(optimizer, key), least=0)
    for key in ("momentum", "alpha", "beta1", "beta2"):
        if hasattr(optimizer, key):
            _real(f"optimizer.{key}", getattr(optimizer, key), least=0, below=1)


def _validate_groups(config: TrialConfig) -> None:
    """Model, data and what only networks have, against the task."""
    regression = isinstance(config.task, LinearRegressionConfig | FiniteRegressionConfig)
    if regression and config.precision == "bf16":
        raise ConfigError("precision", "bf16", f"{config.task.name} trains in float32 or float64")
    if regression and config.micro_batch_size is not None:
        allowed = f"{config.task.name} takes its batch whole; leave it null"
        raise ConfigError("micro_batch_size", config.micro_batch_size, allowed)
    if not isinstance(config.task, ColourizationConfig):
        for key, given in (("model", config.model), ("data", config.data)):
            if given is not None:
                allowed = f"the task {config.task.name} takes none; leave {key} out"
                raise ConfigError(key, given.name, allowed)
    if isinstance(config.task, ColourizationConfig | CustomTaskConfig):
        _member("task.sampling", config.task.sampling, NETWORK_SAMPLINGS)


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
        _real("task.spectrum_exponent", task.spectrum_exponent, least=-20, most=20)
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
