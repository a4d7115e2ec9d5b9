"""What is decided around Slurm, without one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hydra_plugins.batch_scaling._options import SlurmOptions

from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.record.plan import plan
from scaling.record.process import is_alive, this_process
from scaling.record.study import StudyRecord, read_record
from scaling.tasks.config import CustomTaskConfig
from scaling.trial import prepare
from sweeps.run.executors.slurm import end_of_task
from sweeps.run.executors.slurm_queue import SlurmError, TaskState, one_line, read_states
from sweeps.run.executors.slurm_task import Answers, Task, Work, read_answers
from sweeps.run.job import Job
from sweeps.run.options import slurm_options
from sweeps.run.trainer import Place
from sweeps.run.units import Unit, make_units, share_out
from sweeps.run.worker import Ended
from tests.command_line import sweeps
from tests.scaling.trials import regression_trial

FEW = ["-m", "lr=0.1", "study.name=small", "budget.max_steps=5", "relative_targets=[]"]


def program(folder: Path, name: str, script: str) -> None:
    """A command that answers as one of Slurm's does."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{script}\n")
    (folder / name).chmod(0o755)


def units_of(steps: list[int]) -> list[Unit]:
    trials = prepare([regression_trial(max_steps=n) for n in steps])
    return [Unit([n], [one], [{}], (), [([], [])], Path()) for n, one in enumerate(trials)]


def test_units_are_shared_out_evenly_and_longest_first() -> None:
    units = units_of([10, 70, 20, 60, 30, 40])
    shares = share_out(units, 2)
    steps = [[unit.trials[0].max_steps for unit in share] for share in shares]
    assert sorted(map(sum, steps)) in ([110, 120], [115, 115])
    assert all(share == sorted(share, reverse=True) for share in steps)
    assert sorted(n for share in shares for unit in share for n in unit.numbers) == [*range(6)]
    assert len(share_out(units, 100)) == 6


@pytest.mark.parametrize(
    ("state", "paused", "kind", "text"),
    [
        ("TIMEOUT", None, "paused", "reached its time limit (hydra.launcher.slurm.time_minutes=60"),
        ("COMPLETED", "SIGUSR2", "paused", "reached its time limit"),
        ("PREEMPTED", "SIGTERM", "paused", "was preempted on node n1"),
        ("CANCELLED", "SIGTERM", "cancelled", "was cancelled (scancel"),
        ("COMPLETED", "SIGTERM", "paused", "was told to stop by SIGTERM"),
        ("OUT_OF_MEMORY", None, "lost", "ran out of memory (hydra.launcher.slurm.memory_gb=2"),
        ("NODE_FAIL", None, "lost", "lost its node n1"),
        ("FORGOTTEN", None, "lost", "is no longer known to Slurm"),
        ("FAILED", None, "lost", "ended on node n1 (FAILED, NonZeroExitCode): last words"),
    ],
)
def test_what_became_of_a_task(state: str, paused: str | None, kind: str, text: str) -> None:
    answers = Answers(frozenset([0]), {}, paused)
    seen = TaskState(state, "NonZeroExitCode", "1", "n1")
    ended = end_of_task("7_1", seen, answers, SlurmOptions(memory_gb=2), ": last words")
    assert ended[0] == kind
    assert ended[1].startswith("its Slurm task 7_1 ")
    assert text in ended[1]


def test_what_a_task_said_may_be_torn_and_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "said"
    lines: list[dict] = [
        {"unit": 0, "begun": True},
        {"unit": 0, "kind": "done", "text": ""},
        {"unit": 1, "begun": True},
        {"paused": "SIGTERM"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"un')
    assert read_answers(path) == Answers(frozenset([0, 1]), {0: Ended("done")}, "SIGTERM")
    path.write_text(path.read_text() + '\n{"unit":1,"begun":true}\n')
    assert read_answers(path).paused is None


def test_states_of_tasks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["8_0|RUNNING|None|0|n1|", "8_1|NODE_FAIL|NodeDown|0|n2|", "9_0|PENDING|Priority|0||"]
    program(tmp_path, "squeue", "print(*%r, sep='\\n')" % rows)  # noqa: UP031
    monkeypatch.setenv("PATH", str(tmp_path))
    states = read_states(["8_0", "8_1", "8_2"])
    assert [state.state for state in states.values()] == ["RUNNING", "NODE_FAIL", "FORGOTTEN"]
    assert [state.ended for state in states.values()] == [False, True, True]
    assert states["8_1"].node == "n2"
    refuse = "import sys; sys.exit('slurm_load_jobs error: {}')"
    program(tmp_path, "squeue", refuse.format("Invalid job id specified"))
    assert read_states(["8_0"])["8_0"].state == "FORGOTTEN"
    program(tmp_path, "squeue", refuse.format("Unable to contact slurm controller"))
    with pytest.raises(SlurmError, match=r"^squeue: Unable to contact slurm controller$"):
        read_states(["8_0"])


def test_a_job_of_another_machine_lives_as_long_as_slurm_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "squeue", "import sys; print(7) if '--jobs=7' in sys.argv else sys.exit(1)")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    here = this_process()
    assert here["slurm_job"] == "7"
    there = {**here, "host": "elsewhere", "pid": 2**22 + 1}
    assert is_alive(there)
    assert not is_alive({**there, "slurm_job": "8"})
    assert not is_alive({key: value for key, value in there.items() if key != "slurm_job"})
    assert is_alive(here)
    assert not is_alive({**here, "pid": 2**22 + 1})  # gone from this machine


def test_errors_of_sbatch_are_one_line() -> None:
    text = "sbatch: error: invalid partition: x\nsbatch: error: Batch job submission failed\n"
    assert one_line(text) == "invalid partition: x; Batch job submission failed"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"max_tasks": 0}, "hydra.launcher.slurm.max_tasks=0: must be at least 1"),
        ({"gpus": -1}, "hydra.launcher.slurm.gpus=-1: must be at least 0"),
        ({"memory_gb": -1.0}, "hydra.launcher.slurm.memory_gb=-1.0: must be at least 0.1"),
        ({"time_minutes": 1, "grace_seconds": 60}, "must be less than slurm.time_minutes=1"),
    ],
)
def test_options_that_none_can_have(given: dict, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        slurm_options(given)
    assert line in str(caught.value)


def test_without_sbatch_or_submitit_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = sweeps(*FEW, "hydra.launcher.executor=slurm", cwd=tmp_path, PATH=str(tmp_path / "bin"))
    assert done.returncode == 2
    assert done.stderr == (
        "error: hydra.launcher.executor=slurm: sbatch is not on this machine; use executor=local, "
        "or start it where Slurm is\n"
    )
    for name in ("sbatch", "squeue", "scancel", "srun"):
        program(tmp_path / "bin", name, "")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="requires submitit: pip install submitit"):
        slurm_options({})


