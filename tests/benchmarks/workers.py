"""Training throughput of two worker processes against one, with networks.

    python -m tests.benchmarks.workers

The same trials (conv_transpose, 8 filters) by one worker and by two, in turn; a worker's time is
from the first trial's start to the last one's end in the journals, so starting processes and
opening stores is left out; whole commands are printed as well. Medians of 3.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.linear_regression import timed

TRIALS = [
    *("-m", "task=colourization", "optimizer=adam", "model.num_filters=8", "data.side=16"),
    *("batch_size=32", "lr=0.002,0.004", "seed=range(0,4)", "budget.max_steps=500"),
    *("evaluation.every_step_until=1", "evaluation.ratio=5"),
    *("relative_targets=[]", "tracking.uri=none", "picture_ratio=null", "study.name=speed"),
]
ROUNDS = 3


def training_seconds(folder: Path) -> float:
    """From the first record of a trial to the last outcome, over all journals."""
    times = [
        record["time"]
        for path in folder.glob("runs/speed/*.jsonl")
        for record in map(json.loads, path.read_text().splitlines())
        if record["record"] in ("trial", "outcome")
    ]
    return max(times) - min(times)


def main() -> None:
    training: dict[int, list[float]] = {1: [], 2: []}
    whole: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers in training:
            with tempfile.TemporaryDirectory() as name:
                arguments = [*TRIALS, f"hydra.launcher.workers={workers}"]
                whole[workers].append(timed(Path(name), "sweeps", *arguments))
                training[workers].append(training_seconds(Path(name)))
    for what, seconds in (("training", training), ("whole command", whole)):
        ratio = statistics.median(a / b for a, b in zip(seconds[1], seconds[2], strict=True))
        one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
        print(f"{what}: {one:.1f} s with 1 worker, {two:.1f} s with 2: {ratio:.2f} times")


if __name__ == "__main__":
    main()
