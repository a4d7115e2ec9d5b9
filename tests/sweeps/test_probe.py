"""The probe: a step of each shape timed alone, found again by the analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis import analyse
from analysis.read.runs import read_study
from scaling.schema import KIND, STEP_SECONDS
from scaling.trial import prepare
from sweeps.probe import BLOCKS, LEAST_BLOCK_STEPS, WARM_UP_STEPS, distinct_shapes, time_steps
from tests.command_line import sweeps
from tests.scaling.trials import regression_trial

GRID = (
    "-m", "task.dimension=8", "batch_size=1,16,256", "lr=0.1,0.3", "seed=0,1",
    "relative_targets=[0.3]", "budget.max_steps=100", "study.name=probed",
)  # fmt: skip


def test_one_trial_of_each_shape_is_timed_that_of_the_smallest_lr() -> None:
    configs = [
        regression_trial(batch_size=size, lr=lr, seed=seed)
        for size in (4, 16) for lr in (0.3, 0.1, 0.2) for seed in (0, 1)
    ]  # fmt: skip
    trials = prepare(configs)
    chosen = [trials[number].config for number in distinct_shapes(trials)]
    assert sorted((config.batch_size, config.lr) for config in chosen) == [(4, 0.1), (16, 0.1)]


def test_blocks_of_steps() -> None:
    (trial,) = prepare([regression_trial(batch_size=4, lr=0.1)])
    blocks = time_steps(trial)
    steps = np.array([step for step, _ in blocks])
    assert len(blocks) == BLOCKS
    assert steps[0] >= WARM_UP_STEPS + LEAST_BLOCK_STEPS
    assert (np.diff(steps) >= LEAST_BLOCK_STEPS).all()
    assert all(0 < seconds < 1 for _, seconds in blocks)


@pytest.mark.long
def test_a_probe_gives_a_study_of_stacks_its_seconds(tmp_path: Path) -> None:
    done = sweeps(*GRID, "sweep.probe=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("probed")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.{KIND} = 'probe'")
    assert {run.data.params["batch_size"] for run in runs} == {"1", "16", "256"}
    assert len(runs) == 3
    assert sweeps(*GRID, cwd=tmp_path).returncode == 0
    trials, curves = read_study("probed", uri)
    assert len(trials) == 12
    assert len(trials.attrs["probes"]) == 3
    result = analyse(trials, curves, n_bootstrap=20)
    assert result.frames["step_time"]["batch_size"].tolist() == [1, 16, 256]
    assert result.frames["step_time"]["n_trials"].tolist() == [BLOCKS] * 3
    assert len(result.frames["time_to_target"])
    least = next(p for p in trials.attrs["probes"] if p["batch_size"] == 1)[STEP_SECONDS]
    assert result.frames["step_time"]["step_seconds"].iloc[0] == np.median(least)


def test_a_probe_without_a_store_or_a_multirun_is_one_line(tmp_path: Path) -> None:
    done = sweeps(*GRID, "sweep.probe=true", "tracking.uri=none", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: tracking.uri=none: the probe requires a store")
    single = sweeps("sweep.probe=true", cwd=tmp_path)
    assert single.returncode == 2
    assert "sweep.probe=true: is for multiruns: add -m" in single.stderr
