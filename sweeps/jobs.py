"""Jobs of a multirun: configurations -> stacks -> results in input order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.progress import Progress

from scaling import schema
from scaling.config import trial_config
from scaling.journal import Journal
from scaling.outcome import TrialResult
from scaling.stack import group_into_stacks
from scaling.tracking import SweepRecord
from scaling.train import train
from scaling.trial import Trial, prepare
from scaling.writer import Writer
from sweeps.progress import Count, progress_display

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One configuration of a multirun, resolved, with the overrides that made it."""

    content: dict[str, Any]
    overrides: list[str]
    directory: Path

    @property
    def yaml(self) -> str:
        return yaml.dump(self.content, Dumper=yaml.CSafeDumper, sort_keys=False)

    def write_directory(self) -> None:
        """The job's own directory with what Hydra would leave there."""
        folder = self.directory / ".hydra"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(self.yaml, encoding="utf-8")
        overrides = yaml.dump(self.overrides, Dumper=yaml.CSafeDumper)
        (folder / "overrides.yaml").write_text(overrides, encoding="utf-8")


def prepare_jobs(jobs: Sequence[Job]) -> list[Trial]:
    """The trials of the jobs; ConfigError for a value that none can have."""
    return prepare([trial_config(job.content) for job in jobs])


def run_trials(
    jobs: Sequence[Job],
    trials: Sequence[Trial],
    sweep: SweepRecord,
    directory: Path,
    stack_size: int,
) -> list[TrialResult]:
    """Train all trials, stacked where they can be, and track them; results in the jobs' order.

    StoreError before anything is trained if the store cannot be used.
    """
    torch.set_num_threads(1)  # thread count changes bits; stacks are long, thin computations
    uri = schema.resolve_tracking_uri(trials[0].config.tracking.uri)
    directory.mkdir(parents=True, exist_ok=True)
    journal_path = directory / "journal.jsonl"
    results: list[TrialResult | None] = [None] * len(trials)
    with Journal(journal_path) as journal, progress_display() as display:
        writer = Writer(uri, sweep, journal_path)
        status = "FAILED"
        try:
            trained = Count("training", len(trials), display)
            for members in group_into_stacks(trials, stack_size):
                for number in members:
                    _write_header(journal, number, trials[number], jobs[number])
                recorder = JournalRecorder(journal, members, trained)
                stack_results = train([trials[number] for number in members], recorder)
                for number, result in zip(members, stack_results, strict=True):
                    results[number] = result
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            _close(writer, status, len(trials), display)
    return [result for result in results if result is not None]


def _close(writer: Writer, status: str, n_trials: int, display: Progress | None) -> None:
    written = Count("writing to MLflow", n_trials, display)
    writer.close(status, written.set)


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
        tags={"overrides": " ".join(job.overrides), "job_directory": str(job.directory)},
        config=job.yaml,
    )


def trial_params(trial: Trial, content: dict[str, Any]) -> dict[str, Any]:
    """The params of a trial: the leaves of its configuration by dotted path, and derived ones."""
    left_out = ("study", "tracking", "targets")
    leaves = _leaves({key: value for key, value in content.items() if key not in left_out})
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
