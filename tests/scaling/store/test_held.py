"""What a database says of runs that MLflow's own API wrote is what that API says of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from scaling.store.held import HeldRun, held_points, held_runs
from tests.conftest import store_of

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]


@pytest.mark.parametrize("kind", KINDS)
def test_runs_written_by_mlflow(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    uri = store_of(kind, request, tmp_path)
    client = MlflowClient(uri)
    ours, others = (client.create_experiment(f"{name}-{time.time_ns()}") for name in "ab")
    ids = [client.create_run(experiment).info.run_id for experiment in (ours, ours, ours, others)]
    for n, run_id in enumerate(ids):
        points = [Metric(key, 1.0, 0, step) for key in ("loss", "lr") for step in range(n)]
        params = [Param(f"p{k}", "1") for k in range(n)]
        client.log_batch(run_id, points, params, [RunTag("kind", f"it's {n}"), RunTag("other", "")])
    client.delete_run(ids[2])
    client.set_terminated(ids[1], "FAILED")
    held = held_runs(uri, ours, ["kind", "outcome"])
    by_api = {
        run.info.run_id: HeldRun(
            run.info.status, {"kind": run.data.tags["kind"]}, len(run.data.params)
        )
        for run in client.search_runs([ours])
    }
    assert held == by_api
    assert {run.status for run in held.values()} == {"RUNNING", "FAILED"}
    assert held_points(uri, ours) == {ids[1]: 2}
