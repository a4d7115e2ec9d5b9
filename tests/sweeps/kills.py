"""A small study, killed at random moments and gone on with by the same command.

    python -m tests.sweeps.kills 30        # seeds 0 .. 29, each in a folder of its own; on demand

Every seed fixes who is killed (a worker, the sweep, both), by which signal, when, and how often.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from analysis.read.runs import read_study
from tests.command_line import sweeps

ARGUMENTS = [
    "-m",
    "batch_size=1,4,16",
    "lr=0.01,0.05,0.2,50",
    "seed=range(0,3)",
    "optimizer=momentum",
    "budget.max_steps=6000",
    "relative_targets=[0.001]",
    "evaluation.ratio=1.2",
    "study.name=small",
    "hydra.launcher.stack_size=6",
    "hydra.launcher.workers=2",
    "checkpoint.interval_seconds=0.1",
]


def frames(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and curves by identity, without what differs between any two sweeps."""
    trials, curves = read_study("small", f"sqlite:///{folder}/mlflow.db")
    curves = curves.merge(trials[["run_id", "trial_id"]], on="run_id").drop(columns="run_id")
    own = [c for c in map(str, trials) if c in ("run_id", "sweep", "seconds")]
    trials = trials.drop(columns=own).sort_values("trial_id").reset_index(drop=True)
    return trials, curves.sort_values(["trial_id", "step"]).reset_index(drop=True)


def assert_equal_studies(folder: Path, other: Path) -> None:
    for left, right in zip(frames(folder), frames(other), strict=True):
        pd.testing.assert_frame_equal(left, right)


def statuses(folder: Path) -> set[str]:
    import sqlite3

    with sqlite3.connect(folder / "mlflow.db") as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall()
        rows = connection.execute("SELECT DISTINCT status FROM runs").fetchall() if made else []
    return {row[0] for row in rows}


def wait_for_writer(folder: Path) -> None:
    """After a SIGKILL of the sweep its writer finishes what stands in the journals."""
    deadline = time.monotonic() + 60
    while "RUNNING" in statuses(folder) and time.monotonic() < deadline:
        time.sleep(0.2)


def processes(folder: Path, parent: int, since: set[Path]) -> list[int]:
    """The workers that have begun a journal."""
    pids = []
    for path in set(folder.glob("runs/small/*.jsonl")) - since:
        first = path.read_bytes().split(b"\n")[0]
        pids += [json.loads(first)["pid"]] if first.endswith(b"}") else []
    return [pid for pid in pids if pid != parent]


def kill_once(folder: Path, moments: random.Random) -> str:
    """Start the study's sweep and kill it, or a part of it; what was done."""
    target = moments.choice(["worker", "sweep", "both"])
    name = moments.choice(["SIGKILL", "SIGTERM", "SIGINT"])
    wait_seconds = moments.uniform(0, 2.0)
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    before = set(folder.glob("runs/small/*.jsonl"))
    with (
        (folder / "out.txt").open("a") as out,
        subprocess.Popen(
            [sys.executable, "-m", "sweeps", *ARGUMENTS],
            cwd=folder,
            env=env,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        deadline = time.monotonic() + 60
        while not processes(folder, process.pid, before) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(wait_seconds)
        workers = processes(folder, process.pid, before)
        pids = {"worker": workers[:1], "sweep": [process.pid], "both": [process.pid, *workers]}
        for pid in pids[target]:
            try:
                os.kill(pid, getattr(signal, name))
            except ProcessLookupError:
                continue
        code = process.wait(timeout=120)
    return f"{name} to {target} after {wait_seconds:.2f} s: exit code {code}"


def survive(folder: Path, seed: int) -> list[str]:
    """Kill the study some times, then let it end undisturbed; what happened."""
    moments = random.Random(seed)
    happened = [kill_once(folder, moments) for _ in range(moments.choice([1, 1, 2]))]
    wait_for_writer(folder)
    done = sweeps(*ARGUMENTS, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    [counts] = [line for line in done.stdout.splitlines() if " trials: " in line][:1]
    assert "Traceback" not in (folder / "out.txt").read_text()
    assert statuses(folder) == {"FINISHED"} | (statuses(folder) & {"KILLED", "FAILED"})
    return [*happened, counts.partition("] ")[2].partition("trials: ")[2]]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        undisturbed = Path(name) / "undisturbed"
        undisturbed.mkdir()
        assert sweeps(*ARGUMENTS, cwd=undisturbed).returncode == 0
        for seed in range(int(sys.argv[1])):
            folder = Path(name) / str(seed)
            folder.mkdir()
            happened = survive(folder, seed)
            assert_equal_studies(folder, undisturbed)
            print(f"seed {seed}: {'; '.join(happened)}; equal", flush=True)


if __name__ == "__main__":
    main()
