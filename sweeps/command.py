"""The console script: `batch-scaling COMMAND ...`, one name for every command of this package.

It starts without the working directory at the head of sys.path, so that a user's own analysis.py,
scaling.py, sweeps/ or conf/ does not hide ours, neither here nor in the processes that are started
from here. A module of the user's in the working directory is still found, after ours.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from scaling.commands import CONSOLE, FORM, MODULES, exit_with_version

HELP = f"""{CONSOLE} COMMAND ...: how large a batch is worth it?

commands:
  sweep     train the trials of a study and keep them in MLflow
  report    write the report of a study, or of anybody's runs
  register  register the network of a trial as an MLflow model
  repeat    train a recorded trial again and compare it with its record
  sync      write a study's record into an MLflow store
  all       run the studies of theory and write one page of them
  counts    count the parameters and multiplications of a colourization network

examples:
  {CONSOLE} sweep -m study=linear_regression
  {CONSOLE} report study=linear_regression

{CONSOLE} COMMAND --help says what a command does, with examples and every option.
{CONSOLE} --version prints the version.
tab completion in bash: eval "$({CONSOLE} -sc install=bash)"
"""
COMPLETED = ("sweep", "report")  # by Hydra


def main() -> None:
    os.environ[FORM] = "1"
    os.environ["PYTHONSAFEPATH"] = "1"  # of the processes that are started from here
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    words = sys.argv[1:]
    if words[:1] == ["-sc"]:
        words = _completion(words)
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    name = words[0]
    if name not in MODULES:
        exit_with_version(words[:1])
        print(f"error: {name}: must be one of {', '.join(MODULES)}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv[1:] = words[1:]
    module = MODULES[name]
    import_module(module if "." in module else f"{module}.__main__").main()


def _completion(words: list[str]) -> list[str]:
    """The command whose completion is asked for: Hydra's knows programs without commands."""
    if words != ["-sc", "query=bash"]:
        return ["sweep", *words]
    program, _, rest = os.environ["COMP_LINE"].partition(" ")
    name, space, line = rest.lstrip().partition(" ")
    if not space:
        print(" ".join(MODULES))
    if not space or name not in COMPLETED:
        raise SystemExit(0)
    os.environ["COMP_LINE"] = f"{program} {line}"
    return [name, *words]


if __name__ == "__main__":
    main()
