"""Units of work: the trials that one process trains together, and what they go on from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scaling import schema
from scaling.checkpoint import Header
from scaling.outcome import Curve
from scaling.record import Plan, StudyRecord
from scaling.stack import group_into_stacks
from scaling.tracking import without_password
from scaling.trial import Trial

NAME_CHARACTERS = 200
MOST_DATA_CHARACTERS = 500
OVERHEAD = 1e5  # work of a step that does not grow with it, in multiplications


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


@dataclass(frozen=True)
class Unit:
    """A stack. numbers: its trials' jobs; headers: what a journal says of each trial.

    saved: checkpoints to go on from, newest first; curves: what is on record of each trial.
    log: where whatever the training prints goes. attempt: 1, 2, ...
    """

    numbers: list[int]
    trials: list[Trial]
    headers: list[dict[str, Any]]
    saved: tuple[Header, ...]
    curves: list[Curve]
    log: Path
    attempt: int = 1

    @property
    def work(self) -> float:
        """Roughly how long it takes at most: steps times the cost of one."""
        first = self.trials[0]
        steps = max(trial.max_steps for trial in self.trials)
        each = len(self.trials) * first.config.batch_size * first.model_size
        return steps * (OVERHEAD + each)

    @property
    def name(self) -> str:
        more = f" and {len(self.trials) - 1} more" if len(self.trials) > 1 else ""
        return self.headers[0]["name"] + more


def make_units(
    jobs: Sequence[Job],
    trials: Sequence[Trial],
    planned: Plan,
    record: StudyRecord,
    stack_size: int,
    attempt: int = 1,
) -> list[Unit]:
    """The units of all trials to do, longest first."""
    to_do = planned.to_do
    begins = [planned.saved.get(number, ()) for number in to_do]
    groups = group_into_stacks(
        [trials[number] for number in to_do],
        stack_size,
        [tuple(header.path for header in headers) for headers in begins],
    )
    names = trial_names(jobs, trials)
    units = []
    for group in groups:
        numbers = [to_do[position] for position in group]
        saved = begins[group[0]]
        unit = Unit(
            numbers=numbers,
            trials=[trials[number] for number in numbers],
            headers=[_header(trials[n], jobs[n], names[n]) for n in numbers],
            saved=saved,
            curves=[_curve(trials[number], record, saved) for number in numbers],
            log=(jobs[numbers[0]].directory / "train.log").absolute(),
            attempt=attempt,
        )
        units.append(unit)
    return sorted(units, key=lambda unit: -unit.work)


def _curve(trial: Trial, record: StudyRecord, saved: Sequence[Header]) -> Curve:
    return record.trials[trial.trial_id].curve_to(saved[0].step) if saved else ([], [])


def trial_names(jobs: Sequence[Job], trials: Sequence[Trial]) -> list[str]:
    """What tells the trials of a sweep apart: batch size, lr, seed, and whatever else is swept."""
    counts = Counter(override for job in jobs for override in job.overrides)
    names = []
    for job, trial in zip(jobs, trials, strict=True):
        config = trial.config
        parts = [f"B={config.batch_size}", f"lr={config.lr:.4g}"]
        for override in job.overrides:
            key, _, value = override.lstrip("+").partition("=")
            if counts[override] < len(jobs) and key not in ("batch_size", "lr", "seed"):
                parts.append(f"{key.rpartition('.')[2]}={value}")
        names.append(" ".join([*parts, f"seed={config.seed}"])[:NAME_CHARACTERS])
    return names


def _header(trial: Trial, job: Job, name: str) -> dict[str, Any]:
    search_round = trial.config.sweep.round
    return {
        "trial_id": trial.trial_id,
        "name": name,
        "params": trial_params(trial, job.content),
        "tags": {
            "overrides": without_password(" ".join(job.overrides)),
            "job_directory": str(job.directory),
            **({} if search_round is None else {schema.ROUND: str(search_round)}),
        },
        "config": job.yaml,
        **({"files": trial.files} if trial.files else {}),
    }


def trial_params(trial: Trial, content: dict[str, Any]) -> dict[str, Any]:
    """The params of a trial: the leaves of its configuration by dotted path, and derived ones."""
    left_out = (
        *("study", "tracking", "targets", "sweep", "record_dir", "checkpoint", "picture_ratio"),
        *("cache_dir", "save_models"),
    )
    leaves = _leaves({key: value for key, value in content.items() if key not in left_out})
    for key in ("task.inputs", "task.labels"):  # config.yaml has them, however long
        if len(str(leaves.get(key, ""))) > MOST_DATA_CHARACTERS:
            del leaves[key]
    if trial.config.noise_scale.measure == "none":
        leaves = {k: v for k, v in leaves.items() if not k.startswith("noise_scale.")}
    content_of_task = {schema.TASK_CONTENT: trial.task_content} if trial.task_content else {}
    return (
        leaves
        | trial.facts
        | content_of_task
        | {
            schema.TARGETS: list(trial.targets),
            schema.MODEL_SIZE: trial.model_size,
            schema.INITIAL_LOSS: trial.initial_loss,
            schema.IRREDUCIBLE_LOSS: trial.irreducible_loss,
        }
    )


def _leaves(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            leaves |= _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            leaves[prefix + key] = value
    return leaves
