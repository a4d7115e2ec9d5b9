"""Small sweeps into a real store, without Hydra: fast enough to be made for one test module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from scaling.config import TrialConfig
from sweeps.run.job import Job
from sweeps.run.jobs import prepare_jobs, run_trials
from sweeps.run.options import LauncherOptions
from sweeps.run.provenance import sweep_record

NET = """
import torch
from torch import nn
from torch.nn import functional


class Net:
    def __init__(self, width=4):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(64, 3, generator=generator)
        self.train = (inputs[:48], inputs[:48].sum(1, keepdim=True))
        self.held_out = (inputs[48:], inputs[48:].sum(1, keepdim=True))
        self.width = width

    def model(self):
        return nn.Sequential(nn.Linear(3, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def loss(self, outputs, targets):
        return functional.mse_loss(outputs, targets)
"""


def record(folder: Path, configs: Sequence[TrialConfig]) -> str:
    """Train these trials of one study and write them; the store's URI."""
    uri = f"sqlite:///{folder}/mlflow.db"
    for config in configs:
        config.tracking.uri = uri
        config.record_dir = str(folder / "runs" / config.study.name)
    jobs = [
        Job(asdict(config), [f"lr={config.lr}", f"seed={config.seed}"], folder / "jobs" / str(n))
        for n, config in enumerate(configs)
    ]
    sweep = sweep_record(configs[0].study, folder / "sweep", [], [job.overrides for job in jobs])
    run_trials(jobs, prepare_jobs(jobs), sweep, LauncherOptions())
    return uri


def trial_runs(uri: str, study: str) -> dict[str, Run]:
    """The trials' runs by name."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    return {str(run.info.run_name): run for run in found}