def test_an_executor_that_there_is_not(tmp_path: Path) -> None:
    done = sweeps(*FEW, "hydra.launcher.executor=cloud", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: hydra.launcher.executor=cloud: must be one of local, slurm\n"


def work_of(folder: Path, task: dict, timeout_seconds: float | None) -> Work:
    """Two trials of a custom task, as a task of an array gets them."""
    changes = {"task": CustomTaskConfig(**task), "relative_targets": []}
    base = regression_trial(max_steps=60, **changes)
    configs = [replace(base, study=StudyConfig(name="small"), lr=lr) for lr in (0.05, 0.1)]
    jobs = [Job(asdict(config), [], folder / str(config.lr)) for config in configs]
    trials = prepare(configs)
    for job in jobs:
        job.directory.mkdir()
    units = make_units(jobs, trials, plan(trials, StudyRecord()), StudyRecord(), stack_size=1)
    place = Place(folder, "small", {"name": "sweep", "tags": {}}, interval_seconds=0.0)
    (folder / "said").touch()
    return Work(place, units, 1, timeout_seconds, folder / "said")


def start(work: Work, folder: Path) -> subprocess.Popen:
    (folder / "task").write_bytes(pickle.dumps(Task(work)))
    code = "import pickle; pickle.load(open('task', 'rb'))()"
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder)


def has_moved(folder: Path) -> bool:
    """Whether an evaluation after step 0 stands in a journal there."""
    return any(max(steps_in(path, 0), default=0) > 0 for path in folder.glob("*.jsonl"))


def steps_in(journal: Path, number: int) -> list[int]:
    """Of the lines that are whole: a journal may be read while it is written."""
    whole, _, _ = journal.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    kept = [line for line in lines if line["record"] == "evaluation" and number in line["trials"]]
    return [line["step"] for line in kept]


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("fragile", "patient"):
        shutil.copy(Path(__file__).parents[1] / f"{name}.py", tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.long
def test_a_task_told_to_save_goes_on_when_it_is_started_again(user_folder: Path) -> None:
    work = work_of(user_folder, {"path": "patient.Patient"}, None)
    (user_folder / "slow.txt").touch()
    with start(work, user_folder) as process:
        deadline = time.monotonic() + 60
        # a checkpoint alone may be older than the first evaluation after step 0
        while not (list(user_folder.glob("checkpoints/*.ckpt")) and has_moved(user_folder)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert read_answers(work.answers) == Answers(frozenset([0]), {}, "SIGTERM")
    (user_folder / "slow.txt").unlink()
    with start(work, user_folder) as process:
        assert process.wait(timeout=60) == 0
    answers = read_answers(work.answers)
    assert answers.paused is None
    assert [ended.kind for ended in answers.ended.values()] == ["done", "done"]
    record = read_record(user_folder)
    for unit in work.units:
        [trial] = unit.trials
        assert record.trials[trial.trial_id].covers(trial.config.evaluation, 60)
    [first, second] = sorted(user_folder.glob("*.jsonl"))
    number = work.units[0].numbers[0]
    assert min(steps_in(second, number)) > max(steps_in(first, number)) > 0


@pytest.mark.long
def test_a_trial_that_hangs_ends_its_task(user_folder: Path) -> None:
    options = {"path": "fragile.Fragile", "options": {"trouble": "hang"}}
    work = work_of(user_folder, options, timeout_seconds=1.0)
    with start(work, user_folder) as process:
        assert process.wait(timeout=60) == 1
    answers = read_answers(work.answers)
    text = "took longer than hydra.launcher.trial_timeout_seconds=1 for each of 1 trials"
    assert answers.ended == {0: Ended("timeout", text)}
    assert answers.begun == {0}
