"""One small study, trained while its store or its processes are killed; what must stand there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.stores.rows import OF_STUDY, query
from tests.stores.servers import wait_until

SWEPT = ["batch_size=1,4,16", "lr=0.01,0.05", "seed=range(0,6)"]
TRIALS = 36
FIXED = [
    "optimizer=momentum",
    "relative_targets=[]",
    "evaluation.ratio=1.2",
    "hydra.launcher.workers=2",
    "hydra.launcher.stack_size=1",
    "hydra.launcher.retries=20",
    "checkpoint.interval_seconds=0.2",
]


@contextmanager
def sweep(
    folder: Path, uri: str, study: str, *more: str, steps: int = 6000
) -> Iterator[subprocess.Popen]:
    """The study's command, its output in `folder`/out.txt; killed at the end if it still runs."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "sweeps", "-m", *SWEPT, *FIXED, f"budget.max_steps={steps}"]
    command += [f"study.name={study}", f"tracking.uri={uri}", *more]
    with (folder / "out.txt").open("a") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def output(folder: Path) -> str:
    return (folder / "out.txt").read_text()


def lines_of(folder: Path, study: str) -> list[tuple[str, dict[str, Any]]]:
    """Every whole line of the study's journals, each with its journal's name."""
    lines = []
    for path in sorted((folder / "runs" / study).glob("*.jsonl")):
        whole = path.read_bytes().split(b"\n")[:-1]
        lines += [(path.name, json.loads(line)) for line in whole]
    return lines


def recorded(folder: Path, study: str) -> set[tuple[str, int, float]]:
    """(trial_id, step, loss) of every evaluation that a journal has taken."""
    names, points = {}, set()
    for journal, line in lines_of(folder, study):
        if line["record"] == "trial":
            names[journal, line["trial"]] = line["trial_id"]
        if line["record"] == "evaluation":
            for number, loss in zip(line["trials"], line["loss"], strict=True):
                points.add((names[journal, number], line["step"], loss))
    return points


def stored(uri: str, study: str) -> Counter[tuple[str, int, float]]:
    """(trial_id, step, loss) of every point of `loss` in the database, and how often."""
    statement = (
        "SELECT t.value, m.step, m.value FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid "
        f"JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'trial_id' {OF_STUDY} "
        "AND m.key = 'loss'"
    )
    return Counter((name, step, value) for name, step, value in query(uri, statement, study=study))


def acknowledged(folder: Path, study: str) -> dict[str, set[int]]:
    """The steps of each trial that the store has taken, as the writer noted them."""
    steps: dict[str, set[int]] = {}
    for path in (folder / "runs" / study).glob("synced-*.json_lines"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            content = json.loads(line)
            if "steps" in content:
                steps.setdefault(content["trial_id"], set()).update(content["steps"])
    return steps


def assert_complete(folder: Path, uri: str, study: str) -> None:
    """Every recorded point stands in the store once, in one finished run a trial."""
    points = stored(uri, study)
    assert set(points) == recorded(folder, study)
    assert set(points.values()) == {1}
    runs = query(
        uri,
        "SELECT t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
        f"AND t.key = 'trial_id' {OF_STUDY}",
        study=study,
    )
    assert len(runs) == len({trial for trial, _ in runs}) == TRIALS
    assert {status for _, status in runs} == {"FINISHED"}
    kinds = query(
        uri,
        f"SELECT r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'kind' "
        f"AND t.value = 'sweep' {OF_STUDY}",
        study=study,
    )
    assert "RUNNING" not in {status for (status,) in kinds}


def nothing_failed(folder: Path, study: str) -> bool:
    return not any(line["record"] == "failure" for _, line in lines_of(folder, study))


def writer_of(process: subprocess.Popen) -> psutil.Process | None:
    """The process that holds the study's writer.lock."""
    try:
        for child in psutil.Process(process.pid).children(recursive=True):
            if any(file.path.endswith("/writer.lock") for file in child.open_files()):
                return child
    except psutil.Error:
        pass
    return None


def worker_of(folder: Path, study: str, process: subprocess.Popen) -> psutil.Process | None:
    """A process that has begun a journal and trains."""
    pids = [line["pid"] for _, line in lines_of(folder, study) if line["record"] == "journal"]
    for pid in reversed(pids):
        if pid not in (process.pid, os.getpid()) and psutil.pid_exists(pid):
            return psutil.Process(pid)
    return None


def wait_for_trials(folder: Path, study: str, process: subprocess.Popen) -> None:
    def trains() -> bool:
        assert process.poll() is None, output(folder)
        return any(line["record"] == "evaluation" for _, line in lines_of(folder, study))

    wait_until(trains, "the first evaluation")
