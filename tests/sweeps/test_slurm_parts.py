"""What is decided around Slurm, without one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from scaling.config import ConfigError
from scaling.journal import is_alive, this_process
from scaling.trial import prepare
from sweeps.slurm import end_of_task, share_out
from sweeps.slurm_options import SlurmOptions, slurm_options
from sweeps.slurm_queue import SlurmError, TaskState, one_line, read_states
from sweeps.slurm_task import Said, read_said
from sweeps.units import Unit
from sweeps.worker import Ended
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
        ("FORGOTTEN", None, "lost", "is not known to Slurm any more"),
        ("FAILED", None, "lost", "ended on node n1 (FAILED, NonZeroExitCode): last words"),
    ],
)
def test_what_became_of_a_task(state: str, paused: str | None, kind: str, text: str) -> None:
    said = Said(frozenset([0]), {}, paused)
    seen = TaskState(state, "NonZeroExitCode", "1", "n1")
    ended = end_of_task("7_1", seen, said, SlurmOptions(memory_gb=2), ": last words")
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
    assert read_said(path) == Said(frozenset([0, 1]), {0: Ended("done")}, "SIGTERM")
    path.write_text(path.read_text()[:-4] + '{"unit":1,"begun":true}\n')
    assert read_said(path).paused is None


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
        ({"time_minutes": 1, "grace_seconds": 60}, "must be less than slurm.time_minutes=1 has"),
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
    with pytest.raises(ConfigError, match="needs submitit: pip install submitit"):
        slurm_options({})


def test_an_executor_that_there_is_not(tmp_path: Path) -> None:
    done = sweeps(*FEW, "hydra.launcher.executor=cloud", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: hydra.launcher.executor=cloud: must be one of local, slurm\n"
