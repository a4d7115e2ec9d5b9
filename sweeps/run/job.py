"""One configuration of a multirun, and what journals and MLflow say of its trial."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import schema
from scaling.addresses import without_password
from scaling.apply_rule import rule_record
from scaling.config import use_current_names
from scaling.trial import Trial
from sweeps.run.job_yaml import without_passwords, yaml_without_passwords

NAME_CHARACTERS = 200
MOST_DATA_CHARACTERS = 500


@dataclass(frozen=True)
class Search:
    """What a search says of a trial that it asks for: its round, the cell (what tells its trials
    from those of other settings, as overrides), the cap in steps, and the keys that are tuned
    beside lr, separated by spaces."""

    round: int
    cell: str
    cap: int
    tuned: str = ""


@dataclass(frozen=True)
class HydraNode:
    """The hydra node of a job's configuration, unresolved. shared: by the jobs of one kind."""

    shared: dict[str, Any]
    of_job: dict[str, Any]

    def content(self, directory: Path) -> dict[str, Any]:
        runtime = {**self.shared["runtime"], "output_dir": str(directory.absolute())}
        return {"hydra": {**self.shared, **self.of_job, "runtime": runtime}}


@dataclass(frozen=True)
class Job:
    """One configuration of a multirun, resolved, with the overrides that made it.

    directory: inside of the sweep's, once that is claimed. hydra: of jobs in a multirun.
    """

    content: dict[str, Any]
    overrides: list[str]
    directory: Path
    hydra: HydraNode | None = None
    search: Search | None = None

    def __post_init__(self) -> None:
        use_current_names(self.content)

    @property
    def yaml(self) -> str:
        return yaml_without_passwords(self.content)

    def write_directory(self, subdir: str = ".hydra") -> None:
        """The job's own directory with what Hydra would leave there, values resolved."""
        folder = self.directory / subdir
        folder.mkdir(parents=True, exist_ok=True)
        texts = {"config": self.yaml, "overrides": yaml_without_passwords(self.overrides)}
        if self.hydra is not None:
            texts["hydra"] = yaml_without_passwords(self.hydra.content(self.directory))
        for name, text in texts.items():
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def trial_settings(jobs: Sequence[Job], trials: Sequence[Trial]) -> list[str]:
    """What tells the trials of a sweep apart but the seed: batch size, lr, what else is swept."""
    counts = Counter(override for job in jobs for override in job.overrides)
    settings = []
    for job, trial in zip(jobs, trials, strict=True):
        config = trial.config
        parts = [f"B={config.batch_size}", f"lr={config.lr:.4g}"]
        varied = [one for one in job.overrides if counts[one] < len(jobs)]
        if job.search is not None:  # in a search rounds differ in what varies
            varied = job.search.cell.split(" ")
        for override in varied:
            key, _, value = override.lstrip("+").partition("=")
            if value and key not in ("batch_size", "lr", "seed"):
                parts.append(f"{key.rpartition('.')[2]}={value}")
        settings.append(" ".join(parts)[:NAME_CHARACTERS])
    return settings


def trial_header(trial: Trial, job: Job, setting: str) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "name": f"{setting} seed={trial.config.seed}",
        "params": trial_params(trial, job.content),
        "tags": {
            "overrides": " ".join(without_password(one, whole=True) for one in job.overrides),
            "job_directory": str(job.directory),
            schema.SETTING: setting,
            **({} if job.search is None else _search_tags(job.search)),
        },
        "config": job.yaml,
        **({"files": trial.files} if trial.files else {}),
    }


def _search_tags(search: Search) -> dict[str, str]:
    tags = {schema.ROUND: str(search.round)}
    return tags | ({schema.TUNED: json.dumps(search.tuned.split())} if search.tuned else {})


def trial_params(trial: Trial, content: dict[str, Any]) -> dict[str, Any]:
    """The params of a trial: the leaves of its configuration by dotted path, and derived ones."""
    left_out = (
        *("study", "tracking", "targets", "sweep", "record_dir", "checkpoint", "picture_ratio"),
        *("cache_dir", "save_models", "data_workers", "rule"),
    )
    shown = {key: value for key, value in content.items() if key not in left_out}
    leaves = leaves_of(without_passwords(shown))
    if trial.max_steps < trial.budget_steps:
        leaves["budget.max_steps"] = trial.max_steps
    for key in ("task.inputs", "task.labels"):  # config.yaml has them, however long
        if len(str(leaves.get(key, ""))) > MOST_DATA_CHARACTERS:
            del leaves[key]
    if trial.config.noise_scale.measure == "none":
        leaves = {k: v for k, v in leaves.items() if not k.startswith("noise_scale.")}
    if not trial.config.param_groups:
        leaves.pop("param_groups", None)
    if trial.config.evaluation.average == "none":
        leaves = {k: v for k, v in leaves.items() if not k.startswith("evaluation.average")}
    if record := rule_record(trial.config):
        leaves[schema.RULE] = record
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


def leaves_of(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested containers by dotted path; None is left out."""
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            leaves |= leaves_of(value, f"{prefix}{key}.")
        elif value is not None:
            leaves[prefix + key] = value
    return leaves
