"""What a command line asks for, composed and prepared before anything is created."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig

from scaling.limits import ConfigError
from scaling.record.checkpoint import read_headers
from scaling.record.plan import describe, plan
from scaling.record.study import read_record
from scaling.trial import Trial
from sweeps.command_line.arguments import CommandLine
from sweeps.command_line.messages import one_line_errors
from sweeps.command_line.study_files import refuse_large_files, refuse_other_task
from sweeps.compose.composer import Composer, hydra_config, task_part
from sweeps.compose.folders import check_places, job_directory
from sweeps.compose.launch import compose_jobs
from sweeps.run.job import Job
from sweeps.run.jobs import prepare_jobs
from sweeps.run.study_folder import refuse_if_alive, refuse_other_kinds


def check(line: CommandLine) -> None:
    """ConfigError, or what Hydra raises, for what cannot be trained. A single trial that is only
    asked about (sweep.dry_run) ends here."""
    if line.config_dir is not None:
        refuse_large_files(line.config_dir)
    refuse_other_task(line.words, line.config_dir)
    if line.multirun:
        return
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


def dry_run(
    loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> None:
    """Print what a multirun would do; create nothing."""
    setup_globals()
    with one_line_errors():
        lines = _would_do(prepare_jobs(compose_jobs(Composer(loader, config), job_overrides, 0)))
    print("\n".join(lines))


def describe_single(content: dict[str, Any], overrides: list[str]) -> list[str]:
    """What `python -m sweeps` without -m would do if it is only asked (sweep.dry_run), else
    nothing; ConfigError for a trial that cannot be."""
    trials = prepare_jobs([Job(content, overrides, Path())])
    if trials[0].config.sweep.probe:
        raise ConfigError("sweep.probe", "true", "is for multiruns: add -m")
    return _would_do(trials) if trials[0].config.sweep.dry_run else []


def _would_do(trials: Sequence[Trial]) -> list[str]:
    folder = Path(trials[0].config.record_dir)
    refuse_other_kinds(folder)
    record = read_record(folder)
    planned = plan(trials, record, read_headers(folder / "checkpoints", move=False)[0])
    return describe(planned, trials, record)
