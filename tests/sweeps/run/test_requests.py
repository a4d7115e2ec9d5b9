"""The newest request is what one sees in MLflow, also where it trains nothing."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from tests.command_line import sweeps

ARGUMENTS = [
    *("-m", "batch_size=2,8", "lr=0.05,0.2", "task.dimension=8", "study.name=asked"),
    *("hydra.launcher.workers=0", "evaluation.ratio=1.2"),
]
SHORT = [*ARGUMENTS, "budget.max_steps=300", "relative_targets=[0.1]"]


def runs(folder: Path) -> dict[str, Run]:
    """The trials' runs by identity."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("asked")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    return {run.data.tags["trial_id"]: run for run in found}


def points(folder: Path, run_id: str) -> list[tuple[str, int, float]]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    run = client.get_run(run_id)
    return sorted(
        (key, metric.step, metric.value)
        for key in run.data.metrics
        for metric in client.get_metric_history(run_id, key)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    done = sweeps(*SHORT, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_easier_target_is_seen_without_training(trained: Path) -> None:
    before = runs(trained)
    curves = {key: points(trained, run.info.run_id) for key, run in before.items()}
    done = sweeps(*SHORT[:-1], "relative_targets=[0.5]", cwd=trained)
    assert "4 trials: 4 finished before" in done.stdout, done.stderr
    after = runs(trained)
    assert {key: run.info.run_id for key, run in after.items()} == {
        key: run.info.run_id for key, run in before.items()
    }
    for key, run in after.items():
        tags, old = run.data.tags, before[key].data.tags
        assert tags["relative_targets"] == "[0.5]"
        assert tags["targets"] != old["targets"]
        assert tags["outcome"] == "reached"
        assert (tags["host"], tags["pid"]) == (old["host"], old["pid"])  # where it trained
        assert run.data.params == before[key].data.params
        assert run.info.status == "FINISHED"
        assert run.info.end_time == before[key].info.end_time
        new = [one for one in points(trained, run.info.run_id) if one not in curves[key]]
        assert [one[0].partition("/")[0] for one in new] == ["steps_to_target"]


def test_the_same_request_again_writes_nothing(trained: Path) -> None:
    sweeps(*SHORT, cwd=trained)
    journals = set(trained.glob("runs/asked/*.jsonl"))
    curves = {key: points(trained, run.info.run_id) for key, run in runs(trained).items()}
    done = sweeps(*SHORT, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert set(trained.glob("runs/asked/*.jsonl")) == journals
    after = runs(trained)
    assert {key: points(trained, run.info.run_id) for key, run in after.items()} == curves
    assert {run.data.tags["relative_targets"] for run in after.values()} == {"[0.1]"}


def test_a_harder_request_goes_on_from_there(trained: Path) -> None:
    """What was only asked for is no training: curves and points stand once."""
    done = sweeps(*SHORT, "budget.max_steps=600", "relative_targets=[1e-9]", cwd=trained)
    assert done.returncode == 0, done.stderr
    for run in runs(trained).values():
        found = points(trained, run.info.run_id)
        assert len({(key, step) for key, step, _ in found}) == len(found)
        assert run.data.tags["budget.max_steps"] == "600"
        assert run.data.tags["last_step"] == "600"


def test_the_record_alone_makes_the_same_store(trained: Path, tmp_path: Path) -> None:
    from tests.command_line import run

    uri = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    done = run("sweeps.sync", str(trained / "runs" / "asked"), uri, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rebuilt, first = runs(tmp_path), runs(trained)
    assert rebuilt.keys() == first.keys()
    for key, one in rebuilt.items():
        assert one.data.tags["targets"] == first[key].data.tags["targets"]
        assert one.data.params == first[key].data.params
        loss = [p for p in points(tmp_path, one.info.run_id) if p[0] == "loss"]
        assert loss == [p for p in points(trained, first[key].info.run_id) if p[0] == "loss"]
