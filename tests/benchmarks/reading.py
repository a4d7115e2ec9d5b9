"""python -m tests.benchmarks.reading [n_runs] [n_evaluations]: read many trials, report on them.

Makes a store with MLflow's own schema and this many finished trials (10,000 of 100 evaluations of
3 metrics), inserted by SQL; reads it by SQL, and 2 % of it (or what the third argument says) by
MLflow's client; prints times and checks that every point arrived. Then the whole report.
"""

from __future__ import annotations

import math
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from scaling.schema import KIND, LAST_STEP, OUTCOME, SECONDS, STUDY, SWEEP, TARGETS, TRIAL_ID

NAME = "many"
MIN_STEPS, MIN_EXAMPLES, TARGET_LOSSES = 200.0, 20_000.0, (0.3, 0.2)
SIZES = [2**k for k in range(1, 15)]
N_LRS = 15
_START = 1_700_000_000_000


def make_store(folder: Path, n_runs: int, n_evaluations: int, study: str = NAME) -> str:
    """A SQLite store with n_runs finished trials; its URI."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    number = int(client.create_experiment(study, artifact_location=(folder / "a").as_uri()))
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("PRAGMA synchronous = OFF")
        for i in range(n_runs):
            _insert_trial(database, number, i, n_runs, n_evaluations, study)
    database.close()
    return uri


def _insert_trial(
    database: sqlite3.Connection, number: int, i: int, n_runs: int, n_evaluations: int, study: str
) -> None:
    run_id = f"{i:032x}"
    size = SIZES[i % len(SIZES)]
    lr = 0.01 * 1.3 ** (i // len(SIZES) % N_LRS)
    seed = i // (len(SIZES) * N_LRS)
    best_lr = 0.3 / (1 + 100 / size)
    scale = (MIN_STEPS + MIN_EXAMPLES / size) * (1 + math.log(lr / best_lr) ** 2) / 10
    steps = np.unique(np.geomspace(1, 60 * scale, 3 * n_evaluations).astype(int))
    steps = steps[np.linspace(0, len(steps) - 1, n_evaluations - 1).astype(int)]
    steps = np.concatenate([[0], np.unique(steps)])
    noise = np.random.default_rng(i).normal(0, 0.02, len(steps))
    loss = (1 + steps / scale) ** -0.5 * np.exp(noise * (steps > 0))
    end = _START + 1000 * i
    database.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id,"
        " status, start_time, end_time, source_version, lifecycle_stage, artifact_uri,"
        " experiment_id) VALUES (?, ?, 'LOCAL', '', '', '', 'FINISHED', ?, ?, '', 'active', ?, ?)",
        (run_id, f"t{i}", end - 1000, end, f"file:///tmp/{run_id}", number),
    )
    params = {
        "batch_size": size, "lr": lr, "seed": seed, "model_size": 64.0, "irreducible_loss": 0.0,
        "initial_loss": 1.0, TARGETS: list(TARGET_LOSSES), "optimizer.name": "sgd",
    }  # fmt: skip
    tags = {
        KIND: "trial", TRIAL_ID: f"{i}", STUDY: study, SWEEP: "one", OUTCOME: "reached",
        LAST_STEP: steps[-1], SECONDS: 0.1,
    }  # fmt: skip
    for table, content in (("params", params), ("tags", tags)):
        rows = [(key, str(value), run_id) for key, value in content.items()]
        database.executemany(f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)", rows)
    curves = {"loss": loss, "train_loss": loss, "examples": steps * float(size)}
    points = [
        (key, float(value), end, run_id, int(step), 0)
        for key, values in curves.items()
        for step, value in zip(steps, values, strict=True)
    ]
    columns = "(key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)"
    database.executemany(f"INSERT INTO metrics {columns}", points)
    last = [points[len(steps) * (k + 1) - 1] for k in range(len(curves))]
    database.executemany(f"INSERT INTO latest_metrics {columns}", last)


def expected_points(uri: str, n_runs: int) -> int:
    """Points of the metric `loss` in the first n_runs runs, counted by SQLite itself."""
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        return database.execute(
            "SELECT count(*) FROM metrics WHERE key = 'loss' AND run_uuid < ?", (f"{n_runs:032x}",)
        ).fetchone()[0]


def main(n_runs: int = 10_000, n_evaluations: int = 100, by_client: int | None = None) -> None:
    from analysis.read.runs import read_study, tidy
    from analysis.read.store_client import read_client

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        uri = make_store(folder, n_runs, n_evaluations)
        print(f"store of {n_runs:,} trials made in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        trials, curves = read_study(NAME, uri)
        seconds = time.perf_counter() - started
        print(f"SQL: {len(trials):,} trials, {len(curves):,} evaluations in {seconds:.1f} s")
        assert len(curves) == expected_points(uri, n_runs)
        few = by_client or n_runs // 50
        part = folder / "part"
        part.mkdir()
        part_uri = make_store(part, few, n_evaluations)
        started = time.perf_counter()
        trials, curves = tidy(read_client(NAME, part_uri), NAME)
        seconds = time.perf_counter() - started
        print(f"client: {len(trials):,} trials, {len(curves):,} evaluations in {seconds:.1f} s")
        assert len(curves) == expected_points(part_uri, few)
        started = time.perf_counter()
        command = [sys.executable, "-m", "analysis", f"study={NAME}", f"tracking_uri={uri}"]
        subprocess.run([*command, f"output_dir={folder / 'out'}", "attach=false"], check=True)
        print(f"whole report: {time.perf_counter() - started:.1f} s")
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"its memory: {memory:,.0f} MiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
