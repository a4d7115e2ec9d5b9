"""Hydra's doors to this project: the `grid` and `frontier` sweepers, the `stacked` launcher.

Every Hydra application of this environment imports this module: heavy imports wait in functions.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.batch_scaling._options import FrontierOptions, GridOptions, StackedOptions
from omegaconf import DictConfig, OmegaConf


class GridSweeper(BasicSweeper):
    """All combinations of the swept values; a directory of its own for every sweep."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from sweeps.compose.check import dry_run
        from sweeps.compose.endings import fail_after_all

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        loader, jobs = self.hydra_context.config_loader, self._jobs(arguments)
        if self.config.sweep.dry_run:
            dry_run(loader, self.config, jobs)
            return []
        if self.config.sweep.probe:
            from sweeps.probe import probe

            probe(loader, self.config, jobs)
            return []
        size = self.max_batch_size or len(jobs)
        if size < len(jobs) or not isinstance(self.launcher, StackedLauncher):
            self.claim(jobs)  # the stacked launcher checks what it launches itself
        batches = range(0, len(jobs), size)
        returned = [self.launcher.launch(jobs[begin : begin + size], begin) for begin in batches]
        fail_after_all(returned)
        return returned

    def claim(self, jobs: Sequence[Sequence[str]]) -> None:
        from sweeps.compose.folders import claim_sweep_directory
        from sweeps.compose.launch import refuse_impossible

        assert self.config is not None
        assert self.hydra_context is not None
        refuse_impossible(self.hydra_context.config_loader, self.config, jobs)
        claim_sweep_directory(self.config)

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        from sweeps.command_line.grid import combinations, parse
        from sweeps.command_line.messages import one_line_errors

        assert self.hydra_context is not None
        with one_line_errors():
            if self.max_batch_size is not None and self.max_batch_size < 1:
                from scaling.limits import ConfigError

                key = "hydra.sweeper.max_batch_size"
                raise ConfigError(key, self.max_batch_size, "must be at least 1, or null")
            words = [*self._parse_config(), *arguments]
            return combinations(parse(words, self.hydra_context.config_loader))


class FrontierSweeper(BasicSweeper):
    """Finds the best lr of every cell in rounds; each is one launch."""

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(max_batch_size, params)
        self.settings = settings

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from sweeps.compose.launch import by_overrides
        from sweeps.search.settings import split_swept
        from sweeps.search.sweep import sweep_frontier

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        if isinstance(self.launcher, StackedLauncher):
            self.launcher.checked_options()  # before a directory is made
            launch = self.launcher.launch_jobs
        else:
            launch = by_overrides(self.launcher)
        given = [*self._parse_config(), *arguments]
        loader = self.hydra_context.config_loader
        return sweep_frontier(
            loader,
            self.config,
            lambda: split_swept(given, loader, self.settings["tuned"]),
            self.settings,
            launch,
        )


class StackedLauncher(Launcher):
    """Trains the jobs of a multirun in stacks, in worker processes."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def checked_options(self) -> Any:
        from sweeps.command_line.messages import one_line_errors
        from sweeps.run.options import launcher_options

        with one_line_errors():
            return launcher_options(self.options)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from sweeps.compose.launch import launch

        loader, options = self.hydra_context.config_loader, self.checked_options()
        return launch(
            loader, self.config, job_overrides, initial_job_idx, options, self._callbacks()
        )

    def launch_jobs(
        self, jobs: list[Any], trials: Sequence[Any], first_number: int, journals: Any
    ) -> Sequence[JobReturn]:
        """For jobs that are composed and prepared, and journals that are open."""
        from sweeps.compose.launch import launch_jobs

        options, callbacks = self.checked_options(), self._callbacks()
        return launch_jobs(self.config, jobs, trials, first_number, options, callbacks, journals)

    def _callbacks(self) -> Any:
        from sweeps.compose.callbacks import JobCallbacks

        context = self.hydra_context
        return JobCallbacks(
            context.config_loader, self.config, context.callbacks, self.task_function
        )


store = ConfigStore.instance()
store.store(group="hydra/sweeper", name="grid", node=GridOptions, provider="batch-scaling")
store.store(group="hydra/sweeper", name="frontier", node=FrontierOptions, provider="batch-scaling")
store.store(group="hydra/launcher", name="stacked", node=StackedOptions, provider="batch-scaling")
