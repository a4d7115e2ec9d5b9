"""Words of the report's command line: what is meant by them, and what cannot be meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

LISTS = ("compare", "all", "targets", "tuned", "group_by")
_TYPES = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}


def as_meant(word: str) -> str:
    """Lists need no brackets, and names of columns, which no configuration knows, no plus sign."""
    key, sign, value = word.partition("=")
    if key.startswith("source.columns."):
        return f"++{word}"
    if sign and key in LISTS and value != "null" and not value.startswith(("[", "$")):
        return f"{key}=[{value}]"
    return word


def explain(error: BaseException, options: Sequence[str], sources: Sequence[str]) -> str:
    """Which option, what is wrong with it, and the nearest that exists."""
    first, cause = _first(error), _first(error.__cause__) if error.__cause__ else ""
    if unknown := re.search(r"Could not override '([^']+)'", first):
        near = difflib.get_close_matches(unknown[1], options, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(options)}"
        return f"there is no option {unknown[1]}; {hint}"
    if missing := re.search(r"Could not find 'source/([^']+)'", first):
        return f"source={missing[1]}: must be one of {', '.join(sources)}"
    if variable := re.search(r"Environment variable '([^']*)' not found", first + cause):
        key = re.search(r"full_key: (\S+)", str(error))
        where = f"{key[1]}: " if key else ""
        return f"{where}the environment variable {variable[1]} is not set"
    if re.search(r"^Ambiguous value|requires --multirun$", first):
        word = re.search(r"'([^']+)'", first)
        return f"{word[1] if word else first}: must be one value; compare=[a,b] compares studies"
    merged = re.match(r"Error merging override (.*)", first)
    if merged and (to := re.search(r"could not be converted to (\w+)", cause)):
        return f"{merged[1]}: must be {_TYPES.get(to[1], f'of type {to[1]}')}"
    if merged:
        return f"{merged[1]}: {cause}"
    if word := getattr(error, "override", None):
        return f"{word}: cannot be read as option=value ({first})"
    return f"{first}: {cause}" if cause else first


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
