"""Processes, and whether they are alive: on this machine, or in a Slurm job on another one."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil


def this_process() -> dict[str, Any]:
    """What tells this process from every other one, now and later."""
    process = psutil.Process()
    here = {"host": socket.gethostname(), "pid": process.pid}
    here["process_started"] = round(process.create_time(), 2)
    here |= _start_since_boot(process.pid)
    job = this_slurm_job()
    return here if job is None else {**here, "slurm_job": job}


def _start_since_boot(pid: int) -> dict[str, Any]:
    """When a process started, on a clock that nobody sets; {} where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except OSError:
        return {}
    return {"boot": boot, "start_ticks": int(after_name.split()[19])}  # man 5 proc: starttime


def is_alive(process: dict[str, Any]) -> bool:
    """The process of `this_process` runs on this machine, or in a Slurm job on another one.

    False for what else ran on other machines: nobody here can know.
    """
    if process["host"] != socket.gethostname():
        return "slurm_job" in process and slurm_job_is_alive(process["slurm_job"])
    try:
        started = psutil.Process(process["pid"]).create_time()
    except (psutil.Error, ValueError, OverflowError):
        return False
    now = _start_since_boot(process["pid"])
    if now and "start_ticks" in process:
        return all(process[key] == value for key, value in now.items())
    return abs(started - process["process_started"]) < 1.0


ASKED_AGAIN_SECONDS = 10.0
PATIENCE_SECONDS = 30.0
UNKNOWN_JOB = "Invalid job id"


def this_slurm_job() -> str | None:
    return os.environ.get("SLURM_JOB_ID")


def slurm_job_is_alive(job: str) -> bool:
    """It waits or runs, or Slurm does not say; False also where there is no Slurm to be asked."""
    return _is_alive(job, int(time.monotonic() / ASKED_AGAIN_SECONDS))


@lru_cache(maxsize=1024)
def _is_alive(job: str, moment: int) -> bool:
    """squeue lists what has not ended, and refuses a job that it has forgotten.

    A controller that is slow or away says nothing of the job.
    """
    command = ["squeue", "--noheader", f"--jobs={job}", "--format=%i"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return True
    except OSError:
        return False
    if asked.returncode != 0:
        return bool(asked.stderr.strip()) and UNKNOWN_JOB not in asked.stderr
    return bool(asked.stdout.strip())
