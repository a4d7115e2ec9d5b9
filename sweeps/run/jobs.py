"""Jobs of a multirun: configurations -> what is left to do -> units -> results by number."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from scaling.config import TrialConfig, trial_config
from scaling.limits import ConfigError
from scaling.record.checkpoint import read_headers, tidy
from scaling.record.journal import Journal
from scaling.record.plan import Plan, differences, plan, saved_among
from scaling.record.study import RecordReader, StudyRecord, read_record, requested
from scaling.result import TrialResult
from scaling.trial import Trial, prepare
from scaling.validation import validate_names
from sweeps.command_line.known_keys import refuse_other_keys
from sweeps.run.executors.slurm_queue import end_left_over
from sweeps.run.final_losses import check_final_losses
from sweeps.run.job import Job, leaves_of, trial_params
from sweeps.run.made_folders import keep_folders
from sweeps.run.options import LauncherOptions
from sweeps.run.progress import Count, progress_display
from sweeps.run.provenance import sweep_files, sweep_record
from sweeps.run.session import Crew, crew_for, executor_for
from sweeps.run.study_folder import live_sweep
from sweeps.run.trainer import Place
from sweeps.run.training import Failure, Training, stop_requests
from sweeps.run.units import Unit, journal_headers, make_units

log = logging.getLogger(__name__)


def prepare_jobs(jobs: Sequence[Job]) -> list[Trial]:
    """The trials of the jobs; ConfigError for an impossible value, or one that they must share."""
    shapes = {frozenset(leaves_of(job.content)): job.content for job in jobs}
    for content in shapes.values():
        refuse_other_keys(content)
    trials = prepare([trial_config(job.content) for job in jobs])
    for job, trial in zip(jobs, trials, strict=True):
        _take_over_rule(job.content, trial.config)
    caps = [None if job.search is None else job.search.cap for job in jobs]
    trials = [replace(trial, cap=cap) for trial, cap in zip(trials, caps, strict=True)]
    for content in shapes.values():
        validate_names("params", leaves_of(content))
    for key in ("study.name", "tracking.uri", "record_dir"):
        values = {str(attrgetter(key)(trial.config)) for trial in trials}
        if len(values) > 1:
            allowed = "must be the same for all trials; run a sweep for each"
            raise ConfigError(key, ",".join(sorted(values)), allowed)
    check_final_losses(trials)
    return trials


def _take_over_rule(content: dict[str, Any], config: TrialConfig) -> None:
    """The numbers that a rule made into the job's configuration, from which its record is."""
    if config.rule.reference:
        content["lr"], content["rule"] = config.lr, asdict(config.rule)
        content["optimizer"] = asdict(config.optimizer)


@dataclass(frozen=True)
class SweepResult:
    """results: by number of the job; a trial that is in neither was interrupted."""

    results: dict[int, TrialResult]
    failures: list[Failure]


def run_trials(
    jobs: Sequence[Job],
    trials: Sequence[Trial],
    sweep: dict[str, Any],
    options: LauncherOptions,
    journals: RecordReader | None = None,
    make_directory: Callable[[Job], None] = lambda job: None,
) -> SweepResult:
    """The results of all trials: those on record, and the others trained and tracked.

    Trials of equal shapes train as stacks. journals: of the record folder, where they are open
    already. make_directory: of each job that is to be trained. StoreError before anything is
    trained if the store cannot be used; ConfigError if another sweep of the study is alive;
    SlurmError if Slurm refuses the job; KeyboardInterrupt when it was told to stop and everything
    is saved.
    """
    config = trials[0].config
    folder = Path(config.record_dir).absolute()
    place = Place(folder, config.study.name, sweep, config.checkpoint.interval_seconds)
    with live_sweep(folder, place.study):
        end_left_over(folder)
        crew = crew_for(config, place)
        with crew.at_work():
            headers, refused = read_headers(place.checkpoints)
            tidy(place.checkpoints, headers)
            record = read_record(folder) if journals is None else journals.read()
            planned = plan(trials, record, [h for h in headers if h.path.exists()])
            _say(planned, trials, record, sweep["tags"], refused)
            units = make_units(jobs, trials, planned, record, options.stack_size)
            asked = new_requests(jobs, trials, planned, record)
            for number in planned.to_do:
                make_directory(jobs[number])
            training = _run_units(units, asked, planned, record, crew, place, options)
    if training is None:
        return SweepResult(planned.results, [])
    if training.left and not training.failures:
        done, left = len(training.results), training.left
        log.info("interrupted: %d trials ended, %d are left to do", done, left)
        raise KeyboardInterrupt
    return SweepResult(planned.results | training.results, training.failures)


