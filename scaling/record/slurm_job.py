"""The Slurm job that a process runs in, and whether it still runs somewhere."""

from __future__ import annotations

import os
import subprocess
import time
from functools import lru_cache

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
