"""Folders of runs: python -m tests.benchmarks.folders [n_runs]

Reads n_runs (10,000) runs of 100 evaluations from event files of TensorBoard, from W&B's histories
in parquet and from CSV files, each in a process of its own: seconds, peak memory, and what came.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from analysis.read.folder.read import read_folder
from tests.analysis.read.folder import planted
from tests.analysis.read.folder.planted import PATTERN, Run

N_EVALUATIONS = 100
FORMATS: dict[str, Callable[[Path], None]] = {
    "tensorboard": planted.tensorboard_once,
    "wandb_history": planted.wandb_history,
    "csv": planted.plain,
}


def read(folder: Path, sending: object) -> None:
    """In a process of its own: what was read, how long it took, and its peak memory in GiB."""
    start = time.perf_counter()
    trials, curves = read_folder(folder, name_pattern=PATTERN)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sending.send((len(trials), len(curves), seconds, memory))  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    n_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    planted.RUNS[:] = [
        Run(4 ** (i % 5 + 1), round(0.01 * 1.1 ** (i // 5 % 40), 4), i // 200)
        for i in range(n_runs)
    ]
    planted.STEPS = tuple(range(1, N_EVALUATIONS + 1))
    print(f"{'format':16s}{'runs':>8s}{'points':>11s}{'seconds':>9s}{'GiB':>6s}")
    for kind, write in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            receiving, sending = get_context("spawn").Pipe()
            process = get_context("spawn").Process(target=read, args=(Path(folder), sending))
            process.start()
            sending.close()  # so that a process that died is noticed
            n_trials, n_points, seconds, memory = receiving.recv()
            process.join()
        assert (n_trials, n_points) == (n_runs, n_runs * N_EVALUATIONS)
        print(f"{kind:16s}{n_trials:8,d}{n_points:11,d}{seconds:9.1f}{memory:6.2f}", flush=True)


if __name__ == "__main__":
    main()
