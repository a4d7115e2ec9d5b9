"""How the harness grows: python -m tests.benchmarks.growth [n ...]

Studies of about n trials (1,000 and 10,000; 100,000 takes an hour), 13 batch sizes x 16 learning
rates, of few steps each: prints seconds and peak memory of whole commands, and of a trial.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = [2**k for k in range(13)]
LRS = [round(0.02 * 1.25**k, 5) for k in range(16)]
STUDY = "study.name=growth"
COMMANDS = (
    ("plan", ["sweeps", "-m", "sweep.dry_run=true"]),
    ("sweep", ["sweeps", "-m"]),
    ("the same again", ["sweeps", "-m"]),
    ("report", ["analysis"]),
)


def measured(folder: Path, command: list[str]) -> tuple[float, float]:
    """Wall seconds of a whole command, and the most memory of one of its processes in GiB."""
    root = str(Path(__file__).parents[2])
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=env | {"PYTHONPATH": root, "MLFLOW_LOGGING_LEVEL": "ERROR"},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: failed")
    return time.perf_counter() - begin, usage.ru_maxrss / 2**20


def main() -> None:
    print(f"{'trials':>8s} {'command':16s}{'seconds':>9s}{'ms a trial':>12s}{'GiB':>7s}")
    for wanted in map(int, sys.argv[1:] or ["1000", "10000"]):
        n_seeds = max(wanted // (len(SIZES) * len(LRS)), 1)
        n = n_seeds * len(SIZES) * len(LRS)
        swept = [f"batch_size={','.join(map(str, SIZES))}", f"lr={','.join(map(str, LRS))}"]
        swept += [f"seed=range(0,{n_seeds})", "task.dimension=16", "budget.max_steps=100"]
        with tempfile.TemporaryDirectory() as folder:
            for what, command in COMMANDS:
                options = [STUDY, *swept] if command[0] == "sweeps" else ["study=growth"]
                seconds, memory = measured(Path(folder), [*command, *options])
                print(
                    f"{n:8,d} {what:16s}{seconds:9.1f}{1000 * seconds / n:12.2f}{memory:7.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
