"""The files of the group study, read before Hydra composes them: names, and the task of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from scaling.commands import command
from scaling.limits import ConfigError
from scaling.schema import current_name
from scaling.tasks.config import NETWORK_GROUPS, TASKS
from sweeps.command_line.known_keys import nearest

DEFAULT_TASK = "linear_regression"
MOST_VALUES = 100_000  # of a file
_OF_NETWORKS = ("model", "data")  # groups that only tasks with networks of ours have


def study_files(config_dir: str | None = None) -> dict[str, Path]:
    """Choice of the group study -> its file; those of a folder of the user's come on top."""
    folders = [Path(str(files("conf"))) / "study"]
    if config_dir is not None:
        _refuse_missing(config_dir)
        folders.append(Path(config_dir) / "study")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def study_content(path: Path) -> dict[str, Any]:
    """What the file says; ConfigError if it cannot be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("study", path.stem, f"{path} cannot be read ({reason})") from None
    if not isinstance(content, dict):
        raise ConfigError("study", path.stem, f"{path} does not hold keys and values")
    return content


def chosen_studies(asked: Sequence[str], config_dir: str | None = None) -> dict[str, str]:
    """study.name of those asked for, each once, in order; ConfigError for one that is not there."""
    known = study_files(config_dir)
    names = {}
    for choice in asked:
        if choice not in known:
            near = nearest(choice, known)
            hint = f"did you mean {near}? There" if near else "there"
            raise ConfigError(
                "study", choice, f"is not in conf/study; {hint} are {', '.join(known)}"
            )
        content = study_content(known[choice])
        name = str((content.get("study") or {}).get("name", choice))
        names[choice] = choice if "${" in name else name
    return names


def refuse_large_files(config_dir: str) -> None:
    """ConfigError for a file of the user's folder that is not YAML, or in which aliases repeat
    aliases: Hydra expands all of them."""
    _refuse_missing(config_dir)
    for path in [*Path(config_dir).glob("*.yaml"), *Path(config_dir).glob("*/*.yaml")]:
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
            n_values = _laid_out(node, {})
        except (OSError, UnicodeError, yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError("--config-dir", config_dir, f"{path}: {reason}") from None
        if n_values > MOST_VALUES:
            allowed = f"{path}: its aliases expand to {n_values:,} values; at most {MOST_VALUES:,}"
            raise ConfigError("--config-dir", config_dir, allowed)


def _refuse_missing(config_dir: str) -> None:
    if not Path(config_dir).is_dir():
        raise ConfigError("--config-dir", config_dir, "there is no such folder")


def command_of(study: str) -> str:
    """The last command of the study of this name whose record is here; "" if there is none."""
    kept = sorted(Path("runs", study).glob("*/multirun.yaml"), key=lambda path: path.parent.name)
    for path in reversed(kept):
        try:
            overrides = yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["overrides"]
            words = [str(word) for word in [*overrides["hydra"], *overrides["task"]]]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            continue  # it only saves looking for it
        words = [word for word in words if not word.startswith("hydra.mode=")]
        return command("sweep", "-m", *words)
    return ""


def _laid_out(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Values of a YAML document with every alias written out."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # an alias inside of what it names has no end
        inner = [
            one for pair in node.value for one in (pair if isinstance(pair, tuple) else [pair])
        ]
        known[id(node)] = 1 + sum(_laid_out(one, known) for one in inner)
    return known[id(node)]


def refuse_other_task(words: Sequence[str], config_dir: str | None = None) -> None:
    """ConfigError if a study is asked for with a task that lacks what it sets.

    Hydra's own message, many lines, names the missing key and not what the study needs.
    """
    given = dict(word.split("=", 1) for word in words if "=" in word)
    known = study_files(config_dir) if {"study", "task"} <= set(given) else {}
    if given.get("study") not in known:
        return
    study, content = given["study"], study_content(known[given["study"]])
    for task in [current_name("task.name", task) for task in given["task"].split(",")]:
        if task in TASKS and (lacking := _lacking(content, task)):
            needed = _task_of(content)
            allowed = f"study={study} requires task={needed}: {task} does not have {lacking}"
            raise ConfigError("task", task, allowed)


def _task_of(content: dict[str, Any]) -> str:
    chosen = [entry for entry in content.get("defaults") or [] if isinstance(entry, dict)]
    tasks = [task for entry in chosen for key, task in entry.items() if key.endswith("/task")]
    return str(current_name("task.name", tasks[0])) if tasks else DEFAULT_TASK


def _lacking(content: dict[str, Any], task: str) -> str:
    """The first key that the study sets or sweeps and the task does not have; "" if none."""
    swept = ((content.get("hydra") or {}).get("sweeper") or {}).get("params") or {}
    keys = [f"task.{key}" for key in content.get("task") or {}]
    keys += [f"{group}.{key}" for group in _OF_NETWORKS for key in content.get(group) or {}]
    keys += list(swept)
    has = {"task": {field.name for field in fields(TASKS[task])}}
    for group in _OF_NETWORKS:
        choices = NETWORK_GROUPS.get(TASKS[task], {}).get(group, {})
        has[group] = {field.name for choice in choices.values() for field in fields(choice)}
    for key in keys:
        group, _, name = key.partition(".")
        lacks = name.split(".")[0] not in has[group] if group in has and name else False
        if lacks or (group in _OF_NETWORKS and not has[group]):
            return key
    return ""
