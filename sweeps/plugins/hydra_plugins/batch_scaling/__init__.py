"""Hydra's doors to this project: the `grid` and `frontier` sweepers, the `stacked` launcher.

Every Hydra application of this environment imports this module: heavy imports wait in functions.
Its scan does so outside of sys.modules, where postponed annotations do not resolve.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class GridConf:
    _target_: str = "hydra_plugins.batch_scaling.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class FrontierConf:
    """Everything swept in params or on the command line, but lr and seed, makes the cells.

    lr_base, lr_ratio: learning rates are base * ratio^k; base null: the trial's lr, where the
    search begins. lr_range: [lowest, highest]; null: 10,000 times to either side of the base.
    stride: of the first scan, in lattice steps, then halved. cap_factor: trials stop at this many
    times the fewest steps known in their cell. search_seeds: the first so many seeds search, all
    of them are trained at the best lr and its neighbours. give_up_after: learning rates that a
    cell tries in vain at a target. tune_for: all targets, or the hardest only.
    """

    _target_: str = "hydra_plugins.batch_scaling.FrontierSweeper"
    lr_base: float | None = None
    lr_ratio: float = 1.09
    lr_range: list[float] | None = None
    stride: int = 8
    cap_factor: float = 2.0
    search_seeds: int = 1
    give_up_after: int = 16
    tune_for: str = "all"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class SlurmConf:
    """What is asked of Slurm; null: as the cluster has it. Explained in
    sweeps/run/slurm_options.py."""

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


@dataclass
class StackedConf:
    """stack_size: trials that train together at most (bounds memory, changes no number).
    workers: processes of one thread each that train stacks; auto: one a core; 0: this process.
    trial_timeout_seconds: a trial that takes longer fails (a stack: times its trials); null: none.
    retries: how often a trial is gone on with whose worker died or took too long.
    fail_fast: stop at the first trial that fails.
    executor: local, where the workers are processes here, or slurm, where stacks are shared out to
    array tasks of one thread each.
    """

    _target_: str = "hydra_plugins.batch_scaling.StackedLauncher"
    stack_size: int = 1024
    workers: Any = "auto"
    trial_timeout_seconds: float | None = None
    retries: int = 1
    fail_fast: bool = False
    executor: str = "local"
    slurm: SlurmConf = field(default_factory=SlurmConf)


class GridSweeper(BasicSweeper):
    """All combinations of the swept values; a directory of its own for every sweep."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from sweeps.compose.launch import dry_run, fail_after_all

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
        from sweeps.compose.grid import combinations, parse
        from sweeps.messages import one_line_errors

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
        from sweeps.search.settings import split_swept
        from sweeps.search.sweep import sweep_frontier

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        if isinstance(self.launcher, StackedLauncher):
            self.launcher.checked_options()  # before a directory is made
        given = [*self._parse_config(), *arguments]
        loader = self.hydra_context.config_loader
        return sweep_frontier(
            loader,
            self.config,
            lambda: split_swept(given, loader),
            self.settings,
            self.launcher.launch,
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
        from sweeps.compose.launch import launcher_options

        return launcher_options(**self.options)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from sweeps.compose.job_callbacks import JobCallbacks
        from sweeps.compose.launch import launch

        loader, options = self.hydra_context.config_loader, self.checked_options()
        callbacks = JobCallbacks(
            loader, self.config, self.hydra_context.callbacks, self.task_function
        )
        return launch(loader, self.config, job_overrides, initial_job_idx, options, callbacks)


store = ConfigStore.instance()
store.store(group="hydra/sweeper", name="grid", node=GridConf, provider="batch-scaling")
store.store(group="hydra/sweeper", name="frontier", node=FrontierConf, provider="batch-scaling")
store.store(group="hydra/launcher", name="stacked", node=StackedConf, provider="batch-scaling")
