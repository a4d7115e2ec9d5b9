"""What values a trial may have: limits of fields (scaling.limits), and of several fields together.

Types are checked before; what needs data, by scaling.trial.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable
from typing import Any

from scaling import schema
from scaling.config import BudgetConfig, EvaluationConfig, ScheduleConfig, StudyConfig, TrialConfig
from scaling.limits import ConfigError, Limits, check_limits, check_value
from scaling.optimizers.config import OPTIMIZERS
from scaling.param_groups import param_groups
from scaling.schedules import LENGTHS, UNITS, given_lengths, length_in_steps
from scaling.tasks.config import (
    NETWORK_GROUPS,
    TASKS,
    FiniteRegressionConfig,
    LinearRegressionConfig,
    TaskConfig,
)

NEEDED = {  # where a metric is measured
    "minimum_norm_distance": "finite_regression with fewer independent examples than weights",
    "row_space_residual": "finite_regression with fewer independent examples than weights",
    "weight_1": "finite_regression with two weights",
    "weight_2": "finite_regression with two weights",
    "accuracy": "a classification task",
}


def validate(config: TrialConfig) -> None:
    """Raise ConfigError for the first value that no trial can have."""
    for group, choices in (("task", TASKS), ("optimizer", OPTIMIZERS)):
        name = getattr(config, group).name
        check_value(f"{group}.name", name, str, Limits(among=tuple(choices)))
    validate_study(config.study)
    check_limits(config)
    _validate_groups(config)
    _validate_budget(config.budget, config.batch_size)
    _validate_schedule(config)
    _validate_average(config.evaluation)
    param_groups(config)
    _validate_task(config.task)


def validate_study(study: StudyConfig) -> None:
    """The name stands in paths and in the store: it must be plain."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", study.name):
        allowed = "letters, digits, '_', '-' and '.', a letter or digit first, at most 100 of them"
        raise ConfigError("study.name", study.name, allowed)
    check_limits(study, "study.")
    for claim in study.published:
        needed = {"where", "metric", "value"}
        if not isinstance(claim, dict) or not needed <= set(claim):
            raise ConfigError(
                "study.published", claim, f"each requires {', '.join(sorted(needed))}"
            )
    for prediction in study.predictions:
        _validate_prediction(prediction)


def _validate_prediction(prediction: Any) -> None:
    key = "study.predictions"
    if not isinstance(prediction, dict) or "says" not in prediction:
        raise ConfigError(key, prediction, "each requires says, and metric and at, or quantity")
    named = f"{key} ({prediction['says']})"
    if unknown := sorted(set(prediction) - set(schema.PREDICTION_KEYS)):
        allowed = f"a prediction has only {', '.join(schema.PREDICTION_KEYS)}"
        raise ConfigError(named, ", ".join(unknown), allowed)
    if not isinstance(prediction.get("where", {}), dict):
        raise ConfigError(f"{named} where", prediction["where"], "must be params and their values")
    _validate_subject(named, prediction)
    _validate_relation(named, prediction)


def _validate_subject(named: str, prediction: dict[str, Any]) -> None:
    """Of what it speaks: a metric of each trial, or a quantity of all."""
    given = {"metric", "at", "quantity"} & set(prediction)
    if given == {"quantity"}:
        known = Limits(among=tuple(schema.QUANTITIES))
        check_value(f"{named} quantity", prediction["quantity"], str, known)
        return
    if given != {"metric", "at"}:
        value = ", ".join(sorted(given)) or None
        raise ConfigError(named, value, "requires metric and at, or quantity")
    metrics = Limits(among=tuple(schema.METRICS))
    check_value(f"{named} metric", prediction["metric"], str, metrics)
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
        allowed = "requires equals with tolerance or relative_tolerance, or at_most, or at_least"
        if of_all:
            allowed += "; a quantity may have standard_errors with any of them instead"
        raise ConfigError(named, ", ".join(given + tolerances) or None, allowed)
    if "standard_errors" in tolerances and not of_all:
        allowed = "only a quantity has standard errors; a metric requires tolerance"
        raise ConfigError(f"{named} standard_errors", prediction["standard_errors"], allowed)
    for number in [*given, *tolerances]:
        if number == "equals" and prediction[number] == schema.THEORY and of_all:
            continue
        limits = Limits(least=0 if number in tolerances else None)
        check_value(f"{named} {number}", prediction[number], float, limits)


def validate_predictions(config: TrialConfig, metrics: Collection[str]) -> None:
    """ConfigError for what a study predicts and its task does not have; metrics: that it measures,
    as it is configured."""
    for prediction in config.study.predictions:
        kind = "quantity" if "quantity" in prediction else "metric"
        name = metric = prediction[kind]
        if kind == "quantity":
            facts = schema.QUANTITIES[name]
            metric = facts.metric
            if facts.tasks and config.task.name not in facts.tasks:
                needed = " or ".join(facts.tasks)
                allowed = f"the task {config.task.name} does not have it; it requires {needed}"
                raise ConfigError("study.predictions quantity", name, allowed)
        if metric and metric != "train_loss" and metric not in metrics:
            allowed = f"the task {config.task.name} does not measure it as it is configured"
            if metric in NEEDED:
                allowed += f"; it requires {NEEDED[metric]}"
            raise ConfigError(f"study.predictions {kind}", name, allowed)


