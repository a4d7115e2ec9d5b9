"""A user's own task, named by dotted path; its code is a part of its trials' identity."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch

from scaling.config import ConfigError, OwnTaskConfig, TaskConfig, TrialConfig
from scaling.tasks import Task

if TYPE_CHECKING:
    from scaling.tasks.supervised import Problem


def make_own_task(config: OwnTaskConfig, whole: TrialConfig) -> Task:
    """`config.path` called with the options; ConfigError for whatever it raises.

    It makes a Problem (scaling.tasks.supervised), or a whole Task, which is also given `dtype`.
    """
    make = getattr(_module_of(config), config.path.rpartition(".")[2], None)
    if not callable(make):
        raise ConfigError("task.path", config.path, "has no such class or function in its module")
    try:
        options = {str(key): value for key, value in config.options.items()}
        if "dtype" in inspect.signature(make).parameters:
            options["dtype"] = getattr(torch, whole.precision)
        key = f"{config.path} {json.dumps(options, sort_keys=True, default=str)}"
        made = _problems.get(key) or make(**options)
        return _as_task(made, config, whole, key)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError("task.path", config.path, f"raised {first_line(error)}") from None


def make_own_problem(path: str, options: dict[str, object]) -> Problem:
    """The Problem that a path makes; ConfigError as from `make_own_task`."""
    from scaling.tasks.supervised import as_problem, is_problem

    config = OwnTaskConfig(path=path, options=dict(options))
    make = getattr(_module_of(config), path.rpartition(".")[2], None)
    made = make(**options) if callable(make) else None
    if not is_problem(made):
        raise ConfigError("task.path", path, "makes no problem with a network")
    return as_problem(made)


_problems: dict[str, object] = {}  # data is read once a process, however many trials use it


def _as_task(made: object, config: OwnTaskConfig, whole: TrialConfig, key: str) -> Task:
    from scaling.tasks.supervised import SupervisedTask, as_problem, is_problem

    if is_problem(made):
        _problems[key] = made
        return SupervisedTask(as_problem(made), whole)
    parts = [*Task.__annotations__, *(name for name in vars(Task) if not name.startswith("_"))]
    if missing := [name for name in parts if not hasattr(made, name)]:
        allowed = (
            "is no task: it needs train, held_out, model and loss (see the README), or, to be a "
            f"whole task, also {', '.join(sorted(missing))}"
        )
        raise ConfigError("task.path", config.path, allowed)
    return cast(Task, made)


def content_hash(config: TaskConfig, task: Task) -> str:
    """Digest of an own task's source files, and of its data where it says `data_hash`.

    Source files: that of its module and those that it imports from beside it.
    """
    assert isinstance(config, OwnTaskConfig)
    digest = hashlib.sha256()
    for path in sorted(_sources(_module_of(config))):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    digest.update(str(getattr(task, "data_hash", "")).encode())
    return digest.hexdigest()[:16]


def first_line(error: BaseException) -> str:
    """An error in one line, with the last place in code that is neither ours nor a library's."""
    message = next(iter(str(error).strip().splitlines()), "")
    text = f"{type(error).__name__}: {message}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if _is_users(frame.filename)]
    return text + (f" ({users[-1].filename}, line {users[-1].lineno})" if users else "")


def _is_users(filename: str) -> bool:
    ours = Path(__file__).parents[2]
    places = [ours / name for name in ("scaling", "sweeps")] + [Path(sys.base_prefix), sys.prefix]
    return not filename.startswith(("<", *map(str, places)))


def _module_of(config: OwnTaskConfig) -> ModuleType:
    name = config.path.rpartition(".")[0]
    if not name:
        allowed = "must be module.Class, the module in the working directory or installed"
        raise ConfigError("task.path", config.path, allowed)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError("task.path", config.path, f"raised {first_line(error)}") from None


def _sources(module: ModuleType) -> set[Path]:
    """The module's file and the files that it imports, near or far, from the same root."""
    file = getattr(module, "__file__", None)
    if file is None:
        return set()
    depth = module.__name__.count(".") + (Path(file).name == "__init__.py")
    root = Path(file).resolve().parents[depth]
    top = module.__name__.split(".")[0] if "site-packages" in root.parts else ""
    found: set[Path] = set()
    waiting = [(module.__name__, Path(file).resolve())]
    while waiting:
        name, path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for imported in _imports(name, path):
            inside = not top or imported.split(".")[0] == top
            waiting += [(imported, p) for p in _files(root, imported) if inside]
    return found


def _files(root: Path, name: str) -> list[Path]:
    base = root.joinpath(*name.split("."))
    return [p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()]


def _imports(name: str, path: Path) -> Iterator[str]:
    """Names of modules that a file imports, perhaps with names that are none."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, node.module or ""] if node.level else [node.module or ""])
            base = base.strip(".")
            yield base
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)
