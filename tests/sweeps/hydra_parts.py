"""Hydra's own loader and a multirun's configuration, for tests that hold ours against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from sweeps.compose import hydra_schema


@contextmanager
def multirun(*overrides: str) -> Iterator[tuple[ConfigLoader, DictConfig]]:
    """The config loader and the configuration of a multirun started with these overrides."""
    hydra_schema.register()
    with initialize_config_module("conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)
        with open_dict(master.hydra):
            master.hydra.job.name = "sweeps"
        before = HydraConfig.instance().cfg
        try:
            yield loader, master
        finally:
            HydraConfig.instance().cfg = before


def jobs_of(master: DictConfig, arguments: Sequence[str] = ()) -> list[list[str]]:
    """The overrides of every job of the multirun's sweep, as Hydra's basic sweeper lays them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = master.hydra.sweeper.params or {}
    given = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides([*given, *arguments])
    return BasicSweeper.split_arguments(parsed, None)[0]
