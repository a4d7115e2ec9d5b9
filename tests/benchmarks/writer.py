"""What MLflow costs: the writer's time for a trial, and the wall time that it adds to a sweep.

    python -m tests.benchmarks.writer [linear|added]

linear: the record of the linear-regression study (trained here first) into a fresh store.
added: 96 trials of more than a second each, one a worker on 2 workers, with a store and without
one; and 48 of them, to tell what a trial costs from what starting and ending cost once.
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
    *("-m", "batch_size=256", "lr=0.001,0.002,0.003,0.004,0.005,0.006"),
    *("budget.max_steps=6000", "relative_targets=[]", "study.name=added"),
    *("hydra.launcher.stack_size=1", "hydra.launcher.workers=2"),
]
SEEDS = (8, 16)


def linear(folder: Path) -> None:
    timed(folder, "sweeps", "-m", "study=linear_regression_grid", "tracking.uri=none")
    record = str(folder / "runs" / "linear_regression_grid")
    begin = time.perf_counter()
    timed(folder, "sweeps.sync", record)
    first = time.perf_counter() - begin
    empty = timed(folder, "sweeps.sync", record)  # opens, reads, has nothing to write
    each = 1000 * (first - empty) / TRIALS
    print(f"writer: {each:.1f} ms per trial of the linear study ({first:.1f} s, {empty:.1f} empty)")


def added(folder: Path) -> None:
    wall: dict[tuple[str, int], float] = {}
    for n_seeds in SEEDS:
        seconds: dict[str, list[float]] = {"with": [], "without": []}
        for repeat in range(3):
            for name in seconds:
                place = folder / f"{name}{n_seeds}-{repeat}"
                place.mkdir()
                uri = f"sqlite:///{place}/mlflow.db" if name == "with" else "none"
                arguments = [*ADDED, f"seed=range(0,{n_seeds})", f"tracking.uri={uri}"]
                seconds[name].append(timed(place, "sweeps", *arguments))
        for name, values in seconds.items():
            wall[name, n_seeds] = statistics.median(values)
        ratio = 100 * (wall["with", n_seeds] / wall["without", n_seeds] - 1)
        print(
            f"{6 * n_seeds} trials: {wall['with', n_seeds]:.1f} s with a store, "
            f"{wall['without', n_seeds]:.1f} s without: {ratio:+.1f} % (medians of 3)",
            flush=True,
        )
    few, many = SEEDS
    more = {name: wall[name, many] - wall[name, few] for name in ("with", "without")}
    each = more["without"] / (6 * (many - few)) * 2
    print(
        f"a further trial of {each:.2f} s on one of 2 workers: "
        f"{100 * (more['with'] / more['without'] - 1):+.1f} %; the rest is starting and ending once"
    )


def main() -> None:
    for name in sys.argv[1:] or ["linear", "added"]:
        with tempfile.TemporaryDirectory() as folder:
            {"linear": linear, "added": added}[name](Path(folder))


if __name__ == "__main__":
    main()
