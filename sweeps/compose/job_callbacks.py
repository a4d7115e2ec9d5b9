"""Hydra's callbacks of single jobs (on_job_start, on_job_end) for jobs that train in stacks: all
jobs start before the first stack trains, and end, in order, when all are done."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from sweeps.compose import callbacks as ours
from sweeps.compose.compose import Composer
from sweeps.run.units import Job


@dataclass(frozen=True)
class JobCallbacks:
    """Those of a multirun; nothing is composed for them where nobody listens."""

    loader: ConfigLoader
    master: DictConfig
    callbacks: Callbacks
    task_function: TaskFunction

    def started(self, jobs: Sequence[Job], first_number: int) -> None:
        if self._listen("on_job_start"):
            for _, config in self._each(jobs, first_number):
                self.callbacks.on_job_start(config=config, task_function=self.task_function)

    def ended(self, jobs: Sequence[Job], first_number: int, returned: Sequence[JobReturn]) -> None:
        if self._listen("on_job_end"):
            for number, config in self._each(jobs, first_number):
                result = returned[number - first_number]
                self.callbacks.on_job_end(config=config, job_return=result)

    def _listen(self, event: str) -> bool:
        """Whether a callback other than ours, which looks at files of Hydra's, has this method."""
        kinds = [type(one) for one in self.callbacks.callbacks]
        others = [kind for kind in kinds if kind.__module__ != ours.__name__]
        return any(getattr(kind, event) is not getattr(Callback, event) for kind in others)

    def _each(self, jobs: Sequence[Job], first_number: int) -> Iterator[tuple[int, DictConfig]]:
        """The number and the whole configuration of each job, as Hydra would pass it."""
        composer = Composer(self.loader, self.master)
        with _hydra_config_restored():
            for number, job in enumerate(jobs, first_number):
                config = copy.deepcopy(composer.compose(job.overrides, number))
                with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
                    config.hydra.runtime.output_dir = str(job.directory.absolute())
                HydraConfig.instance().set_config(config)
                yield number, config


@contextmanager
def _hydra_config_restored() -> Iterator[None]:
    before = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
