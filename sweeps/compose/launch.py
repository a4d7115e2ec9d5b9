"""Between Hydra and the trials: what the plugins and the entry point call."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from scaling.record.study import RecordReader
from scaling.trial import Trial
from sweeps.command_line.known_keys import refuse_other_keys
from sweeps.command_line.messages import interruptible_between, one_line_errors
from sweeps.compose.callbacks import JobCallbacks
from sweeps.compose.composer import Composer, hydra_config
from sweeps.compose.endings import (
    NOT_TRAINED,
    job_return,
    refuse_stillborn,
    say_failures,
    say_report,
    say_what_came_out,
)
from sweeps.compose.folders import claim_sweep_directory, job_directory
from sweeps.run.job import Job, Search
from sweeps.run.jobs import prepare_jobs, run_trials
from sweeps.run.options import LauncherOptions
from sweeps.run.progress import Count, progress_display
from sweeps.run.provenance import sweep_record
from sweeps.run.study_folder import refuse_if_alive

log = logging.getLogger(__name__)
# (jobs, their trials, number of the first, the open journals of the record folder)
LaunchJobs = Callable[[list[Job], Sequence[Trial], int, RecordReader], Sequence[JobReturn]]
OF_A_SEARCH = "search"  # node that a search adds for launchers that compose anew


def refuse_impossible(
    loader: ConfigLoader, config: DictConfig, batch: Sequence[Sequence[str]]
) -> None:
    """Raise ConfigError, or Hydra's own error, for jobs that cannot be, before any starts."""
    with one_line_errors():
        prepare_jobs(compose_jobs(Composer(loader, config), batch, 0))


def in_claimed_directory(config: DictConfig, jobs: Sequence[Job]) -> list[Job]:
    """Claim the sweep's directory; the jobs, with directories inside of it."""
    with hydra_config(config):
        wanted = str(config.hydra.sweep.dir)
    claim_sweep_directory(config)
    claimed = Path(str(config.hydra.sweep.dir))
    return [replace(job, directory=claimed / job.directory.relative_to(wanted)) for job in jobs]


def launch(
    loader: ConfigLoader,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first_number: int,
    options: LauncherOptions,
    callbacks: JobCallbacks | None = None,
) -> list[JobReturn]:
    """Compose, train and track the jobs of a multirun; a JobReturn each, in order."""
    setup_globals()
    with one_line_errors():
        refuse_if_alive(Path(str(config.record_dir)), str(config.study.name))
        jobs = compose_jobs(Composer(loader, config), job_overrides, first_number)
        trials = prepare_jobs(jobs)
    return launch_jobs(config, jobs, trials, first_number, options, callbacks)


def _maker(config: DictConfig) -> Callable[[Job], None]:
    """Makes the directory of a job with what Hydra leaves there."""
    if (subdir := config.hydra.output_subdir) is not None:
        job_directory(str(config.hydra.sweep.dir), str(subdir), "hydra.output_subdir")

    def make(job: Job) -> None:
        job.directory.mkdir(parents=True, exist_ok=True)
        if subdir is not None:
            job.write_directory(str(subdir))

    return make


def launch_jobs(
    config: DictConfig,
    jobs: list[Job],
    trials: Sequence[Trial],
    first_number: int,
    options: LauncherOptions,
    callbacks: JobCallbacks | None = None,
    journals: RecordReader | None = None,
) -> list[JobReturn]:
    """Train and track jobs that are composed and prepared. journals: of the record folder, where
    they are open already."""
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    with one_line_errors():
        jobs = in_claimed_directory(config, jobs)
        directory = Path(str(config.hydra.sweep.dir))
        make_directory = _maker(config)
        if callbacks is not None and callbacks.listen:
            for job in jobs:
                make_directory(job)
            callbacks.started(jobs, first_number)
        study = trials[0].config.study
        sweep = sweep_record(study, directory, sys.argv[1:], [job.overrides for job in jobs])
        of_search = trials[0].cap is not None  # which says how many rounds it takes
        if not of_search:
            log.info("%s: %d trials in %s", study.name, len(trials), directory)
        done = run_trials(jobs, trials, sweep, options, journals, make_directory)
    say_what_came_out(done, trials)
    if not of_search:
        refuse_stillborn(list(done.results.values()), len(trials))
        say_report(study.name)
    errors = {number: failure.error for failure in done.failures for number in failure.numbers}
    returned = [
        job_return(job, done.results.get(number), errors.get(number, NOT_TRAINED))
        for number, job in enumerate(jobs)
    ]
    if callbacks is not None:
        callbacks.ended(jobs, first_number, returned)
    return returned


def by_overrides(launcher: Launcher) -> LaunchJobs:
    """For Hydra's other launchers, which compose each job anew from its overrides."""

    def launch(
        jobs: list[Job], trials: Sequence[Trial], first_number: int, journals: RecordReader
    ) -> Sequence[JobReturn]:
        return launcher.launch([[*job.overrides, *_added(job)] for job in jobs], first_number)

    return launch


def _added(job: Job) -> list[str]:
    assert job.search is not None
    cell = QuotedString(job.search.cell, Quote.single).with_quotes()
    values = {"round": job.search.round, "cell": cell, "cap": job.search.cap}
    if job.search.tuned:
        values["tuned"] = QuotedString(job.search.tuned, Quote.single).with_quotes()
    return [f"+{OF_A_SEARCH}.{key}={value}" for key, value in values.items()]


def compose_jobs(
    composer: Composer, job_overrides: Sequence[Sequence[str]], first_number: int
) -> list[Job]:
    """The jobs' configurations, equal to Hydra's own."""
    before = HydraConfig.instance().cfg
    jobs = []
    with hydra_config(composer.master):
        sweep = str(composer.master.hydra.sweep.dir)
    with progress_display() as display, interruptible_between() as check:
        composed = Count("composing", len(job_overrides), display)
        for number, overrides in enumerate(job_overrides, first_number):
            check()
            job = composer.job(overrides, number)
            folder = job_directory(sweep, job.subdir)
            jobs.append(Job(job.content, list(overrides), folder, job.hydra))
            if len(jobs) == 1:  # what is wrong in every job is said before all are composed
                refuse_other_keys(jobs[0].content)
            composed.add()
    HydraConfig.instance().cfg = before
    return jobs


def run_single(config: DictConfig) -> float:
    """Train the one trial of a Hydra job that is running: `python -m sweeps`, or a job of a
    multirun under Hydra's basic launcher. Returns its main loss."""
    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    in_multirun = hydra.mode is not None and hydra.mode.name == "MULTIRUN"
    whole = Path(str(hydra.sweep.dir)) if in_multirun else directory
    with one_line_errors():
        content = OmegaConf.to_container(config, resolve=True)
        assert isinstance(content, dict)
        search = content.pop(OF_A_SEARCH, None)
        job = Job(
            content={str(key): value for key, value in content.items()},
            overrides=[o for o in hydra.overrides.task if not o.startswith(f"+{OF_A_SEARCH}.")],
            directory=directory,
            search=None if search is None else Search(**search),
        )
        trials = prepare_jobs([job])
        study = trials[0].config.study
        sweep = sweep_record(study, whole, sys.argv[1:], [] if in_multirun else [job.overrides])
        done = run_trials([job], trials, sweep, LauncherOptions())
    if done.failures:
        say_failures(done.failures)
        raise SystemExit(1)
    result = done.results[0]
    if not in_multirun:  # else another sweeper hears of it
        refuse_stillborn([result], 1)
    log.info("%s: loss %.6g at step %d", result.outcome, result.last_loss, result.last_step)
    return result.main_loss
