"""A trial is done once: what is on record is not trained again, whatever ended the sweep."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs import read_study
from tests.command_line import run, sweeps

ARGUMENTS = [
    "-m",
    "batch_size=1,4,16",
    "lr=0.01,0.05,0.2,50",
    "seed=range(0,3)",
    "budget.max_steps=3000",
    "relative_targets=[0.3]",
    "study.name=small",
    "hydra.launcher.stack_size=4",
]


def frames(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and curves by identity, without what differs between any two sweeps."""
    trials, curves = read_study("small", f"sqlite:///{folder}/mlflow.db")
    curves = curves.merge(trials[["run_id", "trial_id"]], on="run_id").drop(columns="run_id")
    own = [c for c in map(str, trials) if c in ("run_id", "sweep", "seconds")]
    trials = trials.drop(columns=own).sort_values("trial_id").reset_index(drop=True)
    return trials, curves.sort_values(["trial_id", "step"]).reset_index(drop=True)


def statuses(folder: Path) -> set[str]:
    import sqlite3

    with sqlite3.connect(folder / "mlflow.db") as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall()
        rows = connection.execute("SELECT DISTINCT status FROM runs").fetchall() if made else []
    return {row[0] for row in rows}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = sweeps(*ARGUMENTS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_second_time_trains_nothing(undisturbed: Path) -> None:
    before = frames(undisturbed)
    journals = set(undisturbed.glob("runs/small/*.jsonl"))
    done = sweeps(*ARGUMENTS, cwd=undisturbed)
    assert "36 trials: 36 finished before" in done.stdout
    assert set(undisturbed.glob("runs/small/*.jsonl")) == journals
    for left, right in zip(frames(undisturbed), before, strict=True):
        pd.testing.assert_frame_equal(left, right)


def test_easier_requests_cost_nothing_and_harder_ones_train(undisturbed: Path) -> None:
    dry = [*ARGUMENTS, "sweep.dry_run=true"]
    easier = sweeps(*dry, "relative_targets=[0.6,0.4]", cwd=undisturbed)
    assert "finished         36 trials" in easier.stdout
    harder = sweeps(*dry, "relative_targets=[0.1]", cwd=undisturbed)
    assert "to continue      24 trials" in harder.stdout  # all but the 12 that diverge... or end
    assert "about" in harder.stdout


def test_dry_run_creates_nothing(tmp_path: Path) -> None:
    done = sweeps(*ARGUMENTS, "sweep.dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to do            36 trials" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_killed_and_started_again_equals_undisturbed(
    name: str, undisturbed: Path, tmp_path: Path
) -> None:
    moments = random.Random(name)
    command = [sys.executable, "-m", "sweeps", *ARGUMENTS]
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    for round_number in range(3):
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 60
            while len(list(tmp_path.glob("runs/small/*.jsonl"))) <= round_number:
                assert time.monotonic() < deadline
                if process.poll() is not None:
                    break  # everything was done before
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 0.6))
            process.send_signal(getattr(signal, name))
            _, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors
        if name != "SIGKILL" and process.returncode:
            assert "interrupted: what is done is on record" in errors
            assert "RUNNING" not in statuses(tmp_path)
        (tmp_path / "runs" / "small" / "x").mkdir(exist_ok=True)  # any other folder is no matter
    wait_for_writer(tmp_path)
    done = sweeps(*ARGUMENTS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for left, right in zip(frames(tmp_path), frames(undisturbed), strict=True):
        pd.testing.assert_frame_equal(left, right)
    assert "RUNNING" not in statuses(tmp_path)


@pytest.mark.parametrize("seconds", [0.6, 2.2, 2.8, 3.4])
def test_ctrl_c_at_any_moment_ends_soon_and_leaves_nothing_running(
    seconds: float, tmp_path: Path
) -> None:
    """While importing, opening the store, training: to the whole group, as a terminal sends it."""
    command = [sys.executable, "-m", "sweeps", *ARGUMENTS, "budget.max_steps=200000", "lr=1e-9"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT, 1)
    if seconds > 2:
        assert errors.endswith("interrupted: what is done is on record, the same command goes on\n")
        if (tmp_path / "mlflow.db").exists():
            wait_for_writer(tmp_path)
            assert "RUNNING" not in statuses(tmp_path)


def wait_for_writer(folder: Path) -> None:
    """After a SIGKILL of the sweep its writer finishes what stands in the journals."""
    deadline = time.monotonic() + 60
    while "RUNNING" in statuses(folder) and time.monotonic() < deadline:
        time.sleep(0.2)


def test_a_second_sweep_of_a_live_study_is_refused(undisturbed: Path) -> None:
    from sweeps.study_folder import live_sweep

    folder = undisturbed / "runs" / "small"
    with live_sweep(folder, "small"):
        done = sweeps(*ARGUMENTS, cwd=undisturbed)
    assert done.returncode == 2
    assert done.stderr.startswith("error: study.name=small: a sweep of this study is alive (host ")
    assert f"pid {os.getpid()}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_of_another_study_or_kind_is_refused(undisturbed: Path, tmp_path: Path) -> None:
    done = sweeps("study.name=other", f"record_dir={undisturbed}/runs/small", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds the record of study small" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.json").write_text("[]")
    done = sweeps("study.name=other", "record_dir=mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: record_dir=" in done.stderr
    assert done.stderr.count("\n") == 1


def test_sync_into_another_store(undisturbed: Path) -> None:
    for written in (36, 0):
        done = run(
            *("sweeps.sync", "runs/small", "--uri", f"sqlite:///{undisturbed}/b.db"),
            cwd=undisturbed,
        )
        assert done.returncode == 0, done.stderr
        assert f"{written} trials written" in done.stdout
    (undisturbed / "other").mkdir(exist_ok=True)
    (undisturbed / "b.db").rename(undisturbed / "other" / "mlflow.db")
    for left, right in zip(frames(undisturbed / "other"), frames(undisturbed), strict=True):
        pd.testing.assert_frame_equal(left, right)


def test_another_folder_is_no_record(tmp_path: Path) -> None:
    done = run("sweeps.sync", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not the record folder of a study" in done.stderr
