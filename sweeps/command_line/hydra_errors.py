"""What Hydra and OmegaConf raise for a user's mistake, in one line: what came, what to do."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import hydra
import omegaconf
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    InterpolationValidationError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from scaling.schema import RENAMED
from sweeps.command_line.known_keys import nearest, not_a_list, not_one_value, unknown_key
from sweeps.command_line.study_files import command_of

FROM_CONFIGURATION = (HydraException, OmegaConfBaseException)
_THEIRS = tuple(str(Path(str(module.__file__)).parent) for module in (hydra, omegaconf))
_OURS = tuple(str(Path(__file__).parents[2] / name) for name in ("sweeps/", "scaling/"))
_TYPES = {
    **dict.fromkeys(("Float", "float"), "must be a number"),
    **dict.fromkeys(("Integer", "int"), "must be a whole number"),
    **dict.fromkeys(("Boolean", "bool"), "must be true or false"),
}


def is_of_configuration(error: BaseException) -> bool:
    """Raised by Hydra or OmegaConf over a configuration, whatever its type; not by our own code."""
    if isinstance(error, FROM_CONFIGURATION):
        return True
    if not isinstance(error, Exception):
        return False
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(_THEIRS):
            return True
        if frame.filename.startswith(_OURS):
            return False
    return False


def explain(error: BaseException) -> str:
    """One line for what is_of_configuration."""
    if isinstance(error, MissingConfigException):
        return _missing_file(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, str(error))
    if isinstance(error, OmegaConfBaseException):
        return _value(error, error.full_key or "", None)
    first, cause = _first(error), error.__cause__
    in_file = re.match(r"In '([^']+)': \w+ raised while composing config", first)
    raised = cause or error.__context__
    if in_file and isinstance(raised, OmegaConfBaseException):
        return f"{in_file[1]}.yaml: {_value(raised, raised.full_key or '', None)}"
    if unknown := re.search(r"Could not override '([^']+)'", first):
        value = re.search(r"use \+[^=]+=(.*)", str(error))
        node = getattr(cause, "object_type", None)
        return unknown_key(unknown[1], value[1] if value else "", node)
    if merged := re.match(r"Error merging override (.*)", first):
        return _merged(merged[1], cause)
    if deleted := re.search(r"Could not delete from config. '([^']+)' does not exist", first):
        return f"~{deleted[1]}: there is nothing with this name to remove"
    if located := re.match(r"Error locating target '([^']*)'", first):
        key = re.search(r"full_key: (\S+)", str(error))
        return f"{key[1] if key else 'hydra'}._target_={located[1]}: cannot be imported"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    message = f"{first}: {_first(cause)}" if cause is not None and first else first or _first(cause)
    if isinstance(error, HydraException):
        return message
    return f"the configuration cannot be used ({type(error).__name__}: {message})"


def _first(error: BaseException | None) -> str:
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__ if error else ""


def _missing_file(error: MissingConfigException) -> str:
    wanted = error.missing_cfg_file or ""
    group, _, choice = wanted.rpartition("/")
    if not group:
        return f"{_first(error)}; leave --config-name out, or name a file of --config-dir"
    former = {old for (param, old) in RENAMED if param == f"{group}.name"}
    options = sorted(set(error.options or []) - former)
    if group == "study" and (command := command_of(choice)):
        return (
            f"study={choice}: is not a file of conf/study but a study on record; "
            f"resume it with: {command}"
        )
    near = nearest(choice, options)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(options)}"
    return f"{group}={choice}: no such {group.rpartition('/')[2]}; {hint}"


def unreadable(word: str, reason: str) -> str:
    """A word of the command line that Hydra's grammar does not take."""
    key, sign, value = word.partition("=")
    if not sign:
        return f"{word}: is not key=value"
    for opening, closing in ("()", "[]", "{}"):
        if value.count(opening) != value.count(closing):
            return f"{word}: the brackets {opening} and {closing} do not match"
    if value.count("'") % 2 or value.count('"') % 2:
        return f"{word}: a quotation mark is not closed"
    lines = [line.strip() for line in reason.splitlines() if not line.startswith("See https://")]
    reasons = [line for line in lines if line and not line.startswith(("Error parsing", "^"))]
    if key.strip("+~") == "" or not reasons or reasons[0].startswith("LexerNoViableAlt"):
        return f"{word}: cannot be read as key=value; quote text with special characters"
    return f"{word}: cannot be read ({reasons[0]}); quote text with special characters"


def _of_type(name: str) -> str:
    return _TYPES.get(name, f"must be of type {name}")


def _merged(line: str, cause: BaseException | None) -> str:
    key, _, value = line.partition("=")
    return _value(cause, key, value) if cause is not None else line


def _value(error: BaseException, key: str, value: str | None) -> str:
    """A value of a wrong type, or one that refers to what is not there."""
    message = _first(error)
    shown = key if value is None else f"{key}={value}"
    if isinstance(error, MissingMandatoryValue):
        name = re.search(r"Missing mandatory value: (\S+)", str(error))
        return f"{name[1] if name else key}: is missing; give it a value"
    if isinstance(error, InterpolationValidationError):
        if incompatible := re.search(
            r"interpolation '(.*?)': Incompatible value '(.*?)'.*'(\w+)'", message
        ):
            given = "null" if incompatible[2] == "None" else incompatible[2]
            return f"{shown}={incompatible[1]}: refers to {given}; it {_of_type(incompatible[3])}"
        return f"{shown}: {message}"
    if variable := re.search(r"Environment variable '([^']*)' not found", message):
        name = variable[1]
        return f"{shown}: the environment variable {name} is not set; set it, or leave it out"
    absent = re.search(r"'([^']*)' not found", message)
    if isinstance(error, InterpolationKeyError) and absent:
        return f"{shown}: refers to ${{{absent[1]}}}, which does not exist"
    if isinstance(error, InterpolationResolutionError):
        return f"{shown}: what it refers to cannot be found ({message})"
    if converted := re.search(r"could not be converted to (\w+)", message):
        return f"{shown}: {_of_type(converted[1])}"
    if "is not a ListConfig" in message:
        return not_a_list(shown, key)
    if "is not Optional" in message:
        return f"{shown}: must not be null"
    if "is not a subclass of" in message or "Cannot assign" in message:
        return not_one_value(shown, key)
    if unknown := re.search(r"^Key '([^']*)' not in '(\w+)'", message):
        full = getattr(error, "full_key", None) or unknown[1]
        return unknown_key(str(full), value, getattr(error, "object_type", None))
    return f"{shown}: {message}"
