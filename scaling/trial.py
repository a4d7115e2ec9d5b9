"""A trial: a validated configuration with what follows from it before the first step."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any

from scaling.apply_rule import with_rule
from scaling.averaging import RAW
from scaling.config import EvaluationConfig, TrialConfig
from scaling.custom_code import first_line
from scaling.draws import EVALUATION, drawing
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig, OptimizerConfig
from scaling.optimizers.custom import optimizer_content
from scaling.optimizers.stack import check_optimizer
from scaling.param_groups import param_groups
from scaling.schedules import LENGTHS, follows_budget, length_in_steps
from scaling.schema import FINAL_LOSSES, recorded_name
from scaling.tasks.config import CustomTaskConfig
from scaling.tasks.custom import content_hash
from scaling.tasks.linear_regression import LinearRegression
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from scaling.tasks.task import Params, Task, noise_task
from scaling.validation import validate, validate_names, validate_predictions

SHARED_BY_STARTS = (  # trials that differ in nothing of this start alike
    *("task", "model", "data", "precision", "device", "micro_batch_size", "stack_networks"),
    *("evaluation", "cache_dir"),
)
TRIAL_FORMAT = 1  # raised whenever equal configurations come to train other numbers
DRAWS_FORMAT = 1  # the same of networks that draw random numbers alone
FACTORS_FORMAT = 1  # the same of batches that are drawn as triangular factors


@dataclass(frozen=True)
class Trial:
    """targets: absolute held-out losses, easiest (largest) first.

    task_content: digest of custom code and data, empty for built-in tasks.
    facts: what the task says of itself, logged; files: texts that are kept with the trial.
    most_rows: trials that may train as one stack. cap: of a trial that a search asks for, steps at
    which it stops for now; more of it may be asked for later.
    """

    config: TrialConfig
    trial_id: str
    stack_key: str
    targets: tuple[float, ...]
    model_size: int
    initial_loss: float
    irreducible_loss: float
    task_content: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    most_rows: int | None = None
    cap: int | None = None

    @property
    def max_steps(self) -> int:
        """The most steps that are asked for: those of the budget, or the cap if that is less."""
        return self.budget_steps if self.cap is None else min(self.cap, self.budget_steps)

    @property
    def ends_at_target(self) -> bool:
        """Reaching its hardest target ends it, after a tail; not where its final loss counts."""
        return self.config.study.report != FINAL_LOSSES

    @property
    def budget_steps(self) -> int:
        return self.config.budget.steps(self.config.batch_size)


def prepare(configs: Sequence[TrialConfig]) -> list[Trial]:
    """Validate configurations and work out what each trial starts from.

    Raises ConfigError for the first one that cannot be trained.
    """
    starts: dict[str, _Start] = {}
    fitting: set[str] = set()  # tasks with optimizers that fit them
    trials = []
    for config in configs:
        validate(config)
        config = with_rule(config)
        key = _digest({name: _plain(getattr(config, name)) for name in SHARED_BY_STARTS})
        if key not in starts:
            starts[key] = _start(config)
        _check_batch_size(starts[key].task, config)
        pair = key + _digest({**asdict(config.optimizer), "groups": config.param_groups})
        if pair not in fitting:
            check_optimizer(config, starts[key].task, starts[key].params)
            fitting.add(pair)
        validate_predictions(config, starts[key].metrics)
        if config.noise_scale.measure != "none":
            noise_task(starts[key].task, config)
        trials.append(_trial(config, starts[key]))
    return trials


@dataclass(frozen=True)
class _Start:
    task: Task
    initial_loss: float
    params: Params
    content: str
    metrics: frozenset[str]  # what an evaluation measures
    draws: bool  # a network that draws random numbers


def _start(config: TrialConfig) -> _Start:
    """What a task says before the first step; what it refuses is refused here.

    The initial loss is that of seed 0, so that all trials have the same targets, and of float64
    where that costs nothing.
    """
    task = make_task(config)
    with _users_errors(config):
        stacked = task.most_rows is None
        draws = isinstance(task, SupervisedTask) and task.seen_to_draw
    if stacked and config.precision == "float32":
        task = make_task(replace(config, precision="float64"))
    with _users_errors(config), drawing(EVALUATION):
        params = task.initial_params([0] * task.tile_width)
        measured = task.held_out_metrics(params)
        initial_loss = float(measured["loss"][0])
    names = _recorded_metrics(config, measured)
    validate_names("metrics", names)
    validate_names("facts", task.facts)
    validate_names("files", task.files)
    if not math.isfinite(initial_loss):
        raise ConfigError("task.name", config.task.name, "its initial loss is not finite")
    custom = isinstance(config.task, CustomTaskConfig)
    content = content_hash(config.task, task) if custom else str(task.facts.get("data_hash", ""))
    return _Start(task, initial_loss, params, content, frozenset(names), draws)


def _recorded_metrics(config: TrialConfig, measured: Collection[str]) -> list[str]:
    """Those that the task measures, and of averaged weights those of the weights themselves."""
    average = config.evaluation.average
    raw = [] if average == "none" else [RAW + name for name in measured]
    if taken := sorted(set(raw) & set(measured)):
        allowed = f"{taken[0]} would be a metric of the weights themselves, and the task has one"
        raise ConfigError("evaluation.average", average, allowed)
    return [*measured, *raw]


def _check_batch_size(task: Task, config: TrialConfig) -> None:
    with _users_errors(config):
        task.streams([config.seed], config.batch_size)


@contextmanager
def _users_errors(config: TrialConfig) -> Iterator[None]:
    """What a custom task raises becomes one line that names it."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if not isinstance(config.task, CustomTaskConfig):
            raise
        raise ConfigError("task.path", config.task.path, f"raised {first_line(error)}") from None


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _trial(config: TrialConfig, start: _Start) -> Trial:
    identity = _identity(config, start)
    optimizer = recorded_name("optimizer.name", config.optimizer.name)
    if isinstance(config.optimizer, CustomOptimizerConfig):
        optimizer += f" {config.optimizer.path}"
    shared = {"optimizer": optimizer, "lr": None, "seed": None}
    return Trial(
        config=config,
        trial_id=_digest(identity),
        stack_key=_digest(identity | shared),
        targets=_absolute_targets(config, start.initial_loss, start.task.irreducible_loss),
        model_size=start.task.model_size,
        initial_loss=start.initial_loss,
        irreducible_loss=start.task.irreducible_loss,
        task_content=start.content if isinstance(config.task, CustomTaskConfig) else "",
        facts=start.task.facts,
        files=start.task.files,
        most_rows=start.task.most_rows,
    )


