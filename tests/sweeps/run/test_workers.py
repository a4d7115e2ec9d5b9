"""Worker processes that die, hang or err: what happens to their trial, and to nothing else."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from analysis.read.runs import read_study
from tests.command_line import run, sweeps
from tests.sweeps.kills import processes, wait_for_writer

CUSTOM = [
    "-m",
    "task=custom",
    "task.path=fragile.Fragile",
    "batch_size=4",
    "budget.max_steps=300",
    "relative_targets=[]",
    "study.name=small",
    "hydra.launcher.stack_size=1",
    "hydra.launcher.workers=2",
]
TROUBLES = {
    "kill": "its worker process was ended by SIGKILL (out of memory, or killed by hand)",
    "segfault": "its worker process was ended by SIGSEGV",
    "memory": "MemoryError: no more of it (",
    "device": "out of memory on the device: use a smaller micro_batch_size",
    "hang": "took longer than hydra.launcher.trial_timeout_seconds=2",
    "mistake": "ValueError: a mistake of the user (",
}


def custom_task(folder: Path) -> Path:
    """A folder with a user's task in it."""
    shutil.copy(Path(__file__).parents[1] / "fragile.py", folder)
    return folder


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs_of(folder: Path) -> pd.DataFrame:
    """Status and tags of all runs."""
    with sqlite3.connect(folder / "mlflow.db") as connection:
        runs = pd.read_sql("SELECT run_uuid, name, status FROM runs", connection)
        tags = pd.read_sql("SELECT run_uuid, key, value FROM tags", connection)
    wide = tags.pivot(index="run_uuid", columns="key", values="value").reset_index()
    return runs.merge(wide, on="run_uuid")


def curve_of(folder: Path, trouble: str) -> pd.DataFrame:
    trials, curves = read_study("small", f"sqlite:///{folder}/mlflow.db")
    [run_id] = trials[trials["task.options.trouble"] == trouble].run_id
    return curves[curves.run_id == run_id].drop(columns="run_id").reset_index(drop=True)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = custom_task(tmp_path_factory.mktemp("troubled"))
    swept = "+task.options.trouble=none," + ",".join(TROUBLES)
    limits = ["hydra.launcher.retries=0", "hydra.launcher.trial_timeout_seconds=2"]
    return folder, sweeps(*CUSTOM, swept, *limits, cwd=folder)


def test_what_fails_is_said_and_the_rest_is_done(troubled) -> None:
    folder, done = troubled
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    table = done.stderr
    assert table.startswith("failed (the same command trains these again):\n")
    for trouble, text in TROUBLES.items():
        name = f"B=4 lr=0.1 trouble={trouble} seed=0"
        assert f"failed: {name}: {text}" in done.stdout  # at once
        assert f"{name}\n    {text}" in table  # at the end
    for log in map(Path, re.findall(r"log: (.*)", table)):
        assert "about to" in log.read_text()  # what the task printed
    assert f"1 censored, 0 diverged, {len(TROUBLES)} failed" in done.stdout
    assert len(curve_of(folder, "none")) > 20


def test_failed_runs_say_why(troubled) -> None:
    folder, _ = troubled
    runs = runs_of(folder)
    for trouble, text in TROUBLES.items():
        [failed] = runs[runs.name == f"B=4 lr=0.1 trouble={trouble} seed=0"].to_dict("records")
        assert failed["status"] == "FAILED"
        assert failed["error"].startswith(text)
        [log] = folder.glob(f"mlartifacts/small/{failed['run_uuid']}/artifacts/train.log")
        assert f"about to {trouble}" in log.read_text()
    assert "Fatal Python error: Segmentation fault" in "".join(
        log.read_text() for log in folder.glob("mlartifacts/small/*/artifacts/train.log")
    )
    assert set(runs[runs.name == "B=4 lr=0.1 trouble=none seed=0"].status) == {"FINISHED"}
    assert set(runs[runs.kind == "sweep"].status) == {"FAILED"}


