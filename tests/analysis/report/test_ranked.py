"""What a report leaves on its sweep's own run, by which studies are ranked in MLflow."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis import StudyResult
from analysis.report.attach import _log_fits, _log_frontiers, fitted_points, shown_of
from scaling import schema
from tests.analysis.conftest import STUDY_NAME


@pytest.fixture
def client(small_store: str, tmp_path: Path) -> MlflowClient:
    shutil.copy(small_store.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def sweep_of(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name(STUDY_NAME)
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    return run.info.run_id


def test_fits_and_grid(client: MlflowClient, small_result: StudyResult) -> None:
    run_id = sweep_of(client)
    _log_fits(client, run_id, shown_of(small_result))
    data = client.get_run(run_id).data
    identified = [fit for fit in small_result.fits if fit.critical_batch_size is not None]
    assert identified
    for fit in identified:
        label = f"{fit.target_loss:.6g}"
        assert data.metrics[f"critical_batch_size/{label}"] == pytest.approx(
            fit.critical_batch_size
        )
        assert data.metrics[f"min_steps/{label}"] == pytest.approx(fit.min_steps)
        assert data.metrics[f"min_examples/{label}"] == pytest.approx(fit.min_examples)
    assert data.params["grid.batch_size"] == "1, 4, 16, 64, 256, 1024"
    assert data.params["grid.seed"] == "0, 1"
    assert schema.GRID not in data.tags


def test_a_study_that_grew(client: MlflowClient, small_result: StudyResult) -> None:
    """A param cannot be written anew: the tag has the whole grid, the metrics the newest fit."""
    run_id = sweep_of(client)
    few = small_result.trials[small_result.trials["seed"] == 0]
    _log_fits(client, run_id, shown_of(replace(small_result, trials=few)))
    _log_fits(client, run_id, shown_of(small_result))
    data = client.get_run(run_id).data
    assert data.params["grid.seed"] == "0"
    assert "seed: 0, 1" in data.tags[schema.GRID]


def test_what_is_not_known_any_more_is_not_a_number(
    client: MlflowClient, small_result: StudyResult
) -> None:
    run_id = sweep_of(client)
    _log_fits(client, run_id, shown_of(small_result))
    unknown = [replace(fit, critical_batch_size=None) for fit in small_result.fits]
    _log_fits(client, run_id, shown_of(replace(small_result, fits=unknown)))
    metrics = client.get_run(run_id).data.metrics
    shown = {key: value for key, value in metrics.items() if key.startswith("critical")}
    assert shown
    assert all(math.isnan(value) for value in shown.values())
    assert any(math.isfinite(value) for value in metrics.values())


def test_frontier_runs_of_a_killed_report_are_made_again(
    client: MlflowClient, small_result: StudyResult
) -> None:
    """It was killed between the creation of such a run and its points."""
    parent = sweep_of(client)
    experiment = client.get_run(parent).info.experiment_id

    def reports() -> dict[str, tuple[str, int]]:
        runs = client.search_runs([experiment], "tags.kind = 'report'")
        return {str(r.info.run_name): (r.info.status, len(r.data.metrics)) for r in runs}

    _log_frontiers(client, experiment, parent, shown_of(small_result))
    whole = reports()
    [first, *_] = client.search_runs([experiment], "tags.kind = 'report'")
    client.delete_run(first.info.run_id)
    tags = {key: value for key, value in first.data.tags.items() if "runName" not in key}
    name = str(first.info.run_name)
    client.create_run(experiment, tags=tags, run_name=name)
    assert reports()[name] == ("RUNNING", 0)
    _log_frontiers(client, experiment, parent, shown_of(small_result))
    assert reports() == whole


def test_what_is_not_known_is_no_metric(small_result: StudyResult) -> None:
    unknown = replace(small_result.fits[0], critical_batch_size=None, min_steps=float("inf"))
    points = fitted_points(replace(small_result, fits=[unknown]))
    assert [name.partition("/")[0] for name in points] == ["min_examples"]


def test_groups_stand_in_the_name() -> None:
    name = schema.fitted_metric("min_steps", 0.5, "adam, num_filters = 8")
    assert name == "min_steps/0.5/adam num_filters 8"
