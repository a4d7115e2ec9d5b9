"""What a command line asks for, composed and prepared before anything is created."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig

from scaling.limits import ConfigError
from sweeps.compose.arguments import CommandLine
from sweeps.compose.compose import hydra_config, task_part
from sweeps.compose.folders import check_places, job_directory
from sweeps.compose.study_files import refuse_large_files, refuse_other_task
from sweeps.run.study_folder import refuse_if_alive


def check(line: CommandLine) -> None:
    """ConfigError, or what Hydra raises, for what cannot be trained. A single trial that is only
    asked about (sweep.dry_run) ends here."""
    if line.config_dir is not None:
        refuse_large_files(line.config_dir)
    refuse_other_task(line.words)
    if line.multirun:
        return
    from sweeps.compose.launch import describe_single

    with composed(line) as config:
        refuse_missing_multirun(line, config)
        content = task_part(config)
        refuse_if_alive(Path(str(config.record_dir)), str(config.study.name))
        check_places(config, "hydra.run.dir")
        if (output := config.hydra.output_subdir) is not None:
            job_directory(str(config.hydra.run.dir), str(output), "hydra.output_subdir")
        description = describe_single(content, list(config.hydra.overrides.task))
    if description:
        print("\n".join(description))
        raise SystemExit(0)


@contextmanager
def composed(line: CommandLine) -> Iterator[DictConfig]:
    """The configuration of a single trial, as Hydra will compose it."""
    path = create_automatic_config_search_path(
        None, "sweeps.__main__", line.config_path or "pkg://conf"
    )
    if line.config_dir is not None:
        folder = f"file://{os.path.abspath(line.config_dir)}"
        path.prepend("command-line", folder, SearchPathQuery(provider="schema"))
    setup_globals()
    JobRuntime().set("name", "sweeps")
    loader: ConfigLoader = ConfigLoaderImpl(path)
    words = [str(override.input_line) for override in line.overrides]
    config = loader.load_configuration(line.config_name or "config", words, RunMode.RUN)
    config.hydra.mode = RunMode.RUN
    with hydra_config(config):
        yield config


def refuse_missing_multirun(line: CommandLine, config: DictConfig) -> None:
    """ConfigError for a study that sweeps what this trial gives no value."""
    study = str(config.hydra.runtime.choices.study)
    given = {override.key_or_group for override in line.overrides}
    swept = [key for key in config.hydra.sweeper.get("params") or {} if key not in given]
    if swept:
        keys = ", ".join(map(str, swept))
        allowed = f"sweeps {keys}; add -m, or give each of them one value"
        raise ConfigError("study", study, allowed)
    target = str(config.hydra.sweeper.get("_target_"))
    if target.endswith("FrontierSweeper") and "lr" not in given:
        raise ConfigError("study", study, "searches lr; add -m, or give lr one value")
