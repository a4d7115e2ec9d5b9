"""A custom task, named by dotted path; its code is part of its trials' identity."""

from __future__ import annotations

import inspect
import json
from typing import cast

import torch

from scaling.config import TrialConfig
from scaling.custom_code import digest_of_sources, first_line, module_of
from scaling.draws import CONSTRUCTION, drawing
from scaling.limits import ConfigError
from scaling.tasks.config import CustomTaskConfig, TaskConfig
from scaling.tasks.problem import Problem, as_problem, is_problem
from scaling.tasks.task import Task


def make_custom_task(config: CustomTaskConfig, whole: TrialConfig) -> Task:
    """`config.path` called with the options; ConfigError for whatever it raises.

    It makes a Problem (scaling.tasks.problem), or a whole Task, which is also given `dtype`.
    """
    make = getattr(module_of("task.path", config.path), config.path.rpartition(".")[2], None)
    if not callable(make):
        raise ConfigError("task.path", config.path, "has no such class or function in its module")
    try:
        options = {str(key): value for key, value in config.options.items()}
        if "dtype" in inspect.signature(make).parameters:
            options["dtype"] = getattr(torch, whole.precision)
        key = f"{config.path} {json.dumps(options, sort_keys=True, default=str)}"
        with drawing(CONSTRUCTION):  # data that it draws are the same in every process
            made = _problems.get(key) or make(**options)
        return _as_task(made, config, whole, key)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError("task.path", config.path, f"raised {first_line(error)}") from None


def make_custom_problem(path: str, options: dict[str, object]) -> Problem:
    """The Problem that a path makes; ConfigError as from `make_custom_task`."""
    make = getattr(module_of("task.path", path), path.rpartition(".")[2], None)
    with drawing(CONSTRUCTION):
        made = make(**options) if callable(make) else None
    if not is_problem(made):
        raise ConfigError("task.path", path, "does not make a problem with a network")
    return as_problem(made)


_problems: dict[str, object] = {}  # data is read once a process, however many trials use it


def _as_task(made: object, config: CustomTaskConfig, whole: TrialConfig, key: str) -> Task:
    from scaling.tasks.problem_check import check_data, check_network
    from scaling.tasks.supervised import SupervisedTask

    if is_problem(made):
        problem, known = as_problem(made), key in _problems
        if not known:
            check_data(problem, config.path)
        task = SupervisedTask(problem, whole)
        if not known:
            check_network(task, config.path)
        _problems[key] = made
        return task
    parts = [*Task.__annotations__, *(name for name in vars(Task) if not name.startswith("_"))]
    if missing := [name for name in parts if not hasattr(made, name)]:
        allowed = (
            "is not a task: it requires train, held_out, model and loss (see the README), or, "
            f"to be a whole task, also {', '.join(sorted(missing))}"
        )
        raise ConfigError("task.path", config.path, allowed)
    return cast(Task, made)


def content_hash(config: TaskConfig, task: Task) -> str:
    """Digest of a custom task's source files, and of its data where it says `data_hash`."""
    assert isinstance(config, CustomTaskConfig)
    digest = digest_of_sources(module_of("task.path", config.path))
    digest.update(str(getattr(task, "data_hash", "")).encode())
    return digest.hexdigest()[:16]
