"""Hydra's two doors to this project: the `grid` sweeper and the `stacked` launcher.

Every Hydra application of this environment imports this module: heavy imports wait in functions.
Its scan does so outside of sys.modules, where postponed annotations do not resolve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class GridConf:
    _target_: str = "hydra_plugins.batch_scaling.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class StackedConf:
    """stack_size: trials that train together at most (bounds memory, changes no number)."""

    _target_: str = "hydra_plugins.batch_scaling.StackedLauncher"
    stack_size: int = 1024


class GridSweeper(BasicSweeper):
    """All combinations of the swept values; a directory of its own for every sweep."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from sweeps.launch import claim_sweep_directory, dry_run

        assert self.config is not None
        assert self.hydra_context is not None
        if self.config.sweep.dry_run:
            dry_run(self.hydra_context.config_loader, self.config, self._jobs(arguments))
            return []
        claim_sweep_directory(self.config)
        return super().sweep(arguments)

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        parser = OverridesParser.create()
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        return self.split_arguments(overrides, None)[0]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        from sweeps.launch import refuse_impossible

        assert self.config is not None
        assert self.hydra_context is not None
        refuse_impossible(self.hydra_context.config_loader, self.config, batch)


class StackedLauncher(Launcher):
    """Trains the jobs of a multirun in stacks, in this process."""

    def __init__(self, stack_size: int) -> None:
        self.stack_size = stack_size

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from sweeps.launch import launch

        loader = self.hydra_context.config_loader
        return launch(loader, self.config, job_overrides, initial_job_idx, self.stack_size)


store = ConfigStore.instance()
store.store(group="hydra/sweeper", name="grid", node=GridConf, provider="batch-scaling")
store.store(group="hydra/launcher", name="stacked", node=StackedConf, provider="batch-scaling")
