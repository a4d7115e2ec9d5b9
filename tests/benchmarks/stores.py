"""What each store costs: points per second into it, and the share of a study's training.

    python -m tests.benchmarks.stores points [SQLite] [PostgreSQL] [server] [api] [evaluations=300]
    python -m tests.benchmarks.stores share [overrides of the study, such as lr=0.01]

points: a record of 200 trials of 300 evaluations into a fresh SQLite file, PostgreSQL and an MLflow
server on this machine (loopback, nothing tuned); api: into each through MLflow's API. share:
colourization_small trained without a store, and its record written into a fresh one: what the
writing process does during a sweep, in processor seconds.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.record.journal import Journal
from scaling.result import TrialResult
from scaling.store import together
from scaling.store.client import Store
from scaling.store.sync import Sync
from tests.stores.servers import MlflowServer, Postgres

TRIALS, EVALUATIONS = 200, 300
SWEEP = {"study": "study", "name": "sweep", "note": "", "tags": {"host": "h", "directory": "d"}}


def write_record(folder: Path, trials: int = TRIALS, evaluations: int = EVALUATIONS) -> None:
    """A journal of trials, each with a loss and a train_loss at every evaluation."""
    result = TrialResult("reached", {0.5: "reached"}, {0.5: 2.0}, evaluations, 0.1, None, 0.25)
    params: dict[str, Any] = {f"section.key_{i}": i for i in range(40)} | {
        "batch_size": 4,
        "lr": 0.1,
    }
    params[schema.TARGETS] = [0.5]
    with Journal(folder / "1.jsonl", "study", SWEEP) as journal:
        for number in range(trials):
            fields = {"trial": number, "trial_id": f"id{number}", "name": f"seed={number}"}
            journal.write("trial", **fields, params=params, tags={}, config="batch_size: 4\n")
            for step in range(evaluations):
                loss = 1 / (1 + step)
                both = {"loss": [loss], "train_loss": [loss]}
                journal.write("evaluation", step=step, trials=[number], **both)
            journal.write("outcome", trial=number, **result.as_line())


def points_per_second(uri: str, folder: Path, evaluations: int) -> str:
    begin = time.perf_counter()
    store = Store(uri, "study")
    opened = time.perf_counter() - begin
    begin, used = time.perf_counter(), time.process_time()
    Sync(folder, store, uri).close("sweep", "FINISHED")
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    n_points = TRIALS * (3 * evaluations + 1)
    return (
        f"{n_points / seconds:8,.0f} points/s   {1000 * seconds / TRIALS:6.1f} ms a trial "
        f"({1000 * used / TRIALS:.1f} ms of the writer's processor)   opened in {opened:.1f} s"
    )


def points(folder: Path, words: list[str]) -> None:
    evaluations = next((int(w.partition("=")[2]) for w in words if "=" in w), EVALUATIONS)
    wanted = [name for name in STORES if name in words] or list(STORES)
    if "api" in words:
        together.has_tables = lambda uri: False
    print(f"{TRIALS} trials of {3 * evaluations + 1} points, 42 params, an artifact")
    for name in wanted:
        place = folder / name
        place.mkdir()
        write_record(place, evaluations=evaluations)
        uri, end = STORES[name](place)
        print(f"{name:12}{points_per_second(uri, place, evaluations)}", flush=True)
        end()


def open_sqlite(folder: Path) -> tuple[str, Callable[[], None]]:
    return f"sqlite:///{folder}/mlflow.db", lambda: None


def open_postgresql(_: Path) -> tuple[str, Callable[[], None]]:
    postgres = Postgres()
    return postgres.create("mlflow"), postgres.remove


def open_server(folder: Path) -> tuple[str, Callable[[], None]]:
    server = MlflowServer(folder)
    return server.uri, server.kill


STORES = {"SQLite": open_sqlite, "PostgreSQL": open_postgresql, "server": open_server}


def share(folder: Path, options: list[str]) -> None:
    """Processor seconds, which do not follow what else the machine does, and wall seconds."""
    here = "hydra.launcher.workers=0"  # the seconds of workers would not be counted
    study = ["-m", "study=colourization_small", here, *options]
    trained = timed(folder, "training without a store", "sweeps", *study, "tracking.uri=none")
    record = str(folder / "runs" / "colourization_small")
    written = timed(folder, "writing it into SQLite", "sweeps.sync", record)
    again = timed(folder, "the same again: starting, reading", "sweeps.sync", record)
    print(f"tracking: {100 * written / trained:.2f} % of the processor seconds of training, ")
    print(f"of these {100 * again / trained:.2f} % once for the start")


def timed(folder: Path, what: str, *command: str) -> float:
    """Processor seconds of a command and its processes; says them and the wall seconds."""
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root, root / "sweeps/plugins")))}
    env.pop("MLFLOW_TRACKING_URI", None)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what:36}{used:8.1f} s processor {wall:8.1f} s wall", flush=True)
    return used


def main() -> None:
    what, words = (sys.argv[1:2] or ["points"])[0], sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder:
        {"points": points, "share": share}[what](Path(folder), words)


if __name__ == "__main__":
    main()