def validate_names(key: str, names: Iterable[str]) -> None:
    """Names of params, metrics and files stand in the store: one bad name rejects a whole batch."""
    for name in names:
        if not re.fullmatch(r"[\w.\- /:]{1,250}", name) or not _is_plain_path(name):
            allowed = "letters, digits, '_', '-', '.', ':', '/' and spaces, no part of it '..'"
            raise ConfigError(
                key, repr(name[:80]), f"is not a name that MLflow takes: {allowed}, at most 250"
            )


def _is_plain_path(name: str) -> bool:
    return name == posixpath.normpath(name) and not name.startswith(("/", "..")) and name != "."


def _validate_budget(budget: BudgetConfig, batch_size: int) -> None:
    if budget.max_steps is None and budget.max_examples is None:
        raise ConfigError("budget.max_steps", None, "set it or budget.max_examples")
    if budget.max_examples is not None and budget.max_examples < batch_size:
        allowed = f"must be at least one batch (batch_size={batch_size})"
        raise ConfigError("budget.max_examples", budget.max_examples, allowed)


def _validate_schedule(config: TrialConfig) -> None:
    """Its lengths: each given once at most, where the schedule has it, and no longer than the
    total."""
    name = config.schedule.name
    given = {length: given_lengths(config.schedule, length) for length in LENGTHS}
    for length, fields in given.items():
        _validate_length(config.schedule, length, fields)
    if name not in LENGTHS["total"]:
        return
    warmup, decay, total = (length_in_steps(config, length) for length in LENGTHS)
    total_field, total_value = next(iter(given["total"].items()))
    if name == "wsd" and warmup + decay > total:
        field, value = next(iter(given["decay"].items()))
        allowed = f"with a warm-up of {warmup} steps the decay ({decay} steps) must fit into "
        allowed += f"schedule.{total_field}={total_value} ({total} steps)"
        raise ConfigError(f"schedule.{field}", value, allowed)
    if name != "wsd" and warmup >= total:
        field, value = next(iter(given["warmup"].items()))
        allowed = f"must be below schedule.{total_field}={total_value}"
        if {field, total_field} != {"warmup_steps", "total_steps"}:
            allowed += f" ({warmup} and {total} steps)"
        raise ConfigError(f"schedule.{field}", value, allowed)


def _validate_length(schedule: ScheduleConfig, length: str, given: dict[str, float]) -> None:
    having = LENGTHS[length]
    fields = [f"schedule.{length}_{unit}" for unit in UNITS]
    if len(given) > 1:
        (first, value), (second, other) = list(given.items())[:2]
        allowed = f"schedule.{first}={value} is set, too; set one of them, the other to 0"
        raise ConfigError(f"schedule.{second}", other, allowed)
    optional = length == "warmup" and schedule.name != "warmup"
    if not given and schedule.name in having and not optional:
        allowed = f"schedule.name={schedule.name} requires {fields[0]}, {fields[1]} or {fields[2]}"
        raise ConfigError(fields[0], getattr(schedule, f"{length}_steps"), allowed)
    for field, value in given.items():  # the first two stand in records of any schedule
        if schedule.name not in having and field not in ("warmup_steps", "total_steps"):
            allowed = f"schedule.name={schedule.name} has no such length; {', '.join(having)} have"
            raise ConfigError(f"schedule.{field}", value, allowed)


def _validate_average(evaluation: EvaluationConfig) -> None:
    key = "average_half_life_examples"
    if evaluation.average != "none" and getattr(evaluation, key) is None:
        allowed = f"evaluation.average={evaluation.average} requires it, a number of examples"
        raise ConfigError(f"evaluation.{key}", None, allowed)


def _validate_groups(config: TrialConfig) -> None:
    """Model, data and what only networks have, against the task."""
    regression = isinstance(config.task, LinearRegressionConfig | FiniteRegressionConfig)
    if regression and config.precision == "bf16":
        raise ConfigError("precision", "bf16", f"{config.task.name} trains in float32 or float64")
    if regression and config.micro_batch_size is not None:
        allowed = f"{config.task.name} does not split its batches; leave it null"
        raise ConfigError("micro_batch_size", config.micro_batch_size, allowed)
    if regression and config.data_workers:
        allowed = f"{config.task.name} draws its data where it trains; leave it 0"
        raise ConfigError("data_workers", config.data_workers, allowed)
    taken = NETWORK_GROUPS.get(type(config.task), {})
    for key, given in (("model", config.model), ("data", config.data)):
        if given is not None and given.name not in taken.get(key, {}):
            allowed = f"the task {config.task.name} has no {key}; leave it out"
            if taken:
                allowed = f"the task {config.task.name} takes {', '.join(taken[key])}"
            raise ConfigError(key, given.name, allowed)


def _validate_task(task: TaskConfig) -> None:
    if isinstance(task, LinearRegressionConfig) and task.true_weight == task.initial_weight:
        allowed = "must differ from task.true_weight, else there is nothing to learn"
        raise ConfigError("task.initial_weight", task.initial_weight, allowed)