@pytest.mark.long
def test_failed_ones_are_done_again(troubled) -> None:
    folder, _ = troubled
    for trouble in TROUBLES:
        (folder / f"{trouble}.txt").write_text("x" * 99)  # it had its trouble
    swept = "+task.options.trouble=none," + ",".join(TROUBLES)
    n = 1 + len(TROUBLES)
    done = sweeps(*CUSTOM, swept, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{n} trials: 1 finished before, {n - 1} failed before, done again" in done.stdout
    runs = runs_of(folder)
    trials = runs[runs.kind == "trial"]
    assert len(trials) == n
    assert set(trials.status) == {"FINISHED"}
    assert "error" not in trials or trials["error"].isna().all()
    for trouble in TROUBLES:
        pd.testing.assert_frame_equal(curve_of(folder, trouble), curve_of(folder, "none"))


@pytest.fixture(scope="module")
def retried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = custom_task(tmp_path_factory.mktemp("retried"))
    swept = ["+task.options.trouble=none,kill,memory,hang,mistake", "+task.options.times=1"]
    limits = ["hydra.launcher.trial_timeout_seconds=8", "checkpoint.interval_seconds=0"]
    return folder, sweeps(*CUSTOM, *swept, *limits, cwd=folder)


@pytest.mark.long
def test_lost_workers_are_replaced_and_their_trials_go_on(retried) -> None:
    folder, done = retried
    assert done.returncode == 1  # a mistake comes again: it is not tried again
    assert "B=4 lr=0.1 trouble=kill seed=0: its worker process was ended" in done.stdout
    assert done.stdout.count("; retried") == 3
    assert done.stderr.count("log:") == 1
    for trouble in ("kill", "memory", "hang"):
        pd.testing.assert_frame_equal(curve_of(folder, trouble), curve_of(folder, "none"))


@pytest.mark.long
def test_what_is_tried_again_goes_on_from_its_checkpoint(retried) -> None:
    folder, _ = retried
    [journal] = (
        path
        for path in folder.glob("runs/small/*.jsonl")
        if '"step":28,' in path.read_text() and "trouble=kill" in path.read_text().split("\n")[1]
    )
    others = set(folder.glob("runs/small/*.jsonl")) - {journal}
    again = [path.read_text() for path in others if "trouble=kill" in path.read_text()]
    parts = [text.split("trouble=kill", 1)[1].split('"record":"trial"')[0] for text in again]
    steps = [int(step) for step in re.findall(r'"step":(\d+)', "".join(parts))]
    assert min(steps) == 30  # it died making step 30


def test_fail_fast_stops_at_the_first(tmp_path: Path) -> None:
    custom_task(tmp_path)
    swept = ["+task.options.trouble=mistake,none", "lr=0.1,0.01,0.001"]
    options = ["hydra.launcher.fail_fast=true", "hydra.launcher.workers=1"]
    done = sweeps(*CUSTOM, *swept, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "0 censored, 0 diverged, 1 failed, 5 not trained" in done.stdout
    assert done.stderr.count("log:") == 1


@pytest.mark.long
def test_a_changed_task_is_another_one(tmp_path: Path) -> None:
    custom_task(tmp_path)
    assert sweeps(*CUSTOM, cwd=tmp_path).returncode == 0
    with (tmp_path / "fragile.py").open("a") as file:
        file.write("# another version\n")
    dry = sweeps(*CUSTOM, "sweep.dry_run=true", cwd=tmp_path)
    assert "to do             1 trials" in dry.stdout
    done = sweeps(*CUSTOM, cwd=tmp_path)
    assert "1 trials: 1 new" in done.stdout
    assert "task.path=fragile.Fragile: its code or data changed since" in done.stdout
    trials, _ = read_study("small", f"sqlite:///{tmp_path}/mlflow.db")
    assert trials.task_content.nunique() == len(trials) == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["task.path=nowhere.Task"], "task.path=nowhere.Task: raised ModuleNotFoundError"),
        (["task.path=fragile.Absent"], "task.path=fragile.Absent: has no such class"),
        (["task.path=Fragile"], "task.path=Fragile: must be module.Class"),
        (["task.path=fragile.Path"], "task.path=fragile.Path: is not a task: it requires train"),
        (["+task.options.x=1"], "task.path=fragile.Fragile: raised TypeError"),
    ],
)
def test_a_task_that_is_none_is_one_line(arguments, line: str, tmp_path: Path) -> None:
    custom_task(tmp_path)
    done = sweeps(*CUSTOM, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_ctrl_c_twice_stops_at_once(tmp_path: Path) -> None:
    """A worker that does not listen (it hangs) keeps the first one waiting, not the second."""
    custom_task(tmp_path)
    command = [sys.executable, "-m", "sweeps", *CUSTOM, "+task.options.trouble=hang"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(tmp_path / "hang.txt")
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert process.returncode == 130
    assert "stopping: saving what trains; Ctrl-C again stops at once" in errors
    assert errors.endswith("interrupted: what is done is on record; the same command resumes\n")
    assert "Traceback" not in errors
    wait_for_writer(tmp_path)
    assert set(runs_of(tmp_path).status) == {"KILLED"}
    (tmp_path / "hang.txt").write_text("x" * 99)
    done = sweeps(*CUSTOM, "+task.options.trouble=hang", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 interrupted before" in done.stdout
    assert set(runs_of(tmp_path).status) == {"FINISHED", "KILLED"}


@pytest.mark.long
def test_a_worker_ends_with_its_sweep(tmp_path: Path) -> None:
    """An orphan that went on would train what the next sweep trains."""
    custom_task(tmp_path)
    command = [sys.executable, "-m", "sweeps", *CUSTOM, "+task.options.trouble=hang"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(tmp_path / "hang.txt")
        [worker] = processes(tmp_path, process.pid, set())
        process.kill()
    deadline = time.monotonic() + 15
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_study_that_never_takes_a_step_is_an_error(tmp_path: Path) -> None:
    """Every trial diverges at once: exit code 1 and one line, also when nothing is left to do."""
    shutil.copy(Path(__file__).parents[2] / "scaling" / "custom_networks.py", tmp_path)
    command = [
        "-m",
        "task=custom",
        "task.path=custom_networks.Custom",
        "+task.options.kind=bad_gradient",
    ]
    command += ["lr=0.01,0.1", "relative_targets=[]", "study.name=small", "budget.max_steps=9"]
    for _ in range(2):
        done = sweeps(*command, cwd=tmp_path)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("error: all 2 trials diverged at the first step (gradient of first")
        assert "an error of the task, not a result" in line
    runs = runs_of(tmp_path)
    assert set(runs[runs.kind == "trial"].not_finite) == {"gradient of first.weight"}
    fixed = [one.replace("bad_gradient", "plain") for one in command]
    assert sweeps(*fixed, cwd=tmp_path).returncode == 0


@pytest.mark.long
def test_an_error_of_ours_ends_the_sweep(tmp_path: Path) -> None:
    """With its traceback, and without waiting for the writer that waits for it."""
    code = (
        "import sweeps.run.training as t\n"
        "def broken(*a): raise ZeroDivisionError('a bug')\n"
        "t.Training.run = broken\n"
        "import sys, runpy; sys.argv = ['sweeps', '-m', 'lr=0.1', 'study.name=small']\n"
        "runpy.run_module('sweeps', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "a bug" in done.stderr


@pytest.mark.long
def test_another_commit_is_said_and_tagged(tmp_path: Path) -> None:
    def commit(text: str) -> None:
        (tmp_path / "notes.txt").write_text(text)
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        for arguments in (["add", "notes.txt"], [*identity, "commit", "-qm", text]):
            subprocess.run(["git", *arguments], cwd=tmp_path, check=True)

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit("one")
    few = ["lr=0.1", "study.name=small", "relative_targets=[]"]
    assert sweeps(*few, "budget.max_steps=20", cwd=tmp_path).returncode == 0
    commit("two")
    done = sweeps(*few, "budget.max_steps=40", cwd=tmp_path)
    [line] = [text for text in done.stdout.splitlines() if "at other commits" in text]
    assert "their numbers are taken as they are" in line
    runs = runs_of(tmp_path)
    [tag] = runs[runs.kind == "trial"].git_commits
    assert len(set(tag.split(", "))) == 2


@pytest.mark.long
def test_a_copied_record_of_a_live_sweep_closes_nothing(tmp_path: Path) -> None:
    custom_task(tmp_path)
    command = [sys.executable, "-m", "sweeps", *CUSTOM, "+task.options.trouble=hang"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        wait_for(tmp_path / "hang.txt")
        refused = run("sweeps.sync", "runs/small", cwd=tmp_path)
        assert refused.returncode == 2
        assert f"pid {process.pid}" in refused.stderr
        shutil.copytree(tmp_path / "runs" / "small", tmp_path / "copy")
        (tmp_path / "copy" / "lock").unlink()
        done = run("sweeps.sync", "copy", "--uri", f"sqlite:///{tmp_path}/b.db", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / "copied").mkdir()
        process.kill()
    (tmp_path / "b.db").rename(tmp_path / "copied" / "mlflow.db")
    assert "KILLED" not in set(runs_of(tmp_path / "copied").status)
