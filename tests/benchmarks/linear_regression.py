"""Times what people wait for, and compares the answers of a study with the exact ones.

    python -m tests.benchmarks.linear_regression [times|answers|one_by_one]

prints: seconds of sweeps, reports and short commands, start-up and all; critical batch sizes
against their exact values; and the ratio to the same trials trained one by one with a metric
logged each step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 2000
SAMPLE = [  # 4 trials at each of the study's 13 batch sizes
    "batch_size=1,2,4,8,16,32,64,128,256,512,1024,2048,4096",
    "lr=0.005,0.0105,0.0221,0.0465",
    "seed=0",
]


def timed(folder: Path, *command: str) -> float:
    """Wall seconds of a whole command, start-up and all."""
    root = str(Path(__file__).parents[2])
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=env | {"PYTHONPATH": root, "MLFLOW_LOGGING_LEVEL": "ERROR"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begin


def times(folder: Path) -> None:
    """What a user waits for, whole commands."""
    grid, search = "study=linear_regression_grid", "study=linear_regression"
    many = ["seed=range(0,49)", "sweep.dry_run=true", "study.name=dry"]
    for what, command in (
        ("sweep of 1,664 trials", ("sweeps", "-m", grid)),
        ("the same again", ("sweeps", "-m", grid)),
        ("linear_regression, by the search", ("sweeps", "-m", search)),
        ("the same again", ("sweeps", "-m", search)),
        ("its report", ("analysis", search)),
        ("dry run of 10,192 trials", ("sweeps", "-m", grid, *many)),
        ("batch_size=64 lr=0.1", ("sweeps", "batch_size=64", "lr=0.1")),
        ("sweeps --help", ("sweeps", "--help")),
        ("analysis --help", ("analysis", "--help")),
    ):
        print(f"{what:33s}{timed(folder, *command):6.1f} s", flush=True)


def answers(folder: Path) -> None:
    """Critical batch sizes of linear_regression_grid against the exact ones."""
    timed(folder, "sweeps", "-m", "study=linear_regression_grid")
    timed(folder, "analysis", "study=linear_regression_grid")
    summary = json.loads((folder / "reports/linear_regression_grid/summary.json").read_text())
    print("target   critical batch size (95 %)    exact, same grid   off by   inside")
    for fit in summary["fits"]:
        value, (low, high) = fit["critical_batch_size"], fit["ci95"]["critical_batch_size"]
        exact = fit["exact"]["same_grid"]
        print(
            f"{fit['target_loss']:.4f}   {value:6.1f} ({low:.1f} to {high:.1f})"
            f"{exact:17.1f}{100 * (value / exact - 1):+12.1f} %   {low <= exact <= high}"
        )


def one_by_one(folder: Path) -> None:
    ours = timed(
        folder,
        *("sweeps", "-m", *SAMPLE, f"budget.max_steps={STEPS}", "relative_targets=[]"),
        *("study.name=sample", "divergence_factor=1e30"),
    )
    theirs = timed(
        folder,
        *("tests.benchmarks.one_by_one", "-m", *(f"+{key}" for key in SAMPLE), f"+steps={STEPS}"),
        *(f"+uri=sqlite:///{folder}/one_by_one.db", "hydra.sweep.dir=one_by_one"),
    )
    print(
        f"52 trials of {STEPS} steps, whole commands: here {ours:.1f} s, one by one {theirs:.1f} s"
    )
    print(f"ratio {theirs / ours:.1f}")


BENCHMARKS = {"times": times, "answers": answers, "one_by_one": one_by_one}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHMARKS)
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            BENCHMARKS[name](Path(folder))


if __name__ == "__main__":
    main()
