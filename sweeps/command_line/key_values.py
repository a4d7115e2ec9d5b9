"""Arguments as the other commands take them, key=value, for commands that compose no trials."""

from __future__ import annotations

import sys
from collections.abc import Collection

from scaling.commands import command, exit_with_version
from scaling.limits import ConfigError
from sweeps.command_line.known_keys import nearest


def key_values(
    name: str, known: Collection[str], usage: str, others: bool = False
) -> dict[str, str]:
    """The arguments of a command by key; ConfigError for one that is not key=value, is given
    twice, or is not known.

    others: keys beside the known ones may be given.
    """
    arguments = sys.argv[1:]
    exit_with_version(arguments)
    usage = f"{command(name)} {usage}"
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(usage)
        raise SystemExit(0 if arguments else 2)
    values: dict[str, str] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or not value:
            raise ConfigError(argument, "", f"is not key=value; {usage.splitlines()[0]}")
        if key not in known and not others:
            near = nearest(key, known)
            hint = f"; did you mean {near}?" if near else ""
            raise ConfigError(key, value, f"there is no such option, only {', '.join(known)}{hint}")
        if key in values:
            raise ConfigError(key, value, f"is given twice, first as {values[key]}")
        values[key] = value
    return values
