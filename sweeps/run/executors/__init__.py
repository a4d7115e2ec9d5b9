"""Where units are trained. A new way to submit jobs is one more class here: an `Executor`, with its
line in `new_executor` and its name in `sweeps.run.options.EXECUTORS`.

local.py trains in this process or in worker processes of this machine; slurm.py in array tasks of
Slurm (slurm_queue: what Slurm says of them; slurm_task: what runs in them).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sweeps.run.options import LauncherOptions
    from sweeps.run.trainer import Place
    from sweeps.run.units import Unit
    from sweeps.run.worker import Ended


class Executor(Protocol):
    """capacity: how many units it takes at once."""

    capacity: int

    def start(self) -> None:
        """Have it ready while other things are being prepared."""
        ...

    def submit(self, units: Sequence[Unit]) -> list[Future[Ended]]: ...

    def poll(self) -> None:
        """Look after what trains elsewhere; called again and again while something does."""
        ...

    def stop(self) -> None:
        """Have every unit saved and ended soon."""
        ...

    def close(self, at_once: bool = False) -> None: ...


def new_executor(place: Place, options: LauncherOptions, most_units: int | None) -> Executor:
    """The executor that the launcher's options name. most_units: that it will get, if known."""
    from sweeps.run.executors.local import HereExecutor, WorkerExecutor
    from sweeps.run.executors.slurm import SlurmExecutor

    timeout = options.trial_timeout_seconds
    if options.slurm is not None:
        return SlurmExecutor(place, options.slurm, options.stack_size, timeout)
    n_workers = options.workers if most_units is None else min(options.workers, most_units)
    if n_workers == 0:
        return HereExecutor(place)
    return WorkerExecutor(n_workers, place, timeout)
