"""Units of work: the trials that one process trains together, and what they go on from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from scaling import schema
from scaling.config import use_current_names
from scaling.outcome import Curve
from scaling.record.checkpoint import Header, read_headers
from scaling.record.plan import Plan, StudyRecord, plan, read_record
from scaling.result import TrialResult
from scaling.schema import without_password
from scaling.stack import group_into_stacks
from scaling.trial import Trial

if TYPE_CHECKING:
    from sweeps.compose.compose import HydraNode

NAME_CHARACTERS = 200
MOST_DATA_CHARACTERS = 500
OVERHEAD = 1e5  # work of a step that does not grow with it, in multiplications


def yaml_without_passwords(content: Any) -> str:
    """Containers as YAML; each value alone, because YAML folds and quotes what it holds."""
    return yaml.dump(_without_passwords(content), Dumper=yaml.CSafeDumper, sort_keys=False)


def _without_passwords(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_passwords(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_passwords(value) for value in content]
    return without_password(content, whole=True) if isinstance(content, str) else content


@dataclass(frozen=True)
class Search:
    """What a search says of a trial that it asks for: its round, the cell (what tells its trials
    from those of the other cells, as overrides), and the cap in steps."""

    round: int
    cell: str
    cap: int


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


@dataclass(frozen=True)
class Unit:
    """A stack. numbers: its trials' jobs; headers: what a journal says of each trial.

    saved: checkpoints to go on from, newest first; curves: what is on record of each trial.
    log: where whatever the training prints goes. round: of a search. attempt: 1, 2, ...
    """

    numbers: list[int]
    trials: list[Trial]
    headers: list[dict[str, Any]]
    saved: tuple[Header, ...]
    curves: list[Curve]
    log: Path
    round: int | None = None
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
) -> list[Unit]:
    """The units of all trials to do, longest first."""
    headers = journal_headers(jobs, trials, planned.to_do, record)
    units = []
    for numbers, saved in _groups(trials, planned, stack_size):
        unit = Unit(
            numbers=numbers,
            trials=[trials[number] for number in numbers],
            headers=[headers[number] for number in numbers],
            saved=saved,
            curves=[_curve(trials[number], record, saved) for number in numbers],
            log=(jobs[numbers[0]].directory / "train.log").absolute(),
            round=None if (search := jobs[numbers[0]].search) is None else search.round,
        )
        units.append(unit)
    return sorted(units, key=lambda unit: -unit.work)


def _groups(
    trials: Sequence[Trial], planned: Plan, stack_size: int
) -> list[tuple[list[int], tuple[Header, ...]]]:
    """Positions of the trials to do that form a stack, and what it goes on from."""
    to_do = planned.to_do
    begins = [planned.saved.get(position, ()) for position in to_do]
    paths = [tuple(header.path for header in headers) for headers in begins]
    stacks = group_into_stacks([trials[position] for position in to_do], stack_size, paths)
    return [([to_do[row] for row in stack], begins[stack[0]]) for stack in stacks]


@dataclass(frozen=True)
class Rest:
    """What a unit left that was not trained to its end. results: of those that were, by number.

    units: of the others. gained: it came further than it began.
    """

    results: dict[int, TrialResult]
    units: list[Unit]
    gained: bool


def rest_of(unit: Unit, folder: Path, stack_size: int) -> Rest:
    """From the record in `folder` and the checkpoints there."""
    record = read_record(folder)
    headers, _ = read_headers(folder / "checkpoints")
    planned = plan(unit.trials, record, headers)
    rest = []
    for rows, saved in _groups(unit.trials, planned, stack_size):
        part = replace(
            unit,
            numbers=[unit.numbers[row] for row in rows],
            trials=[unit.trials[row] for row in rows],
            headers=[_at_next_turn(unit.headers[row], record) for row in rows],
            saved=saved,
            curves=[_curve(unit.trials[row], record, saved) for row in rows],
        )
        rest.append(part)
    begun = unit.saved[0].step if unit.saved else 0
    furthest = max((saved[0].step for saved in planned.saved.values()), default=0)
    results = {unit.numbers[row]: result for row, result in planned.results.items()}
    return Rest(results, rest, bool(results) or furthest > begun)


def journal_headers(
    jobs: Sequence[Job], trials: Sequence[Trial], positions: Sequence[int], record: StudyRecord
) -> dict[int, dict[str, Any]]:
    """What a journal says of each of these trials when it begins, at its next turn."""
    settings = trial_settings(jobs, trials)
    return {
        number: _at_next_turn(_header(trials[number], jobs[number], settings[number]), record)
        for number in positions
    }


def _at_next_turn(header: dict[str, Any], record: StudyRecord) -> dict[str, Any]:
    """What a journal says of a trial that begins again: after everything that is on record."""
    known = record.trials.get(header["trial_id"])
    return {**header, "turn": 1 if known is None else known.turn + 1}


def _curve(trial: Trial, record: StudyRecord, saved: Sequence[Header]) -> Curve:
    return record.trials[trial.trial_id].curve_to(saved[0].step) if saved else ([], [])


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


def _header(trial: Trial, job: Job, setting: str) -> dict[str, Any]:
    return {
        "trial_id": trial.trial_id,
        "name": f"{setting} seed={trial.config.seed}",
        "params": trial_params(trial, job.content),
        "tags": {
            "overrides": " ".join(without_password(one, whole=True) for one in job.overrides),
            "job_directory": str(job.directory),
            schema.SETTING: setting,
            **({} if job.search is None else {schema.ROUND: str(job.search.round)}),
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
    shown = {key: value for key, value in content.items() if key not in left_out}
    leaves = leaves_of(_without_passwords(shown))
    if trial.max_steps < trial.budget_steps:
        leaves["budget.max_steps"] = trial.max_steps
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


def leaves_of(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested containers by dotted path; None is left out."""
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            leaves |= leaves_of(value, f"{prefix}{key}.")
        elif value is not None:
            leaves[prefix + key] = value
    return leaves
