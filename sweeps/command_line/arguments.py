"""The command line of a sweep, read before Hydra reads it: what cannot be meant is one
line, what can only be meant in one way is taken so."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    QuotedString,
    ValueType,
)

from scaling import schema
from scaling.commands import command
from scaling.limits import ConfigError
from sweeps.command_line.grid import parse, typed_value
from sweeps.command_line.help import GROUPS, help_text
from sweeps.command_line.known_keys import LISTS, OPTIONS, Refused, nearest, not_a_list

_MAY_BE_NULL = ("study", "model", "data")
_NEEDED = ("task", "optimizer", "study", "schedule", "rule", "hydra")  # cannot be left out with ~


@dataclass(frozen=True)
class CommandLine:
    """words: as Hydra is to read them. trains: not one of --help, --cfg, --info and the like."""

    words: list[str]
    overrides: list[Override]
    multirun: bool
    trains: bool
    config_dir: str | None
    config_name: str | None
    config_path: str | None

    @property
    def writes(self) -> bool:
        """To MLflow, as far as can be seen here."""
        given = {(one.key_or_group, str(one.value())) for one in self.overrides}
        not_written = {(f"sweep.{key}", "True") for key in ("dry_run", "probe")}
        not_written.add(("tracking.uri", schema.NO_STORE))
        return self.trains and not given & not_written


def read_command_line(words: Sequence[str]) -> CommandLine:
    """ConfigError for what cannot be read or meant."""
    flags = _flags(words)
    given = [_as_meant(word) for word in _joined(flags.overrides)]
    overrides = parse(given)
    if flags.help:
        print(help_text(overrides))
        raise SystemExit(0)
    shows = any((flags.hydra_help, flags.cfg, flags.info, flags.shell_completion))
    trains = not shows
    multirun = _mode(overrides, flags.multirun) == "MULTIRUN"
    for override in overrides:
        _refuse_other_names(override)
        _refuse_left_out(override)
        if trains and not multirun:
            _refuse_without_multirun(override)
    before = [word for word in words if word not in flags.overrides]
    return CommandLine(
        words=[*before, *given],
        overrides=overrides,
        multirun=multirun,
        trains=trains,
        config_dir=flags.config_dir,
        config_name=flags.config_name,
        config_path=flags.config_path,
    )


def _flags(words: Sequence[str]) -> argparse.Namespace:
    """Options and overrides in any order; Hydra itself wants the options first."""
    parser = get_args_parser()

    def refuse(message: str) -> None:
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if not unknown:
            raise Refused(f"command line: {message}")
        near = nearest(unknown[1], [o for o in parser._option_string_actions if o[:2] == "--"])
        hint = f"did you mean {near}?" if near else f"{command('sweep', '--hydra-help')} lists them"
        raise Refused(f"{unknown[1]}: there is no such option; {hint}")

    parser.error = refuse  # pyright: ignore[reportAttributeAccessIssue]
    flags = parser.parse_intermixed_args(list(words))
    asked = {
        "-m": flags.multirun,
        "--run": flags.run,
        "--cfg": flags.cfg,
        "--info": flags.info,
        "--shell-completion": flags.shell_completion,
    }
    several = [name for name, value in asked.items() if value]
    if len(several) > 1:
        raise Refused(f"{' '.join(several)}: only one of these at a time")
    if flags.experimental_rerun is not None:
        raise Refused(f"--experimental-rerun: use {command('repeat')} run_id=..")
    if flags.resolve and not (flags.cfg or flags.help):
        raise Refused("--resolve: goes with --cfg: --cfg job --resolve")
    return flags


def _joined(overrides: Sequence[str]) -> Sequence[str]:
    """ConfigError for `batch_size=8 16`, where spaces stand between values."""
    for before, word in zip(["", *overrides], overrides, strict=False):
        if "=" not in word and not word.startswith("~"):
            key, sign, value = before.partition("=")
            hint = f"; several values are separated by commas: {key}={value},{word}" if sign else ""
            raise Refused(f"{word}: is not key=value{hint}")
    return overrides


def _as_meant(word: str) -> str:
    """Options of custom code need no plus sign, and lists of numbers no brackets."""
    key, sign, value = word.partition("=")
    if key.startswith(OPTIONS) and sign:
        return f"++{word}"
    if key in LISTS and re.fullmatch(r"[-+.\deE]+(,[-+.\deE]+)*", value):
        return f"{key}=[{value}]"
    return word


def _mode(overrides: Sequence[Override], multirun: bool) -> str:
    """RUN or MULTIRUN."""
    mode = "MULTIRUN" if multirun else "RUN"
    for override in overrides:
        if override.key_or_group == "hydra.mode":
            mode = str(override.value())
            if multirun and mode != "MULTIRUN":
                raise ConfigError("hydra.mode", mode, "contradicts -m; leave one of them out")
    return mode


def _refuse_other_names(override: Override) -> None:
    """study=true, optimizer=nan: of what names no file Hydra prints a traceback."""
    group = override.key_or_group
    if override.is_delete() or not (group in ("study", *GROUPS) or "/" in group):
        return
    for choice in _choices(override):
        if choice is None and group in _MAY_BE_NULL:
            continue
        text = choice.text if isinstance(choice, QuotedString) else choice
        if not isinstance(text, str) or not text or text.startswith(("/", ".")):
            raise ConfigError(
                group, typed_value(override), f"is not the name of a file in conf/{group}"
            )


def _choices(override: Override) -> list[Any]:
    given = override._value
    if isinstance(given, ChoiceSweep):
        return list(given.list)
    return [] if isinstance(given, Glob) else [given]


def _refuse_left_out(override: Override) -> None:
    key = override.key_or_group
    if override.type == OverrideType.DEL and key in _NEEDED:
        raise Refused(f"{override.input_line}: cannot be left out; choose another with {key}=..")


def _refuse_without_multirun(override: Override) -> None:
    key, line = override.key_or_group, str(override.input_line)
    if override.value_type is not None and override.value_type != ValueType.ELEMENT:
        if key in LISTS:
            raise Refused(not_a_list(line, key))
        raise Refused(f"{line}: several values make a multirun; add -m")
    if re.match(r"hydra[./](sweeper|launcher)\b", key):
        raise Refused(f"{line}: is for multiruns; add -m")