def _run_units(
    units: Sequence[Unit],
    asked: Mapping[int, dict[str, Any]],
    planned: Plan,
    record: StudyRecord,
    crew: Crew,
    place: Place,
    options: LauncherOptions,
) -> Training | None:
    """None if nothing had to be trained."""
    training = None
    crew.begin(None if crew.has_executor or not units else executor_for(len(units), place, options))
    if units or asked:
        crew.n_trials += len(planned.to_do) + len(asked)
        keep_folders()
        with progress_display() as display, place.new_journal() as journal:
            write_requests(journal, asked, planned, record)
            if units:
                journal.write("sweep", tags={}, files=sweep_files())
                count = Count("training", len(planned.to_do), display)
                executor, look_after = crew.executor, crew.look_after
                training = Training(place, options, journal, executor, count, crew.pace, look_after)
                training.n_skipped = len(planned.results)
                with stop_requests(training.stop):
                    training.run(units)
                crew.status = training.status
            journal.write("end", status=crew.status)
    return training


def write_last_word(
    config: TrialConfig, directory: Path, tags: dict[str, str], files: dict[str, str]
) -> None:
    """What a sweep says of itself at its end: tags and files (name: text) of its own run."""
    folder = Path(config.record_dir).absolute()
    sweep = sweep_record(config.study, directory, sys.argv[1:])
    place = Place(folder, config.study.name, sweep, config.checkpoint.interval_seconds)
    with live_sweep(folder, place.study):
        with place.new_journal() as journal:
            journal.write("sweep", tags=tags, files=files)
            journal.write("end", status="FINISHED")
        crew = crew_for(config, place)
        with crew.at_work():
            crew.begin(None)


def _say(
    planned: Plan,
    trials: Sequence[Trial],
    record: StudyRecord,
    tags: dict[str, str],
    refused: Sequence[str],
) -> None:
    for line in [*refused, *record.troubles]:
        log.warning("%s", line)
    parts = {
        "finished before": len(planned.results),
        f"interrupted before ({saved_among(planned)})": len(planned.interrupted),
        "failed before, done again": len(planned.failed),
        "new": len(planned.to_do) - len(planned.failed) - len(planned.interrupted),
    }
    counts = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    if trials[0].cap is None:  # a search resumes what its caps interrupted
        log.info("%d trials: %s", len(trials), counts)
    for line in differences(trials, record, tags):
        log.warning("%s", line)


OF_A_SEARCH = ("budget.max_steps", "budget.max_examples")  # its own, another one each round


def new_requests(
    jobs: Sequence[Job], trials: Sequence[Trial], planned: Plan, record: StudyRecord
) -> dict[int, dict[str, Any]]:
    """What the journal says of such trials, by position."""
    in_search = trials[0].cap is not None
    ignored = OF_A_SEARCH if in_search else ()

    def asks(request: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in request.items() if key not in ignored}

    changed = [
        number
        for number in sorted(planned.results)
        if asks(requested(trial_params(trials[number], jobs[number].content)))
        != asks(record.trials[trials[number].trial_id].asked)
    ]
    return journal_headers(jobs, trials, changed, record) if changed else {}


def write_requests(
    journal: Journal, headers: Mapping[int, dict[str, Any]], planned: Plan, record: StudyRecord
) -> None:
    """A turn of each trial in which nothing is trained, with the outcome for what is asked now and
    the time at which its training ended."""
    for number, header in headers.items():
        ended_at = record.trials[header["trial_id"]].ended_at
        journal.write("trial", trial=number, **header, trains=False)
        journal.write("outcome", trial=number, **planned.results[number].as_line(), time=ended_at)
