"""What the launcher is told (hydra.launcher), checked; defaults and limits are the plugin's."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra_plugins.batch_scaling._options import SlurmOptions, StackedOptions, below_limits

from scaling.limits import ConfigError

EXECUTORS = ("local", "slurm")
COMMANDS = ("sbatch", "squeue", "scancel", "srun")


@dataclass(frozen=True)
class LauncherOptions:
    """workers: processes, 0 for none but this one. trial_timeout_seconds: of one trial, in a stack
    times its trials. slurm: train there, not in workers."""

    stack_size: int = 1024
    workers: int = 0
    trial_timeout_seconds: float | None = None
    retries: int = 1
    fail_fast: bool = False
    slurm: SlurmOptions | None = None


def launcher_options(given: Mapping[str, Any]) -> LauncherOptions:
    """ConfigError for a value that cannot be used."""
    options, key = StackedOptions(**given), "hydra.launcher."
    for name, value, allowed in below_limits(options):
        raise ConfigError(key + name, value, allowed)
    timeout, workers = options.trial_timeout_seconds, options.workers
    if timeout is not None and not timeout > 0:
        allowed = "must be above 0, or null for no limit"
        raise ConfigError(f"{key}trial_timeout_seconds", timeout, allowed)
    n_workers = available_cores() if workers == "auto" else workers
    if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 0:
        allowed = "must be auto (one a core) or a whole number; 0: train in this process"
        raise ConfigError(f"{key}workers", workers, allowed)
    if options.executor not in EXECUTORS:
        allowed = f"must be one of {', '.join(EXECUTORS)}"
        raise ConfigError(f"{key}executor", options.executor, allowed)
    if n_workers == 0 and timeout is not None and options.executor == "local":
        allowed = "requires workers: set hydra.launcher.workers=1, or leave the limit null"
        raise ConfigError(f"{key}trial_timeout_seconds", timeout, allowed)
    return LauncherOptions(
        stack_size=options.stack_size,
        workers=n_workers,
        trial_timeout_seconds=timeout,
        retries=options.retries,
        fail_fast=options.fail_fast,
        slurm=slurm_options(given["slurm"]) if options.executor == "slurm" else None,
    )


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def slurm_options(given: Mapping[str, Any]) -> SlurmOptions:
    """The launcher's configuration, checked; ConfigError also where there is no Slurm."""
    options = SlurmOptions(**given)
    for name, value, allowed in below_limits(options):
        raise ConfigError(f"hydra.launcher.slurm.{name}", value, allowed)
    if options.grace_seconds >= 60 * options.time_minutes:
        allowed = f"must be less than slurm.time_minutes={options.time_minutes}"
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
        allowed = f"requires submitit: pip install submitit; or {instead}"
        raise ConfigError("hydra.launcher.executor", "slurm", allowed)
