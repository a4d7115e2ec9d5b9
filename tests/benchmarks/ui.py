"""How soon MLflow's table of runs shows the first rows of a large study.

    python -m tests.benchmarks.ui [trials]

A study of 1,500 trials of 60 evaluations, as a sweep writes it, is served from SQLite on loopback
and opened in a headless Chromium: the view "trials" and the page without a view. Seconds from the
navigation to the first row, in a new browser, then again; a server just started is warmed first.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from scaling import schema
from scaling.journal import Journal
from scaling.result import TrialResult
from scaling.sync import Sync
from scaling.tracking import Store
from tests.browser import mlflow_server, open_browser

EVALUATIONS = 60
SWEEP = {"study": "large", "name": "sweep", "title": "sweep of many trials", "note": "", "tags": {}}
ROW = re.compile(r"^B=\d+ lr=\d")
PAGES = {
    "view trials": f"/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey="
    f"{schema.VIEW_TRIALS}",
    "no view": "/#/experiments/1/runs?workflowType=machine_learning",
}


def write_journal(folder: Path, n_trials: int) -> None:
    """Trials of 15 batch sizes, 20 learning rates and 5 seeds (or the first of these)."""
    tags = {"host": "here", "directory": str(folder), "versions": "none"}
    with Journal(folder / "1.jsonl", "large", {**SWEEP, "tags": tags}) as journal:
        for number in range(n_trials):
            size, lr, seed = 2 ** (number % 15), 0.01 * 1.3 ** (number // 15 % 20), number // 300
            setting = f"B={size} lr={lr:.4g}"
            params = {
                "batch_size": size,
                "lr": lr,
                "seed": seed,
                "targets": [0.5],
                "task.name": "x",
            }
            params |= {f"task.field_{i}": i for i in range(25)}
            journal.write(
                "trial", trial=number, trial_id=f"id{number}", name=f"{setting} seed={seed}",
                params=params, tags={schema.SETTING: setting}, config="batch_size: 1\n",
            )  # fmt: skip
            for step in range(EVALUATIONS):
                loss = [1 / (1 + step * lr)]
                journal.write("evaluation", step=step, trials=[number], loss=loss, train_loss=loss)
            result = TrialResult(
                "reached", {0.5: "reached"}, {0.5: 9.0}, EVALUATIONS, 0.1, None, 1.0
            )
            journal.write("outcome", trial=number, **result.as_line())
        journal.write("end", status="FINISHED")


def first_row_seconds(page, address: str) -> float:
    started = time.perf_counter()
    page.goto(address)
    row = page.get_by_text(ROW).or_(page.get_by_text("sweep of many trials")).first
    row.wait_for()
    return time.perf_counter() - started


def main() -> None:
    n_trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "record").mkdir()
        write_journal(folder / "record", n_trials)
        uri = f"sqlite:///{folder}/mlflow.db"
        started = time.perf_counter()
        Sync(folder / "record", Store(uri, "large"), uri).close("sweep", "FINISHED")
        written = time.perf_counter() - started
        load = os.getloadavg()[0]
        print(f"{n_trials:,} trials written in {written:.1f} s (load {load:.1f})", flush=True)
        with mlflow_server(uri, folder) as address:
            with open_browser(folder / "warm") as page:
                seconds = first_row_seconds(page, address + PAGES["no view"])
                print(f"server just started: {seconds:.2f} s")
            for name, place in PAGES.items():
                with open_browser(folder / name) as page:
                    seconds = [first_row_seconds(page, address + place)]
                    for _ in range(4):
                        page.goto("about:blank")
                        seconds.append(first_row_seconds(page, address + place))
                again = sorted(seconds[1:])
                print(f"{name}: first {seconds[0]:.2f} s, then {again[0]:.2f} to {again[-1]:.2f} s")


if __name__ == "__main__":
    main()
