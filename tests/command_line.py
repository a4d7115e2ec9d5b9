"""Runs the project's commands as a user does, in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import warm

LIMIT_SECONDS = 900.0


def run(
    module: str, *arguments: str, cwd: Path, cold: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments...` without a store or config set by the surroundings.

    cold: in an interpreter of its own, which takes 2 s more.
    """
    return _run(["-m", module], arguments, cwd, cold, environment)


CONSOLE_SCRIPT = """import sys
from sweeps.command import main
if __name__ == "__main__":
    sys.exit(main())
"""


def console(
    *arguments: str, cwd: Path, cold: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`batch-scaling arguments...`, from a script in a folder of its own, as pip writes it."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "batch-scaling"
        script.write_text(CONSOLE_SCRIPT)
        return _run([str(script)], arguments, cwd, cold, environment)


def _run(
    program: list[str],
    arguments: tuple[str, ...],
    cwd: Path,
    cold: bool,
    environment: dict[str, str],
) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    env |= environment
    if not cold:
        return warm.run(warm.Command(program, list(arguments), str(cwd), env), LIMIT_SECONDS)
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )


def sweeps(
    *arguments: str, cwd: Path, cold: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    return run("sweeps", *arguments, cwd=cwd, cold=cold, **environment)


def analysis(
    *arguments: str, cwd: Path, cold: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    return run("analysis", *arguments, cwd=cwd, cold=cold, **environment)
