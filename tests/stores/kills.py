"""SIGKILL to workers, writer and sweep of one study at random moments, on a real store.

python -m tests.stores.kills sqlite 100      # or postgresql, http; kills, on demand
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.stores.servers import MlflowServer, Postgres
from tests.stores.sweeping import (
    acknowledged,
    assert_complete,
    nothing_failed,
    output,
    stored,
    sweep,
    wait_for_trials,
    worker_of,
    writer_of,
)

STEPS = 10_000  # of a trial: long enough to be killed in
OF_TEN = ["worker"] * 4 + ["writer"] * 5 + ["sweep"]


def assert_nothing_lost(uri: str, study: str, noted: dict[str, set[int]]) -> None:
    """What the store had acknowledged before it was asked stands there."""
    points = stored(uri, study)
    steps = {(trial, step) for trial, step, _ in points}
    assert set(points.values()) <= {1}
    assert {(trial, step) for trial, known in noted.items() for step in known} <= steps


def kill_and_complete(folder: Path, uri: str, study: str, seed: int) -> list[str]:
    """Kill ten times in one study, check after each, then let it end; who was killed."""
    moments = random.Random(seed)
    targets = moments.sample(OF_TEN, len(OF_TEN))
    left = list(targets)
    while left:
        with sweep(folder, uri, study, steps=STEPS) as process:
            wait_for_trials(folder, study, process)
            while left and process.poll() is None:
                time.sleep(moments.uniform(0.1, 1.0))
                kill_one(folder, uri, study, left, process)
            process.wait()
    with sweep(folder, uri, study, steps=STEPS) as process:
        assert process.wait() == 0, output(folder)
    assert nothing_failed(folder, study)
    assert_complete(folder, uri, study)
    return targets


def kill_one(
    folder: Path, uri: str, study: str, left: list[str], process: subprocess.Popen
) -> None:
    """Kill the next one, if it is there: a writer may still be taking the place of another."""
    noted = acknowledged(folder, study)
    if left[0] == "sweep":
        victim = psutil.Process(process.pid)
    else:
        victim = writer_of(process) if left[0] == "writer" else worker_of(folder, study, process)
    if victim is None or process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        victim.kill()
        left.pop(0)
        assert_nothing_lost(uri, study, noted)


def main() -> None:
    kind, n_kills = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri, server = f"sqlite:///{folder}/mlflow.db", None
        if kind == "postgresql":
            server = Postgres()
            uri = server.create("mlflow")
        if kind == "http":
            server = MlflowServer(folder)
            uri = server.uri
        for seed in range(-(-n_kills // 10)):
            place = folder / str(seed)
            killed = kill_and_complete(place, uri, f"study{seed}", seed)
            print(f"{kind}, seed {seed}: {', '.join(killed)}: complete, once", flush=True)
        if isinstance(server, Postgres):
            server.remove()
        if isinstance(server, MlflowServer):
            server.kill()


if __name__ == "__main__":
    main()
