"""Runs the project's commands as a user does, in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def run(module: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """`python -m module arguments...` without a store or config set by the surroundings."""
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=env | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


CONSOLE_SCRIPT = """import sys
from sweeps.command import main
if __name__ == "__main__":
    sys.exit(main())
"""


def console(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """`batch-scaling arguments...`, from a script in a folder of its own, as pip writes it."""
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "batch-scaling"
        script.write_text(CONSOLE_SCRIPT)
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=cwd,
            env=env | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )


def sweeps(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return run("sweeps", *arguments, cwd=cwd, **environment)


def analysis(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return run("analysis", *arguments, cwd=cwd, **environment)
