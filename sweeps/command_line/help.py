"""What `sweep --help` prints: every option with its comment, as the files of conf have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from importlib.resources import files
from textwrap import indent
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from scaling.commands import CONSOLE, command, head_of, options_of
from sweeps.command_line.known_keys import hydra_choices
from sweeps.command_line.study_files import DEFAULT_TASK

DEFAULTS = {
    "task": DEFAULT_TASK,
    "optimizer": "sgd",
    "schedule": "constant",
    "rule": "none",
    "hydra/sweeper": "grid",
    "hydra/launcher": "stacked",
}
GROUPS = ("task", "optimizer", "schedule", "rule", "model", "data")
EXAMPLES = (
    ("batch_size=64", "lr=0.1"),
    ("-m", "study=linear_regression"),
    ("-m", "study=linear_regression", "sweep.dry_run=true"),
    ("-m", "batch_size=1,4,16,64", "lr=0.03,0.1,0.3", "seed=range(0,4)"),
    ("-m", "hydra/sweeper=frontier", "batch_size=1,4,16,64", "seed=range(0,4)"),
    ("-m", "task=custom", "task.path=digits.Digits", "batch_size=16,64", "lr=0.01,0.1"),
    ("-m", "study=linear_regression", "hydra.launcher.executor=slurm"),
)


def help_text(overrides: Sequence[Override]) -> str:
    """Of the choices that these overrides make, the options as well."""
    chosen = {one.key_or_group: str(one.value()) for one in overrides if not one.is_delete()}
    folder = files("conf")
    lines = [
        f"{command('sweep')} [-m] [option=value ...]",
        "Trains the trials of a study and keeps each in MLflow. With -m it trains all combinations",
        "of the values separated by commas, or searches them (hydra/sweeper=frontier). What is on",
        "record is not trained again: the same command resumes.",
        "",
        "examples:",
        *(f"  {command('sweep', *words)}" for words in EXAMPLES),
        "",
        "study=NAME, one of conf/study or of a --config-dir of yours:",
        *_studies(),
        "",
        "options of a trial (conf/config.yaml):",
        indent(options_of(folder.joinpath("config.yaml").read_text(encoding="utf-8")), "  "),
        "",
    ]
    for group in GROUPS:
        lines += [*_group(group, chosen.get(group, DEFAULTS.get(group, ""))), ""]
    lines += [
        *_plugins(),
        "other options:",
        "  -m                  a multirun: values with commas, and what a study sweeps",
        "  --config-dir DIR    a folder of yours with study/*.yaml",
        "  --cfg job           print the configuration of a trial",
        "  --version           print the version",
        "  --hydra-help        Hydra's own options",
        f'tab completion in bash: eval "$({CONSOLE} -sc install=bash)"',
    ]
    return "\n".join(lines)


def _plugins() -> Iterator[str]:
    """Our sweepers and launchers."""
    for group, choices in hydra_choices().items():
        for choice, node in choices.items():
            default = " (default)" if DEFAULTS[group] == choice else ""
            yield f"{group}={choice}{default}: {node.__doc__}"
            yield from _options(node, group.replace("/", "."))
            yield ""


def _files(group: str) -> dict[str, str]:
    """Texts of the files of a group, by choice."""
    folder = files("conf").joinpath(group)
    entries = sorted((entry.name, entry) for entry in folder.iterdir())
    return {
        name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
        for name, entry in entries
        if name.endswith(".yaml")
    }


def _studies() -> Iterator[str]:
    for name, text in _files("study").items():
        question = (yaml.safe_load(text).get("study") or {}).get("question", "")
        yield f"  {name:<36}{question}".rstrip()


def _group(group: str, choice: str) -> list[str]:
    """The choices of a group, with the options of the one that is chosen."""
    texts = _files(group)
    default = f" (default {DEFAULTS[group]})" if group in DEFAULTS else " (of networks)"
    lines = [f"{group}={', '.join(texts)}{default}"]
    if choice not in texts:
        return lines
    body = options_of(texts[choice])
    if body and not body.startswith(f"{group}:"):
        body = f"{group}:\n{indent(body, '  ')}"
    head = head_of(texts[choice])
    lines += [f"  # {choice}: {head}"] if head else []
    return [*lines, indent(body, "  ")]


def _options(node: Any, prefix: str) -> Iterator[str]:
    """A line for each option of a sweeper or launcher: key, default and comment."""
    for one in fields(node):
        factory = one.default_factory
        default = one.default if factory is MISSING else factory()
        if is_dataclass(default):
            yield f"  {prefix}.{one.name}: {default.__doc__}"
            yield from _options(type(default), f"{prefix}.{one.name}")
        elif not one.name.startswith("_"):
            shown = yaml.safe_dump(default, default_flow_style=True).split("\n")[0]
            comment = one.metadata.get("comment")
            yield f"  {prefix}.{one.name}={shown}{f'  # {comment}' if comment else ''}"
