"""How soon MLflow's table of runs shows the first rows of a large study.

    python -m tests.benchmarks.ui [trials]

A study of 1,500 trials of 60 evaluations in SQLite is served on loopback and opened in a headless
Chromium: the page as it opens, and the view "trials" (by loss, only trials). Seconds from the
navigation to the first row, in a new browser and then again, after the server has been used once.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient

from scaling import schema
from scaling.store.views import view_tags
from tests.benchmarks.reading import NAME, make_store
from tests.browser import mlflow_server, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVALUATIONS = 60
VISITS = 5
ROW = re.compile(r"^t\d+$")
RUNS = "/#/experiments/{}/runs?workflowType=machine_learning"
PAGES = {"no view": "", "view trials": f"&viewStateShareKey={schema.VIEW_TRIALS}"}


def first_row_seconds(page: Page, address: str) -> float:
    page.goto("about:blank")  # else only what comes after the # changes
    started = time.perf_counter()
    page.goto(address)
    page.get_by_text(ROW).first.wait_for()
    return time.perf_counter() - started


def main() -> None:
    n_trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        uri = make_store(folder, n_trials, EVALUATIONS)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(NAME)
        assert experiment is not None
        params = [{"batch_size": size, "lr": 0.1, "seed": 0} for size in (1, 2)]
        for key, value in view_tags(params, []).items():
            client.set_experiment_tag(experiment.experiment_id, key, value)
        with mlflow_server(uri, folder) as address:
            runs = address + RUNS.format(experiment.experiment_id)
            with open_browser(folder / "warm") as page:
                first_row_seconds(page, runs)
            for name, view in PAGES.items():
                with open_browser(folder / name) as page:
                    first, *again = [first_row_seconds(page, runs + view) for _ in range(VISITS)]
                spread = f"{min(again):.2f} to {max(again):.2f} s"
                load = os.getloadavg()[0]
                print(f"{name}: new browser {first:.2f} s, then {spread} (load {load:.1f})")


if __name__ == "__main__":
    main()
