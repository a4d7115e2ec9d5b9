"""What MLflow costs: the writer's time for a trial, and the wall time that it adds to a sweep.

    python -m tests.benchmarks.writer [linear|added]

linear: the record of the linear-regression study (trained here first) into a fresh store.
added: 48 trials of more than a second each, one a worker, with a store and without one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.linear_regression import timed

TRIALS = 1664
ADDED = [
    *("-m", "batch_size=256", "lr=0.001,0.002,0.003,0.004,0.005,0.006", "seed=range(0,8)"),
    *("budget.max_steps=6000", "relative_targets=[]", "study.name=added"),
    *("hydra.launcher.stack_size=1", "hydra.launcher.workers=2"),
]


def linear(folder: Path) -> None:
    timed(folder, "sweeps", "-m", "study=linear_regression", "tracking.uri=none")
    record = str(folder / "runs" / "linear_regression")
    begin = time.perf_counter()
    timed(folder, "sweeps.sync", record)
    first = time.perf_counter() - begin
    empty = timed(folder, "sweeps.sync", record)  # opens, reads, has nothing to write
    each = 1000 * (first - empty) / TRIALS
    print(f"writer: {each:.1f} ms per trial of the linear study ({first:.1f} s, {empty:.1f} empty)")


def added(folder: Path) -> None:
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for repeat in range(3):
        for name, uri in (("with", f"sqlite:///{folder}/{repeat}.db"), ("without", "none")):
            place = folder / f"{name}{repeat}"
            place.mkdir()
            seconds[name].append(timed(place, "sweeps", *ADDED, f"tracking.uri={uri}"))
    with_store, without = (statistics.median(seconds[name]) for name in ("with", "without"))
    per_trial = 2 * without / 48
    print(
        f"48 trials of about {per_trial:.1f} s on 2 workers: {with_store:.1f} s with a store, "
        f"{without:.1f} s without: {100 * (with_store / without - 1):+.1f} % (medians of 3)"
    )


def main() -> None:
    for name in sys.argv[1:] or ["linear", "added"]:
        with tempfile.TemporaryDirectory() as folder:
            {"linear": linear, "added": added}[name](Path(folder))


if __name__ == "__main__":
    main()