def _identity(config: TrialConfig, start: _Start) -> dict[str, Any]:
    """What its numbers depend on. Keys that came later are left out where they change nothing: a
    trial that is on record without them does not have them."""
    identity = {
        "format": TRIAL_FORMAT,
        "task": _with_recorded_name("task", config.task),
        "optimizer": _with_recorded_name("optimizer", config.optimizer),
        "schedule": {k: v for k, v in asdict(config.schedule).items() if v is not None},
        "batch_size": config.batch_size,
        "lr": config.lr,
        "seed": config.seed,
        "precision": config.precision,
        "evaluation": _evaluation(config.evaluation),
    }
    for key in ("model", "data", "micro_batch_size", "clip_norm"):
        if getattr(config, key) is not None:
            identity[key] = _plain(getattr(config, key))
    if config.param_groups:
        identity["param_groups"] = [asdict(group) for group in param_groups(config)]
    if follows_budget(config.schedule):  # which is not in it
        identity["schedule_steps"] = [length_in_steps(config, length) for length in LENGTHS]
    if config.noise_scale.measure != "none":
        identity["noise_scale"] = asdict(config.noise_scale)
    if start.content:
        identity["task_content"] = start.content
    if start.draws:
        identity["draws"] = DRAWS_FORMAT
    if isinstance(start.task, LinearRegression) and start.task.factored(config.batch_size):
        identity["factors"] = FACTORS_FORMAT
    if getattr(start.task, "frozen", False) and _moves_without_gradient(config.optimizer):
        identity["frozen"] = True  # before, such optimizers moved parameters that are frozen
    optimizer = config.optimizer
    if isinstance(optimizer, CustomOptimizerConfig) and (code := optimizer_content(optimizer)):
        identity["optimizer_content"] = code
    return identity


def _evaluation(config: EvaluationConfig) -> dict[str, Any]:
    fields = asdict(config)
    if config.average == "none":
        return {key: value for key, value in fields.items() if not key.startswith("average")}
    return fields


def _with_recorded_name(group: str, config: Any) -> dict[str, Any]:
    return asdict(config) | {"name": recorded_name(f"{group}.name", config.name)}


def _moves_without_gradient(optimizer: OptimizerConfig) -> bool:
    """It may change a parameter whose gradient is zero."""
    return isinstance(optimizer, CustomOptimizerConfig) or bool(
        getattr(optimizer, "weight_decay", 0.0)
    )


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
