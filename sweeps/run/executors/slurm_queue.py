"""Slurm's own words on a sweep's tasks: squeue and scancel."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from scaling.record.process import UNKNOWN_JOB
from sweeps.command_line.messages import OneLineError

log = logging.getLogger(__name__)
PATIENCE_SECONDS = 60.0
END_SECONDS = 300.0  # what cancelled tasks may take to save and end
FIELDS = ("JobArrayID", "State", "Reason", "exit_code", "NodeList")
COLUMNS = ",".join(f"{name}:|" for name in FIELDS)
# whatever else is an end; https://slurm.schedmd.com/squeue.html, "job state codes"
NOT_ENDED = (
    *("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING"),
    *("STAGE_OUT", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
    *("RESV_DEL_HOLD", "REVOKED"),
)


class SlurmError(OneLineError):
    """Slurm refuses what a sweep needs."""


@dataclass(frozen=True)
class TaskState:
    """state, reason: Slurm's names. exit_code: of the task, None where it has none."""

    state: str
    reason: str = ""
    exit_code: str = ""
    node: str = ""

    @property
    def ended(self) -> bool:
        return self.state not in NOT_ENDED


FORGOTTEN = TaskState("FORGOTTEN")


def job_name(folder: Path) -> str:
    """What tells the tasks that work in a record folder from every other job."""
    return f"batch-scaling-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def read_states(tasks: Collection[str]) -> dict[str, TaskState]:
    """The state of each task; FORGOTTEN for those that Slurm no longer knows.

    SlurmError if Slurm does not answer: then nothing is known of any.
    """
    arrays = sorted({task.partition("_")[0] for task in tasks})
    arguments = ["--array", "--noheader", "--states=all", f"--jobs={','.join(arrays)}"]
    try:
        lines = _ask("squeue", *arguments, "-O", COLUMNS).splitlines()
    except SlurmError as error:
        if UNKNOWN_JOB not in str(error):
            raise
        lines = []
    rows = [line.split("|") for line in lines]
    known = {row[0]: TaskState(*row[1:5]) for row in rows if len(row) >= len(FIELDS)}
    return {task: known.get(task, FORGOTTEN) for task in tasks}


def cancel(tasks: Collection[str]) -> None:
    """End them: SIGTERM, on which they save, and SIGKILL when Slurm's KillWait is over."""
    if tasks:
        _ask("scancel", "--quiet", *sorted(tasks))


def ask_to_save(tasks: Collection[str]) -> None:
    """Those that wait are cancelled, those that run get a SIGTERM and the time that they need."""
    if tasks:
        _ask("scancel", "--quiet", "--state=PENDING", *sorted(tasks))
        _ask("scancel", "--quiet", "--signal=TERM", *sorted(tasks))


def end_left_over(folder: Path) -> None:
    """Cancel the tasks of a sweep that ended without them, and wait until they have saved."""
    if not (folder / "slurm").exists() or shutil.which("squeue") is None:
        return
    tasks = _named(job_name(folder))
    if not tasks:
        return
    log.warning(
        "%d Slurm jobs of a sweep that has ended still train this study: they are told to save and "
        "end, and this sweep resumes from there",
        len(tasks),
    )
    cancel(tasks)
    deadline = time.monotonic() + END_SECONDS
    while tasks := _named(job_name(folder)):
        if time.monotonic() > deadline:
            raise SlurmError(f"Slurm jobs {', '.join(tasks)} do not end: scancel them")
        time.sleep(1.0)


def _named(name: str) -> list[str]:
    listed = _ask("squeue", "--me", "--noheader", f"--name={name}", "--format=%A")
    return sorted(set(listed.split()))


def _ask(*command: str) -> str:
    """start_new_session: a terminal's Ctrl-C is the sweep's to handle."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        text = f"did not answer within {PATIENCE_SECONDS:.0f} seconds"
        raise SlurmError(f"{command[0]}: {text}") from None
    if done.returncode != 0:
        raise SlurmError(f"{command[0]}: {one_line(done.stderr)}")
    return done.stdout


def one_line(text: str) -> str:
    """What a command of Slurm printed as an error, without its prefixes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(line.rpartition("error: ")[2] for line in lines) or "no reason given"
