"""Multiruns end to end: stacked and basic launcher, directories, order, MLflow."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml
from hydra.core.utils import JobStatus

from analysis.read.runs import read_study
from sweeps.compose.folders import claim_sweep_directory
from sweeps.compose.launch import launch
from sweeps.run.executors.local import HereExecutor
from sweeps.run.options import LauncherOptions
from sweeps.run.worker import Ended
from tests.command_line import sweeps
from tests.sweeps.hydra_parts import jobs_of, multirun

SWEPT = ["batch_size=1,8", "lr=0.05,0.2,50", "seed=range(0,2)", "optimizer=sgd,adam"]
FIXED = ["budget.max_steps=40", "relative_targets=[0.5]", "study.name=small"]


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacked")
    done = sweeps("-m", *SWEPT, *FIXED, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "24 trials" in done.stdout
    return folder


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("basic")
    few = ["batch_size=1,8", "lr=0.05,50", "hydra/launcher=basic", "hydra/sweeper=basic"]
    done = sweeps("-m", *few, *FIXED, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def frames(folder: Path):
    return read_study("small", f"sqlite:///{folder}/mlflow.db")


def test_every_trial_is_there_with_its_curve(stacked: Path) -> None:
    trials, curves = frames(stacked)
    assert len(trials) == trials.trial_id.nunique() == 24
    assert set(trials.groupby("lr").outcome.unique()[50.0]) == {"diverged"}
    assert (trials[trials.outcome == "reached"].lr < 50).all()
    last_steps = trials.set_index("run_id").last_step.sort_index()
    assert (curves.groupby("run_id").step.max() == last_steps).all()
    sizes = curves.merge(trials[["run_id", "batch_size"]], on="run_id")
    assert (sizes.examples == sizes.batch_size * sizes.step).all()
    assert (curves[curves.step > 0].train_loss > 0).all()
    assert set(trials["optimizer.name"]) == {"sgd", "adam"}


def test_each_job_has_its_directory(stacked: Path) -> None:
    [sweep] = (p for p in (stacked / "runs" / "small").iterdir() if p.is_dir())
    jobs = sorted((p for p in sweep.iterdir() if p.is_dir()), key=lambda p: int(p.name))
    assert [job.name for job in jobs] == [str(n) for n in range(24)]
    overrides = [yaml.safe_load((job / ".hydra/overrides.yaml").read_text()) for job in jobs]
    assert overrides[5][:4] == ["batch_size=1", "lr=0.2", "seed=0", "optimizer=adam"]
    config = yaml.safe_load((jobs[5] / ".hydra/config.yaml").read_text())
    assert (config["lr"], config["optimizer"]["name"]) == (0.2, "adam")
    assert (sweep / "multirun.yaml").exists()


@pytest.mark.long
def test_basic_launcher_trains_the_same_numbers(stacked: Path, basic: Path) -> None:
    trials, curves = frames(basic)
    assert len(trials) == 4
    other_trials, other_curves = frames(stacked)
    for row in trials.itertuples():
        [twin] = other_trials[other_trials.trial_id == row.trial_id].run_id
        mine = curves[curves.run_id == row.run_id].drop(columns="run_id").reset_index(drop=True)
        theirs = other_curves[other_curves.run_id == twin].drop(columns="run_id")
        assert mine.equals(theirs.reset_index(drop=True))
    assert trials.sweep.nunique() == 1


@pytest.mark.long
def test_results_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["seed=1,0", "batch_size=8,1", "lr=0.2,50", *FIXED]
    with multirun(*FIXED) as (loader, master):
        claim_sweep_directory(master)
        jobs = jobs_of(master, arguments)
        here = LauncherOptions(stack_size=3)
        returned = launch(loader, master, jobs, 0, here)
        again = launch(loader, master, jobs[:2], len(jobs), here)  # from the record
    assert [job.overrides for job in returned] == jobs
    assert {job.status for job in returned} == {JobStatus.COMPLETED}
    assert returned[3].cfg is not None
    assert (returned[3].cfg.lr, returned[3].cfg.seed) == (50.0, 1)
    diverged = [job.return_value == float("inf") for job in returned]
    assert diverged == [False, True] * 4
    assert again[0].return_value == returned[0].return_value
    values = {job.return_value for job in returned}
    assert len(values) == 5  # four different finite losses and infinity
    trials, _ = frames(tmp_path)
    assert len(trials) == 8


class LosesItsWorkerAtTheEnd(HereExecutor):
    """Everything is recorded, and then the process is gone before it can say so."""

    def _train(self, unit):
        super()._train(unit)
        future: Future[Ended] = Future()
        future.set_result(Ended("lost", "its worker process was ended"))
        return future


@pytest.mark.long
def test_a_worker_lost_after_its_last_outcome_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sweeps.run.executors.local.HereExecutor", LosesItsWorkerAtTheEnd)
    with multirun(*FIXED) as (loader, master):
        claim_sweep_directory(master)
        jobs = jobs_of(master, ["lr=0.1,0.2", *FIXED])
        returned = launch(loader, master, jobs, 0, LauncherOptions(retries=0))
    assert {job.status for job in returned} == {JobStatus.COMPLETED}


def test_a_directory_of_its_own_for_every_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        with multirun("hydra.sweep.dir=runs/same") as (_loader, master):
            claim_sweep_directory(master)
            names.append(master.hydra.sweep.dir)
    assert names == ["runs/same", "runs/same_2", "runs/same_3"]


def test_single_trial(tmp_path: Path) -> None:
    done = sweeps("batch_size=8", "lr=0.2", "optimizer=sgd", *FIXED, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "reached: loss" in done.stdout
    trials, _ = frames(tmp_path)
    assert len(trials) == 1


def test_store_of_the_environment(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/elsewhere.db"
    done = sweeps("budget.max_steps=3", "study.name=small", cwd=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert len(read_study("small", uri)[0]) == 1
    assert not (tmp_path / "mlflow.db").exists()


def test_passwords_stay_out_of_every_record(tmp_path: Path) -> None:
    from scaling.config import StudyConfig
    from sweeps.run.job import Job
    from sweeps.run.provenance import sweep_record

    secret = "tracking.uri=postgresql://me:SECRET@db/mlflow"
    record = sweep_record(StudyConfig(), tmp_path, [secret])
    assert "SECRET" not in str(record)
    assert "me:***@db" in record["tags"]["command"]
    content = {"task": {"name": "linear_regression"}, "optimizer": {"name": "sgd"}}
    content |= {"tracking": {"uri": secret.split("=")[1]}}
    job = Job(content, [secret], tmp_path / "0")
    job.write_directory()
    written = [path.read_text() for path in (tmp_path / "0" / ".hydra").iterdir()]
    assert len(written) == 2
    assert "SECRET" not in "".join(written)
