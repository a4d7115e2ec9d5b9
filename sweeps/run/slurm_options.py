"""What a sweep asks of Slurm: `hydra.launcher.slurm.*`, checked, and as submitit's parameters."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scaling.limits import ConfigError

COMMANDS = ("sbatch", "squeue", "scancel", "srun")
AT_LEAST_ONE = ("time_minutes", "cpus", "max_tasks", "grace_seconds")


@dataclass(frozen=True)
class SlurmOptions:
    """Of one array task: time_minutes, memory_gb, cpus, gpus. None: as the cluster has it.

    max_tasks: array tasks that the stacks of a launch are shared out to at most; parallel_tasks:
    how many of them run at once at most. grace_seconds: how long before the end of its time a task
    is told to save. poll_seconds: how often Slurm is asked. setup: shell lines before the training.
    extra: any other option of sbatch, by its long name.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time_minutes: int = 60
    memory_gb: float | None = None
    cpus: int = 1
    gpus: int = 0
    max_tasks: int = 16
    parallel_tasks: int | None = None
    grace_seconds: int = 60
    poll_seconds: float = 5.0
    setup: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def sbatch_parameters(self, name: str, n_tasks: int) -> dict[str, Any]:
        """Those of submitit.SlurmExecutor for an array of n_tasks."""
        return {
            "job_name": name,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.time_minutes,
            "mem": None if self.memory_gb is None else f"{round(self.memory_gb * 1024)}M",
            "cpus_per_task": self.cpus,
            "ntasks_per_node": 1,
            "gres": f"gpu:{self.gpus}" if self.gpus else None,
            "signal_delay_s": self.grace_seconds,
            "array_parallelism": self.parallel_tasks or n_tasks,
            "setup": self.setup or None,
            "wckey": None,
            "additional_parameters": {"requeue": True, **self.extra},
        }


def slurm_options(given: Mapping[str, Any]) -> SlurmOptions:
    """The launcher's configuration, checked; ConfigError also where there is no Slurm."""
    options = SlurmOptions(**given)
    least: dict[str, float] = dict.fromkeys(AT_LEAST_ONE, 1)
    least |= {"gpus": 0, "poll_seconds": 0.1, "memory_gb": 0.1, "parallel_tasks": 1}
    for one in fields(options):
        value = getattr(options, one.name)
        if value is not None and one.name in least and not value >= least[one.name]:
            allowed = f"must be at least {least[one.name]:g}"
            raise ConfigError(f"hydra.launcher.slurm.{one.name}", value, allowed)
    if options.grace_seconds >= 60 * options.time_minutes:
        allowed = f"must be less than slurm.time_minutes={options.time_minutes} has"
        raise ConfigError("hydra.launcher.slurm.grace_seconds", options.grace_seconds, allowed)
    _refuse_without_slurm()
    return options


def _refuse_without_slurm() -> None:
    instead = "use executor=local"
    for command in COMMANDS:
        if shutil.which(command) is None:
            allowed = f"{command} is not on this machine; {instead}, or start it where Slurm is"
            raise ConfigError("hydra.launcher.executor", "slurm", allowed)
    if importlib.util.find_spec("submitit") is None:
        allowed = f"needs submitit: pip install submitit; or {instead}"
        raise ConfigError("hydra.launcher.executor", "slurm", allowed)
