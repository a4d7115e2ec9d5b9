"""A trial is done once: what is on record is not trained again, whatever ended the sweep."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from analysis.read.runs import read_study
from tests.command_line import run, sweeps
from tests.sweeps.kills import (
    ARGUMENTS,
    assert_equal_studies,
    frames,
    statuses,
    survive,
    wait_for_writer,
)


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
    longer = sweeps(*dry, "budget.max_steps=7000", cwd=undisturbed)
    assert "finished         18 trials" in longer.stdout  # those that diverged
    assert "to continue      18 trials" in longer.stdout
    assert "about" in longer.stdout


def test_dry_run_creates_nothing(tmp_path: Path) -> None:
    done = sweeps(*ARGUMENTS, "sweep.dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to do            36 trials" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))]
)
def test_killed_and_started_again_equals_undisturbed(
    seed: int, undisturbed: Path, tmp_path: Path
) -> None:
    survive(tmp_path, seed)
    assert_equal_studies(tmp_path, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, *range(4, 10)])
def test_killed_at_more_moments(seed: int, undisturbed: Path, tmp_path: Path) -> None:
    survive(tmp_path, seed)
    assert_equal_studies(tmp_path, undisturbed)


@pytest.mark.long
def test_a_store_locked_for_a_minute_fails_nothing(undisturbed: Path, tmp_path: Path) -> None:
    import sqlite3

    command = [sys.executable, "-m", "sweeps", *ARGUMENTS]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("runs/small/*.jsonl")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            time.sleep(60)
            lock.execute("ROLLBACK")
        assert process.wait(timeout=120) == 0
    assert_equal_studies(tmp_path, undisturbed)


def interrupt(folder: Path) -> None:
    """Stop the study's sweep by SIGTERM when it has saved something."""
    command = [sys.executable, "-m", "sweeps", *ARGUMENTS]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("runs/small/checkpoints/*.ckpt"))) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130


@pytest.mark.long
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    undisturbed: Path, tmp_path: Path
) -> None:
    interrupt(tmp_path)
    dry = sweeps(*ARGUMENTS, "sweep.dry_run=true", cwd=tmp_path)
    assert "from a checkpoint" in dry.stdout
    of_stack: dict[str, list[Path]] = {}
    for path in sorted(tmp_path.glob("runs/small/checkpoints/*.ckpt")):
        of_stack.setdefault(path.name[:16], []).append(path)
    damaged = [paths[-1] for paths in of_stack.values()]
    for path in damaged[:-1]:
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
    damaged[-1].write_bytes(b"torn")
    done = sweeps(*ARGUMENTS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    used = [path for path in damaged if f"{path}: is damaged" in done.stdout]
    assert damaged[-1] in used
    assert len(used) >= 2
    assert_equal_studies(tmp_path, undisturbed)


@pytest.mark.long
def test_trials_whose_outcome_was_not_recorded_get_one(undisturbed: Path, tmp_path: Path) -> None:
    assert sweeps(*ARGUMENTS, "tracking.uri=none", cwd=tmp_path).returncode == 0
    for path in tmp_path.glob("runs/small/*.jsonl"):  # killed after the last evaluations
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if '"record":"outcome"' not in line))
    done = sweeps(*ARGUMENTS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal_studies(tmp_path, undisturbed)


@pytest.mark.long
def test_two_sweeps_of_one_study_in_the_same_second(undisturbed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeps", *ARGUMENTS]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    [line] = [error for error in errors if error]
    assert line.startswith("error: study.name=small: a sweep of this study is running (")
    assert_equal_studies(tmp_path, undisturbed)


@pytest.mark.long
def test_two_studies_in_the_same_second(tmp_path: Path) -> None:
    few = ["-m", "lr=0.1,0.2", "budget.max_steps=50", "hydra.sweep.dir=runs/same"]
    both = [
        subprocess.Popen([sys.executable, "-m", "sweeps", *few, f"study.name={name}"], cwd=tmp_path)
        for name in ("one", "two")
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert [len(read_study(name, uri)[0]) for name in ("one", "two")] == [2, 2]


@pytest.mark.parametrize(
    "seconds", [pytest.param(one, marks=pytest.mark.long) for one in (0.6, 2.2, 2.8, 3.4)]
)
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
        assert errors.endswith("interrupted: what is done is on record; the same command resumes\n")
        if (tmp_path / "mlflow.db").exists():
            wait_for_writer(tmp_path)
            assert "RUNNING" not in statuses(tmp_path)


def test_an_interruption_that_an_import_swallows_is_not_lost(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from sweeps.command_line import messages\n"
        "with messages.one_line_interruption():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except:\n"
        "        pass\n"
        "    with messages.interruptible_between() as check:\n"
        "        check()\n"
        "    print('went on')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")


def test_a_second_sweep_of_a_live_study_is_refused(undisturbed: Path) -> None:
    from sweeps.run.study_folder import live_sweep

    folder = undisturbed / "runs" / "small"
    before = set(folder.iterdir())
    with live_sweep(folder, "small"):
        done = sweeps(*ARGUMENTS, cwd=undisturbed)
    assert done.returncode == 2
    assert done.stdout == ""  # said before any work
    assert set(folder.iterdir()) == before
    assert done.stderr.startswith(
        "error: study.name=small: a sweep of this study is running (host "
    )
    assert f"pid {os.getpid()}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_store_that_is_down_leaves_a_record_as_it_is(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "runs", tmp_path / "runs")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = sweeps(*ARGUMENTS, "tracking.uri=http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 2
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = {path.name for path in {*before, *after} if before.get(path) != after.get(path)}
    assert changed <= {"sweep_alive.json", "lock"}


def test_the_lock_of_a_sweep_that_was_refused_keeps_nobody_out(tmp_path: Path) -> None:
    """It takes its file away: who waited for that file must lock the one that stands there."""
    from scaling.limits import ConfigError
    from sweeps.run.study_folder import live_sweep

    folder = tmp_path / "record"
    with pytest.raises(ZeroDivisionError), live_sweep(folder, "small"):
        raise ZeroDivisionError
    assert list(folder.iterdir()) == []
    (folder / "writer.lock").write_text("somebody's own")
    with pytest.raises(ZeroDivisionError), live_sweep(folder, "small"):
        raise ZeroDivisionError
    assert [path.read_text() for path in folder.iterdir()] == ["somebody's own"]
    (folder / "writer.lock").unlink()
    with live_sweep(folder, "small"):
        with pytest.raises(ConfigError, match="is running"), live_sweep(folder, "small"):
            pass
        assert {path.name for path in folder.iterdir()} == {
            "lock",
            "study.json",
            "sweep_alive.json",
        }


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
