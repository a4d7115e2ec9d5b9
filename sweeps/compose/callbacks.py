"""Hydra's callbacks: ours, which it calls before it touches the disk itself, and how those of
single jobs are called where the jobs train in stacks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from scaling.config import StudyConfig
from scaling.limits import ConfigError
from scaling.validation import validate_study
from sweeps.command_line.messages import one_line_errors
from sweeps.compose.composer import Composer
from sweeps.compose.folders import check_folder, hide_passwords
from sweeps.run.job import Job
from sweeps.run.made_folders import make


class CheckRecordDir(Callback):
    """A record folder that cannot be written is one line; Hydra would make it with a traceback."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with one_line_errors():
            validate_study(StudyConfig(name=str(config.study.name)))  # it stands in the folder
            check_folder("record_dir", str(config.record_dir))
            try:
                make(Path(str(config.hydra.run.dir)))
            except OSError as error:
                raise ConfigError(
                    "hydra.run.dir", config.hydra.run.dir, str(error.strerror)
                ) from None


class HidePasswords(Callback):
    """Hydra keeps the whole configuration in the job's directory, passwords and all: not these."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(str(config.hydra.runtime.output_dir)) / str(config.hydra.output_subdir)
        for path in folder.glob("*.yaml"):
            text = path.read_text(encoding="utf-8")
            if hide_passwords(text) != text:
                path.write_text(hide_passwords(text), encoding="utf-8")


@dataclass(frozen=True)
class JobCallbacks:
    """Those of a multirun: on_job_start is called for all jobs before the first stack trains,
    on_job_end for all, in order, when all are done. Nothing is composed where nobody listens."""

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

    @property
    def listen(self) -> bool:
        """Someone is called for each job, and may look into its directory."""
        return self._listen("on_job_start") or self._listen("on_job_end")

    def _listen(self, event: str) -> bool:
        """Whether a callback other than ours, which looks at files of Hydra's, has this method."""
        kinds = [type(one) for one in self.callbacks.callbacks]
        others = [kind for kind in kinds if kind.__module__ != __name__]
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
