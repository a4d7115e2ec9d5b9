"""Jobs of a multirun: configurations -> what is left to do -> units -> results by number."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.checkpoint import read_headers, tidy
from scaling.config import ConfigError, TrialConfig, trial_config
from scaling.journal import RecordError
from scaling.record import Plan, StudyRecord, differences, plan, read_record, saved_among
from scaling.result import TrialResult
from scaling.tracking import StoreError
from scaling.trial import Trial, prepare
from scaling.validation import validate_names
from scaling.writer import Destination, NoWriter, Writer
from sweeps.executors import Executor, HereExecutor, WorkerExecutor
from sweeps.messages import StoppedAtOnce
from sweeps.progress import Count, progress_display
from sweeps.record import sweep_files, sweep_record
from sweeps.study_folder import live_sweep
from sweeps.training import Failure, LauncherOptions, Training, stop_requests
from sweeps.units import Job, Unit, leaves_of, make_units
from sweeps.worker import Place

log = logging.getLogger(__name__)
PATIENCE_WITHOUT_RECORD = 3.0  # seconds for the store when the record's disk is full


def prepare_jobs(jobs: Sequence[Job]) -> list[Trial]:
    """The trials of the jobs; ConfigError for a value that none can have, or not all the same."""
    trials = prepare([trial_config(job.content) for job in jobs])
    shapes = {frozenset(leaves_of(job.content)): job.content for job in jobs}
    for content in shapes.values():
        validate_names("params", leaves_of(content))
    for key in ("study.name", "tracking.uri", "record_dir"):
        values = {str(attrgetter(key)(trial.config)) for trial in trials}
        if len(values) > 1:
            allowed = "one sweep has one of these; start a sweep for each"
            raise ConfigError(key, ",".join(sorted(values)), allowed)
    return trials


@dataclass(frozen=True)
class SweepResult:
    """results: by number of the job; a trial that is in neither was interrupted."""

    results: dict[int, TrialResult]
    failures: list[Failure]


def run_trials(
    jobs: Sequence[Job], trials: Sequence[Trial], sweep: dict[str, Any], options: LauncherOptions
) -> SweepResult:
    """The results of all trials: those on record, and the others trained and tracked.

    Trials of equal shapes train as stacks. StoreError before anything is trained if the store
    cannot be used; ConfigError if another sweep of the study is alive; KeyboardInterrupt when it
    was told to stop and everything is saved.
    """
    config = trials[0].config
    folder = Path(config.record_dir).absolute()
    place = Place(folder, config.study.name, sweep, config.checkpoint.interval_seconds)
    with live_sweep(folder, place.study):
        headers, refused = read_headers(place.checkpoints)
        tidy(place.checkpoints, headers)
        record = read_record(folder)
        planned = plan(trials, record, [h for h in headers if h.path.exists()])
        _say(planned, trials, record, sweep["tags"], refused)
        units = make_units(jobs, trials, planned, record, options.stack_size)
        return _run_units(units, jobs, trials, planned, place, options)


def _run_units(
    units: Sequence[Unit],
    jobs: Sequence[Job],
    trials: Sequence[Trial],
    planned: Plan,
    place: Place,
    options: LauncherOptions,
) -> SweepResult:
    n_trials = len(planned.to_do)
    writer = _writer(trials[0].config, place)
    executor = _executor(units, place, options)
    training = None
    try:
        executor.start()
        writer.wait_until_open()
        if units:
            with progress_display() as display, place.new_journal() as journal:
                count = Count("training", n_trials, display)
                journal.write("sweep", tags={}, files=sweep_files())
                training = Training(jobs, trials, place, options, journal, executor, count)
                with stop_requests(training.stop):
                    training.run(units)
                journal.write("end", status=training.status)
        executor.close()
        _finish_writing(writer, training.status if training else "FINISHED", n_trials, place.folder)
    except KeyboardInterrupt:
        executor.close(at_once=True)
        raise StoppedAtOnce from None  # the writer ends by itself
    except RecordError:
        executor.close(at_once=True)
        with suppress(StoreError):  # a full disk is often the store's too
            writer.close("FAILED", patience_seconds=PATIENCE_WITHOUT_RECORD)
        raise
    except BaseException:
        executor.close(at_once=True)
        writer.abandon()  # it would wait for us, and we at our end for it
        raise
    if training is None:
        return SweepResult(planned.results, [])
    if training.left and not training.failures:
        done, left = len(training.results), training.left
        log.info("interrupted: %d trials ended, %d are left to do", done, left)
        raise KeyboardInterrupt
    return SweepResult(planned.results | training.results, training.failures)


def _finish_writing(writer: Writer, status: str, n_trials: int, folder: Path) -> None:
    if isinstance(writer, NoWriter):
        return
    log.info("writing to MLflow what is not written yet")
    with progress_display() as display:
        written = Count("writing to MLflow", n_trials, display)
        try:
            writer.close(status, written.set)
        except StoreError as error:
            raise StoreError(
                f"{error}. All that was trained is on record; {written.done} of the {n_trials} "
                f"trials trained now are in the store; the rest: python -m sweeps.sync {folder}"
            ) from None


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
        writer = _writer(config, place)
        try:
            writer.wait_until_open()
            _finish_writing(writer, "FINISHED", 0, folder)
        except BaseException:
            writer.abandon()
            raise


def _writer(config: TrialConfig, place: Place) -> Writer:
    if config.tracking.uri == schema.NO_STORE:
        log.info("tracking.uri=none: to write it later, python -m sweeps.sync %s", place.folder)
        return NoWriter()
    uri = schema.resolve_tracking_uri(config.tracking.uri)
    question, sweep = config.study.question, place.sweep["name"]
    patience = config.tracking.patience_seconds
    return Writer(Destination(uri, place.study, question, place.folder, sweep, patience))


def _executor(units: Sequence[Unit], place: Place, options: LauncherOptions) -> Executor:
    n_workers = min(options.workers, len(units))
    if n_workers == 0:
        return HereExecutor(place)
    return WorkerExecutor(n_workers, place, options.trial_timeout_seconds)


def _say(
    planned: Plan,
    trials: Sequence[Trial],
    record: StudyRecord,
    tags: dict[str, str],
    refused: Sequence[str],
) -> None:
    for line in [*refused, *(f"torn last line in {path}: skipped" for path in record.torn)]:
        log.warning("%s", line)
    parts = {
        "finished before": len(planned.results),
        f"interrupted before ({saved_among(planned)})": len(planned.interrupted),
        "failed before, done again": len(planned.failed),
        "new": len(planned.to_do) - len(planned.failed) - len(planned.interrupted),
    }
    counts = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
    log.info("%d trials: %s", len(trials), counts)
    for line in differences(trials, record, tags):
        log.warning("%s", line)
