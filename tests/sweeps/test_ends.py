"""How work ends: workers and writers killed at their start, pipes that close, signals, folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from scaling.limits import ConfigError
from scaling.record import process
from scaling.record.plan import plan
from scaling.record.study import StudyRecord, read_record
from scaling.store.follow import Destination
from scaling.store.writer import Writer
from scaling.trial import prepare
from sweeps.command_line.messages import one_line_errors, outliving_pipes
from sweeps.run import training
from sweeps.run.executors.local import WorkerExecutor, end_of
from sweeps.run.job import Job
from sweeps.run.options import launcher_options
from sweeps.run.trainer import Place
from sweeps.run.training import stop_requests
from sweeps.run.units import Unit, make_units
from tests.command_line import sweeps
from tests.conftest import store_of
from tests.scaling.trials import regression_trial


def one_unit(folder: Path) -> tuple[Place, Unit]:
    trials = prepare([regression_trial(max_steps=20, relative_targets=[])])
    jobs = [Job({"task": {}, "optimizer": {}, "batch_size": 64}, ["lr=0.1"], folder / "0")]
    [unit] = make_units(jobs, trials, plan(trials, StudyRecord()), StudyRecord(), stack_size=1)
    unit.log.parent.mkdir()
    return Place(folder, "small", {"name": "sweep", "tags": {}}, None), unit


def test_a_worker_killed_before_it_has_work_is_replaced(tmp_path: Path) -> None:
    place, unit = one_unit(tmp_path)
    executor = WorkerExecutor(1, place, None)
    executor.start()
    deadline = time.monotonic() + 60
    while executor._pool.active:  # whichever worker has begun dies at once
        assert time.monotonic() < deadline
        for worker in list(executor._pool._pool_manager.worker_manager.workers.values()):
            worker.kill()
        time.sleep(0.01)
    [future] = executor.submit([unit])
    assert end_of(future, unit, None).kind == "done"
    executor.close()
    [known] = read_record(tmp_path).trials.values()
    assert (known.steps[-1], known.status) == (20, "ended")


def test_what_waited_for_a_worker_killed_at_its_start_is_lost_not_raised(tmp_path: Path) -> None:
    place, unit = one_unit(tmp_path)
    executor = WorkerExecutor(1, place, None)
    [future] = executor.submit([unit])
    deadline = time.monotonic() + 60
    while executor._pool.active and not future.done():
        assert time.monotonic() < deadline
        for worker in list(executor._pool._pool_manager.worker_manager.workers.values()):
            worker.kill()
    assert end_of(future, unit, None).kind == "lost"
    executor.poll()
    assert executor._pool.active
    executor.close(at_once=True)


def test_a_writer_killed_before_it_is_open_is_replaced(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    writer = Writer(Destination(store_of("sqlite", request, tmp_path), "study", "", tmp_path))
    writer._process.kill()
    assert writer.wait_until_open() == ""
    writer.close("FINISHED")


def test_a_closed_pipe_ends_nothing() -> None:
    code = (
        "import logging, sys\n"
        "from sweeps.command_line.messages import one_line_interruption\n"
        "with one_line_interruption():\n"
        "    logging.basicConfig(stream=sys.stdout, level=logging.INFO)\n"
        "    for n in range(20000):\n"
        "        logging.info('line %d', n)\n"
        "    print('whole', file=sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 0
    assert said == "the output is no longer read: the work continues\nwhole\n"
    with outliving_pipes():
        print("as ever")


def test_a_sigterm_ends_also_what_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TERM_SECONDS", 0.3)
    stopped = threading.Event()

    def hang() -> None:
        with stop_requests(stopped.set):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        hang()
    assert stopped.is_set()


def test_a_folder_that_is_gone_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        (tmp_path / "moved" / "1.jsonl").open("x")
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/moved/1.jsonl: No such file or directory; ")
    assert said.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_folder_that_is_moved_while_it_trains_ends_the_sweep(
    n_workers: int, tmp_path: Path
) -> None:
    """One line, soon; put back, the same command goes on."""
    arguments = [
        *("-m", "batch_size=1,4", "lr=0.01,0.02", "seed=range(0,4)", "study.name=small"),
        *("budget.max_steps=4000", "relative_targets=[]", "tracking.uri=none"),
        *("hydra.launcher.stack_size=4", f"hydra.launcher.workers={n_workers}"),
    ]
    folder, command = tmp_path / "runs" / "small", [sys.executable, "-m", "sweeps", *arguments]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*.jsonl"))) < 2:  # the sweep's own, and a worker's
            assert time.monotonic() < deadline
            time.sleep(0.01)
        folder.rename(tmp_path / "moved")
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert said.startswith(f"error: {folder}")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "moved").rename(folder)
    done = sweeps(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 trials: " in done.stdout


def test_no_worker_means_no_time_limit() -> None:
    with pytest.raises(ConfigError, match=r"trial_timeout_seconds=2.0: requires workers"):
        launcher_options({"workers": 0, "trial_timeout_seconds": 2.0})
    assert launcher_options({"workers": 1, "trial_timeout_seconds": 2.0}).workers == 1
    assert launcher_options({"workers": 0}).workers == 0


@pytest.mark.parametrize(
    ("script", "alive"),
    [
        ("sleep 20", True),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 7", True),
        ("exit 0", False),
    ],
)
def test_a_slow_squeue_is_no_death(
    script: str, alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{script}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 2.0)
    process._is_alive.cache_clear()
    assert process.slurm_job_is_alive("7") == alive
    process._is_alive.cache_clear()


def test_a_clock_that_is_set_kills_no_process() -> None:
    """Where the start since boot is known, the date of it does not count."""
    from scaling.record.process import is_alive, this_process

    here = this_process()
    if "start_ticks" not in here:
        pytest.skip("the system does not say when a process started since its boot")
    assert is_alive({**here, "process_started": here["process_started"] - 3600})
    assert not is_alive({**here, "start_ticks": here["start_ticks"] + 1})
    assert not is_alive({**here, "boot": "another"})
    assert psutil.Process().pid == here["pid"]
