"""The commands of this package: their names, their versions, and how the next one is printed.

Each can be started in two forms, `batch-scaling report study=a` and `python -m analysis study=a`.
Whatever names a command to the user (hints, notes, reports) calls `command`, which writes the form
that was used.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from importlib.metadata import version
from typing import NoReturn

from scaling.addresses import one_line

CONSOLE = "batch-scaling"
FORM = "BATCH_SCALING_CONSOLE"  # set by the console script, and inherited by what it starts
MODULES = {
    "sweep": "sweeps",
    "report": "analysis",
    "register": "sweeps.register",
    "repeat": "sweeps.repeat",
    "sync": "sweeps.sync",
    "all": "sweeps.all",
    "counts": "scaling.models.counts",
}


def command(name: str, *words: str) -> str:
    """The line that starts a command, as a shell reads it."""
    start = [CONSOLE, name] if FORM in os.environ else ["python", "-m", MODULES[name]]
    return shlex.join([*start, *words])


def version_line() -> str:
    return f"{CONSOLE} {version(CONSOLE)}, Python {platform.python_version()}"


def exit_with_version(words: list[str]) -> None:
    """Hydra's own --version would say Hydra's."""
    if "--version" in words:
        print(version_line())
        raise SystemExit(0)


def options_of(text: str) -> str:
    """The keys of a configuration file with their comments: without the nodes `defaults` and
    `hydra`, and without the comment at its head."""
    kept, shown = [], False
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            shown = line.partition(":")[0] not in ("defaults", "hydra")
        if shown:
            kept.append(line)
    return "\n".join(kept).strip("\n")


def head_of(text: str) -> str:
    """The comment at the head of a configuration file, without Hydra's package line."""
    head = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            head.append(line.removeprefix("#").strip())
    return " ".join(head)


class OneLineParser(argparse.ArgumentParser):
    """The options of a small command: a mistake is one line (argparse prints its usage first)."""

    def __init__(self, name: str, description: str, examples: str) -> None:
        super().__init__(
            prog=command(name),
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--version", action="version", version=version_line())

    def error(self, message: str) -> NoReturn:
        print(f"error: {one_line(message)}", file=sys.stderr)
        raise SystemExit(2)
