"""Sweeps on a real Slurm cluster of this machine: what befalls tasks changes no number."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command_line import sweeps
from tests.slurm.one_node import NODES, Cluster, cluster, why_not
from tests.sweeps.kills import ARGUMENTS, assert_equal_studies, statuses, wait_for_writer

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(why_not() is not None, reason=f"no Slurm: {why_not()}"),
]
SLURM = [
    "hydra.launcher.executor=slurm",
    "hydra.launcher.slurm.max_tasks=2",
    "hydra.launcher.slurm.poll_seconds=1",
]
SLOW = [
    "-m",
    "task=custom",
    "task.path=patient.Patient",
    "batch_size=4,8",
    "lr=0.05,0.1",
    "budget.max_steps=300",
    "evaluation.ratio=1.2",
    "relative_targets=[]",
    "study.name=small",
    "hydra.launcher.stack_size=1",
    "checkpoint.interval_seconds=0.2",
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as made, pytest.MonkeyPatch.context() as patch:
        for key, value in made.environment.items():
            patch.setenv(key, value)
        yield made


def folder_of_task(folder: Path) -> Path:
    shutil.copy(Path(__file__).parents[1] / "patient.py", folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained here, in one worker."""
    folder = folder_of_task(tmp_path_factory.mktemp("undisturbed"))
    done = sweeps(*SLOW, "hydra.launcher.workers=1", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


class Sweep:
    """One that trains slowly on the cluster until it is told to hurry."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder_of_task(folder)
        (folder / "slow.txt").touch()
        env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweeps", *SLOW, *SLURM, *options],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until_saved(self, n_stacks: int = 2) -> None:
        deadline = time.monotonic() + 90
        while len({path.name[:16] for path in self._checkpoints()}) < n_stacks:
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.1)

    def _checkpoints(self) -> list[Path]:
        return list(self.folder.glob("runs/small/checkpoints/*.ckpt"))

    def hurry(self) -> None:
        (self.folder / "slow.txt").unlink()

    def end(self, code: int) -> tuple[str, str]:
        out, errors = self.process.communicate(timeout=240)
        assert self.process.returncode == code, out + errors
        assert "Traceback" not in out + errors
        return out, errors

    def go_on(self, hurry: bool = True) -> str:
        """The same command again, undisturbed; what it printed."""
        if hurry:
            (self.folder / "slow.txt").unlink(missing_ok=True)
        done = sweeps(*SLOW, *SLURM, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout


def array_of(slurm: Cluster) -> str:
    return slurm.command("squeue", "-h", "--states=RUNNING", "-o", "%F").split()[0]


def steps_trained(folder: Path) -> int:
    """Evaluations on record, those that were made twice counted twice."""
    lines = [
        line for path in folder.glob("runs/small/*.jsonl") for line in path.read_text().splitlines()
    ]
    records = [json.loads(line) for line in lines]
    return sum(len(line["trials"]) for line in records if line["record"] == "evaluation")


def test_two_tasks_at_once_give_the_numbers_of_the_local_run(
    slurm: Cluster, tmp_path: Path
) -> None:
    for name, options in (("here", []), ("slurm", SLURM)):
        (tmp_path / name).mkdir()
        done = sweeps(*ARGUMENTS, *options, cwd=tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "6 stacks in 2 tasks" in done.stdout
    assert_equal_studies(tmp_path / "slurm", tmp_path / "here")
    spans = [
        sorted(json.loads(line)["time"] for line in path.read_text().splitlines())
        for path in (tmp_path / "slurm").glob("runs/small/*.jsonl")
        if '"outcome"' in path.read_text()
    ]
    assert len(spans) == 2
    assert max(span[0] for span in spans) < min(span[-1] for span in spans)
    jobs = [path.read_text().split("\n")[0] for path in (tmp_path / "slurm").glob("runs/*/*.jsonl")]
    assert sum('"slurm_job":' in first for first in jobs) == 2


def was_started_again(folder: Path) -> bool:
    """A task began a unit twice: Slurm started the same task again."""
    said = [path.read_text() for path in folder.glob("runs/small/slurm/*/*.said")]
    begun = [re.findall(r'"unit":(\d+),"begun":true', text) for text in said]
    return any(len(set(units)) < len(units) for units in begun)


def wait_until_started_again(folder: Path) -> None:
    deadline = time.monotonic() + 90
    while not was_started_again(folder):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def requeue(slurm: Cluster) -> None:
    task = f"{array_of(slurm)}_0"
    slurm.command("scontrol", "requeue", task)
    deadline = time.monotonic() + 30  # Slurm would wait two minutes
    while slurm.command("squeue", "-h", "-r", "-j", task, "-o", "%T") != "PENDING":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    slurm.command("scontrol", "update", f"JobId={task}", "StartTime=now")


def kill_a_task(slurm: Cluster) -> None:
    slurm.kill_steps(NODES[0])


def lose_a_node(slurm: Cluster) -> None:
    slurm.kill_node(NODES[0])


def push_aside(slurm: Cluster) -> None:
    """Both nodes are taken by a job that counts for more."""
    slurm.command("sbatch", "-p", "main", "-N2", "-t1", "-o", "/dev/null", "--wrap", "sleep 1")


@pytest.mark.parametrize(
    ("befalls", "options", "said"),
    [
        (requeue, [], ""),
        (kill_a_task, [], "; retried"),
        (lose_a_node, [], ""),
        (push_aside, ["partition=low"], ""),
        (push_aside, ["partition=lowest"], "; resumed"),
    ],
)
def test_a_task_that_is_disturbed_goes_on_from_its_checkpoint(
    befalls: Callable[[Cluster], None],
    options: list[str],
    said: str,
    slurm: Cluster,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    sweep = Sweep(tmp_path, *(f"hydra.launcher.slurm.{option}" for option in options))
    (tmp_path / "slow.txt").write_text("0.2")  # no trial ends before it is disturbed
    sweep.wait_until_saved()
    befalls(slurm)
    if befalls is requeue:
        wait_until_started_again(tmp_path)
    time.sleep(2)
    sweep.hurry()
    out, _ = sweep.end(0)
    if befalls is lose_a_node:
        slurm.start_node(NODES[0])
    slurm.wait_until_idle()
    assert said in out
    assert_equal_studies(tmp_path, undisturbed)
    assert steps_trained(tmp_path) < 1.3 * steps_trained(undisturbed)


def test_a_time_limit_costs_nothing(slurm: Cluster, undisturbed: Path, tmp_path: Path) -> None:
    # Slurm looks every 30 s who has less than the grace left, so tasks are told to save 40 to
    # 70 s after they began: by then a busy machine, too, has imported torch
    limits = ["hydra.launcher.slurm.time_minutes=2", "hydra.launcher.slurm.grace_seconds=50"]
    sweep = Sweep(tmp_path, *limits, "hydra.launcher.retries=0")
    (tmp_path / "slow.txt").write_text("0.2")  # no trial ends before its task is told
    sweep.wait_until_saved()
    answers = tmp_path / "runs" / "small" / "slurm"
    deadline = time.monotonic() + 120
    while not any('"paused":"SIGUSR2"' in path.read_text() for path in answers.glob("*/*.said")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    sweep.hurry()
    out, _ = sweep.end(0)
    assert "reached its time limit (hydra.launcher.slurm.time_minutes=2); resumed" in out
    assert_equal_studies(tmp_path, undisturbed)


def test_a_cancelled_task_fails_and_is_done_by_the_same_command(
    slurm: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path)
    sweep.wait_until_saved()
    slurm.command("scancel", f"{array_of(slurm)}_0")
    time.sleep(1)
    sweep.hurry()
    out, errors = sweep.end(1)
    assert "was cancelled (scancel, by the user or an administrator)" in out
    assert errors.startswith("failed (the same command trains these again):\n")
    assert "2 censored, 0 diverged, 2 failed" in out
    assert "4 trials: 2 finished before, 2 failed before, done again" in sweep.go_on()
    assert_equal_studies(tmp_path, undisturbed)


def test_ctrl_c_saves_and_the_same_command_goes_on(
    slurm: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path)
    sweep.wait_until_saved()
    os.killpg(sweep.process.pid, signal.SIGINT)
    _, errors = sweep.end(130)
    assert "stopping: saving what trains; Ctrl-C again stops at once" in errors
    assert errors.endswith("interrupted: what is done is on record; the same command resumes\n")
    slurm.wait_until_idle()
    assert statuses(tmp_path) == {"KILLED"}
    assert "interrupted before (2 from a checkpoint" in sweep.go_on()
    assert_equal_studies(tmp_path, undisturbed)


def test_tasks_of_a_sweep_that_was_killed_are_ended_and_gone_on_with(
    slurm: Cluster, undisturbed: Path, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path)
    sweep.wait_until_saved()
    sweep.process.kill()
    sweep.process.communicate()
    wait_for_writer(tmp_path)
    assert slurm.command("squeue", "-h")  # they train on
    out = sweep.go_on(hurry=False)
    assert "2 Slurm jobs of a sweep that has ended still train this study" in out
    assert_equal_studies(tmp_path, undisturbed)
    slurm.wait_until_idle()


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("partition=nowhere", "sbatch: invalid partition specified: nowhere"),
        ("memory_gb=1000", "sbatch: Memory specification can not be satisfied"),
        ("gpus=1", "sbatch: Invalid generic resource (gres) specification"),
    ],
)
def test_what_sbatch_refuses_is_one_line(
    option: str, line: str, slurm: Cluster, tmp_path: Path
) -> None:
    folder_of_task(tmp_path)
    done = sweeps(*SLOW, *SLURM, f"hydra.launcher.slurm.{option}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: hydra.launcher.slurm: ")
    assert option in done.stderr
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_frontier_sweeper_asks_the_same_on_slurm(slurm: Cluster, tmp_path: Path) -> None:
    search = [
        *("-m", "hydra/sweeper=frontier", "study.name=small", "batch_size=16", "seed=0"),
        *("relative_targets=[0.1]", "hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=4"),
        *("hydra.sweeper.lr_base=0.003", "hydra.sweeper.lr_range=[0.003,3]"),
        *("budget.max_steps=300", "task.dimension=8"),
    ]
    for name, options in (("here", ["hydra.launcher.workers=0"]), ("slurm", SLURM)):
        (tmp_path / name).mkdir()
        done = sweeps(*search, *options, cwd=tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "round 2" in done.stdout
    assert_equal_studies(tmp_path / "slurm", tmp_path / "here")
