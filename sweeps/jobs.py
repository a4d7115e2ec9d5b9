"""Jobs of a multirun: configurations -> stacks -> results in input order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from scaling import schema
from scaling.config import ConfigError, trial_config
from scaling.journal import Journal
from scaling.outcome import TrialResult
from scaling.record import Plan, plan, read_record
from scaling.stack import group_into_stacks
from scaling.tracking import without_password
from scaling.train import train
from scaling.trial import Trial, prepare
from scaling.writer import Destination, Writer
from sweeps.progress import Count, progress_display
from sweeps.study_folder import journal_path, live_sweep

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One configuration of a multirun, resolved, with the overrides that made it."""

    content: dict[str, Any]
    overrides: list[str]
    directory: Path

    @property
    def yaml(self) -> str:
        text = yaml.dump(self.content, Dumper=yaml.CSafeDumper, sort_keys=False)
        return without_password(text)

    def write_directory(self) -> None:
        """The job's own directory with what Hydra would leave there."""
        folder = self.directory / ".hydra"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(self.yaml, encoding="utf-8")
        overrides = without_password(yaml.dump(self.overrides, Dumper=yaml.CSafeDumper))
        (folder / "overrides.yaml").write_text(overrides, encoding="utf-8")


def prepare_jobs(jobs: Sequence[Job]) -> list[Trial]:
    """The trials of the jobs; ConfigError for a value that none can have, or not all the same."""
    trials = prepare([trial_config(job.content) for job in jobs])
    for key in ("study.name", "tracking.uri", "record_dir"):
        values = {str(attrgetter(key)(trial.config)) for trial in trials}
        if len(values) > 1:
            allowed = "one sweep has one of these; start a sweep for each"
            raise ConfigError(key, ",".join(sorted(values)), allowed)
    return trials


def run_trials(
    jobs: Sequence[Job], trials: Sequence[Trial], sweep: dict[str, Any], stack_size: int
) -> list[TrialResult]:
    """The results of all trials, in order: those on record, and the others trained and tracked.

    Trials of equal shapes train as stacks. StoreError before anything is trained if the store
    cannot be used; ConfigError if another sweep of the study is alive.
    """
    torch.set_num_threads(1)  # thread count changes bits; stacks are long, thin computations
    config = trials[0].config
    folder = Path(config.record_dir).absolute()
    with live_sweep(folder, config.study.name):
        planned = plan(trials, read_record(folder))
        _say(planned, len(trials))
        uri = schema.resolve_tracking_uri(config.tracking.uri)
        study = config.study
        with progress_display() as display:
            writer = Writer(Destination(uri, study.name, study.question, folder))
            status = "FAILED"
            try:
                trained = {}
                if planned.to_do:
                    with Journal(journal_path(folder, sweep["name"]), study.name, sweep) as journal:
                        count = Count("training", len(planned.to_do), display)
                        trained = _train(jobs, trials, planned.to_do, stack_size, journal, count)
                        journal.write("end", status="FINISHED")
                status = "FINISHED"
            except KeyboardInterrupt:  # Ctrl-C, or SIGTERM
                status = "KILLED"
                raise
            finally:
                log.info("writing to MLflow what is not written yet")
                written = Count("writing to MLflow", len(planned.to_do), display)
                writer.close(sweep["name"], status, written.set)
    results = planned.results | trained
    return [results[number] for number in range(len(trials))]


def _say(planned: Plan, total: int) -> None:
    log.info(
        "%d trials: %d on record, %d to do (%d of them begun before)",
        total,
        len(planned.results),
        len(planned.to_do),
        planned.begun,
    )


def _train(
    jobs: Sequence[Job],
    trials: Sequence[Trial],
    to_do: Sequence[int],
    stack_size: int,
    journal: Journal,
    trained: Count,
) -> dict[int, TrialResult]:
    results: dict[int, TrialResult] = {}
    for stack in group_into_stacks([trials[number] for number in to_do], stack_size):
        members = [to_do[position] for position in stack]
        for number in members:
            _write_header(journal, number, trials[number], jobs[number])
        recorder = JournalRecorder(journal, members, trained)
        stack_results = train([trials[number] for number in members], recorder)
        results |= dict(zip(members, stack_results, strict=True))
    return results


@dataclass
class JournalRecorder:
    """Writes what the loop sees of one stack, its trials numbered as in the sweep."""

    journal: Journal
    members: Sequence[int]
    trained: Count

    def evaluation(
        self,
        step: int,
        numbers: np.ndarray,
        loss: np.ndarray,
        train_loss: np.ndarray | None,
        lr: np.ndarray | None,
    ) -> None:
        columns = {"loss": loss, "train_loss": train_loss, "lr": lr}
        given = {key: column.tolist() for key, column in columns.items() if column is not None}
        trials = [self.members[number] for number in numbers]
        self.journal.write("evaluation", step=step, trials=trials, **given)

    def outcome(self, number: int, result: TrialResult) -> None:
        tags = {
            schema.OUTCOME: result.outcome,
            schema.LAST_STEP: str(result.last_step),
            schema.SECONDS: f"{result.seconds:.4f}",
        }
        if result.diverged_step is not None:
            tags["diverged_step"] = str(result.diverged_step)
        for target, outcome in result.outcomes.items():
            tags[f"{schema.OUTCOME}/{schema.target_label(target)}"] = outcome
        metrics = {
            schema.STEPS_TO_TARGET + schema.target_label(target): steps
            for target, steps in result.steps_to_target.items()
        }
        self.journal.write(
            "outcome",
            trial=self.members[number],
            last_step=result.last_step,
            diverged_step=result.diverged_step,
            tags=tags,
            metrics=metrics,
        )
        self.trained.add()


def _write_header(journal: Journal, number: int, trial: Trial, job: Job) -> None:
    config = trial.config
    name = f"B={config.batch_size} lr={config.lr:.4g} seed={config.seed}"
    journal.write(
        "trial",
        trial=number,
        trial_id=trial.trial_id,
        name=name,
        params=trial_params(trial, job.content),
        tags={
            "overrides": without_password(" ".join(job.overrides)),
            "job_directory": str(job.directory),
        },
        config=job.yaml,
    )


def trial_params(trial: Trial, content: dict[str, Any]) -> dict[str, Any]:
    """The params of a trial: the leaves of its configuration by dotted path, and derived ones."""
    left_out = ("study", "tracking", "targets", "sweep", "record_dir")
    leaves = _leaves({key: value for key, value in content.items() if key not in left_out})
    for key in ("task.inputs", "task.labels"):  # may be long; config.yaml has them
        leaves.pop(key, None)
    return leaves | {
        schema.TARGETS: list(trial.targets),
        schema.MODEL_SIZE: trial.model_size,
        schema.INITIAL_LOSS: trial.initial_loss,
        schema.IRREDUCIBLE_LOSS: trial.irreducible_loss,
    }


def _leaves(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            leaves[prefix + key] = value
    return leaves
