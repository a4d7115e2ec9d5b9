"""How the groups of a study (model sizes, networks, optimizers) are called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

Group = Mapping[str, Any]
# What another project calls its columns and params stands in frames under this prefix, as in
# MLflow's own tables: whatever its name, it is never one of our columns.
PARAMS = "params."
MOST_LETTERS = 100  # of a file's name made of a study's or a group's
OPTIMIZER_PATH = "optimizer.path"  # of optimizer.name=custom: its class, which names it


def group_label(group: Group) -> str:
    """What tells a group from the others, as it is read; "" for the only group.

    The value alone says enough of a name ("unet" for model.name=unet), the last part of the dotted
    param and its value of anything else ("num_filters = 8"). A custom optimizer is called by
    its class. What an optimizer does not have is left out.
    """
    group = their_group(group)
    named = "optimizer.name" in group
    parts = {
        name: value
        for name, value in group.items()
        if not (named and value == "none" and name.startswith("optimizer."))
    }
    if OPTIMIZER_PATH in parts:
        parts.pop("optimizer.name", None)
    return ", ".join(_part(name, value) for name, value in parts.items())


def their_name(column: str) -> str:
    """What the runs' own project calls this column.

    >>> their_name("params.steps"), their_name("steps")
    ('steps', 'steps')
    """
    return column.removeprefix(PARAMS)


def their_group(group: Group) -> dict[str, Any]:
    """The group under the names of its own project."""
    return {their_name(name): value for name, value in group.items()}


def column_of(frame: pd.DataFrame, name: str) -> str:
    """The column that the runs' own project calls `name`; the name itself if there is none."""
    return PARAMS + name if PARAMS + name in frame else name


def with_their_names(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its project's own column names, except where a column of ours has that name.

    >>> list(with_their_names(pd.DataFrame(columns=["params.net", "params.steps", "steps"])))
    ['net', 'params.steps', 'steps']
    """
    there = set(frame.columns)
    return frame.rename(
        columns=lambda name: name if their_name(name) in there else their_name(name)
    )


def select(frame: pd.DataFrame, group: Group) -> pd.DataFrame:
    """The rows of one group; columns that the frame does not have are not asked for."""
    keep = np.ones(len(frame), dtype=bool)
    for column, value in group.items():
        if column in frame:
            keep &= (frame[column] == value).to_numpy()
    return frame[keep].reset_index(drop=True)


def prefixed(group: Group, text: str) -> str:
    """text, with the group it speaks of in front."""
    return f"{group_label(group)}: {text}" if group else text


def listed(labels: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"; with semicolons where a label holds a comma."""
    comma = "; " if any("," in label for label in labels) else ", "
    head = comma.join(labels[:-1])
    return f"{head} and {labels[-1]}" if head else "".join(labels)


def file_name(text: str) -> str:
    """A name safe for files and directories: letters, digits, `.`, `_`, `=`, `-`.

    Names that lose letters, or are too long, are told apart by a digest.
    """
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "_", text.replace(" = ", "=")).strip("._")
    if plain and text.isascii() and len(plain) <= MOST_LETTERS:
        return plain
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{plain[:MOST_LETTERS] or 'unnamed'}_{digest}"


def _part(name: str, value: Any) -> str:
    last = name.rsplit(".", 1)[-1]
    if last == "name":
        return str(value)
    if name == OPTIMIZER_PATH:
        return str(value).rsplit(".", 1)[-1]
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if number and 1e6 <= abs(value) < 1e15 and float(value).is_integer():
        return f"{last} = {value:,.0f}"  # a model size is not 2.14664e+08
    return f"{last} = {value:,g}" if number else f"{last} = {value}"
