"""A trial on its way into a store: what its journals say and the store has not acknowledged yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling import schema
from scaling.record.replay import Course, Turn
from scaling.result import TrialResult
from scaling.store.client import Point, as_text
from scaling.store.pictures import HAS_PICTURES

TAG_CHARACTERS = 5000  # MLflow cuts longer ones silently
OF_PROCESS = ("host", "pid", "process_started", "slurm_job")
Evaluated = tuple[Turn, dict[str, Any], int]  # the turn, the line, the trial's position in it


@dataclass(eq=False)
class PendingTrial:
    """evaluations: what is to be written, by step; since: when the oldest of them came.

    asked: every key of schema.REQUESTED that the trial was ever asked with; rules: that ever asked
    for it (scaling.apply_rule.rule_record); commits: of its sweeps;
    pictures: path and time, by step.
    """

    course: Course
    evaluations: dict[int, Evaluated] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    asked: dict[str, None] = field(default_factory=dict)
    rules: set[str] = field(default_factory=set)
    commits: dict[str, None] = field(default_factory=dict)
    pictures: dict[int, tuple[str, float]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

    @property
    def trial_id(self) -> str:
        return self.course.trial_id

    @property
    def key(self) -> str:
        """Of its run in the note of what the store has acknowledged."""
        return trial_key(self.trial_id)

    @property
    def params(self) -> dict[str, Any]:
        return self.course.latest["params"]

    @property
    def name(self) -> str:
        return self.course.first["name"]

    @property
    def sweep(self) -> dict[str, Any]:
        """The one that first had it."""
        opened = self.course.first_journal
        return {**opened["sweep"], "time": opened["time"]}

    def take_evaluation(self, step: int, evaluated: Evaluated) -> None:
        """Of a step that was made in several turns the first one counts."""
        known = self.evaluations.get(step)
        if known is None or evaluated[0] < known[0]:
            self.evaluations[step] = evaluated

    def take(self, opened: dict[str, Any], line: dict[str, Any]) -> None:
        """What a journal, opened by its first line, says of it besides evaluations and ends."""
        match line["record"]:
            case "trial":
                if line.get("trains", True):
                    self.commits[opened["sweep"]["tags"].get("git_commit", "none")] = None
                self.asked |= {key: None for key in schema.REQUESTED if key in line["params"]}
                if schema.RULE in line["params"]:
                    self.rules.add(line["params"][schema.RULE])
            case "model":
                self.models[line["kind"]] = line["path"]
            case "picture":
                self.pictures[line["step"]] = line["path"], line["time"]

    def points(self, steps: Sequence[int]) -> list[Point]:
        """Of these evaluations, and at the end of those that have one point."""
        points: list[Point] = []
        for step in steps:
            _, line, position = self.evaluations[step]
            moment = line["time"]
            columns = {key: line[key] for key in ("loss", "train_loss", "lr") if key in line}
            columns |= line.get("metrics", {})
            examples = float(step * self.params["batch_size"])
            points.append(("examples", examples, moment, step))
            points += [
                (key, column[position], moment, step)
                for key, column in columns.items()
                if column[position] is not None
            ]
        end = self.course.end
        if end is not None and end["record"] == "outcome":
            metrics = _end_metrics(end, self.params["batch_size"])
            points += [(name, value, end["time"], end["last_step"]) for name, value in metrics]
        return points

    @property
    def tags(self) -> dict[str, str]:
        """What is known of it only once it trains, and how it ended."""
        process = self.course.last_journal if self.course.latest.get("trains", True) else {}
        tags = {key: str(process[key]) for key in OF_PROCESS if key in process}
        if len(self.commits) > 1:
            tags[schema.GIT_COMMITS] = ", ".join(self.commits)[:TAG_CHARACTERS]
        tags |= _end_tags(self.course.end) | self._request_tags()
        return tags | (HAS_PICTURES if self.pictures else {})

    def _request_tags(self) -> dict[str, str]:
        """What the newest request asks for; the tag `device` is where it ran."""
        asked = {key: self.params.get(key, schema.NOT_ASKED) for key in self.asked}
        if self.rules:  # those of all requests: another rule may have made the same numbers
            asked[schema.RULE] = f"[{', '.join(sorted(self.rules))}]"
        return {k: as_text(v)[:TAG_CHARACTERS] for k, v in asked.items() if k != "device"}


def _end_tags(end: dict[str, Any] | None) -> dict[str, str]:
    if end is None:
        return {}
    if end["record"] == "failure":
        return {schema.ERROR: end["error"][:TAG_CHARACTERS]}
    result = TrialResult.from_line(end)
    tags = {
        schema.OUTCOME: result.outcome,
        schema.LAST_STEP: str(result.last_step),
        schema.SECONDS: f"{result.seconds:.4f}",
    }
    if result.diverged_step is not None:
        tags["diverged_step"] = str(result.diverged_step)
    if result.not_finite is not None:
        tags[schema.NOT_FINITE] = result.not_finite
    for target, outcome in result.outcomes.items():
        tags[f"{schema.OUTCOME}/{schema.target_label(target)}"] = outcome
    return tags


def _end_metrics(outcome: dict[str, Any], batch_size: int) -> list[tuple[str, float]]:
    """Metrics that have one point, at the trial's last step."""
    result = TrialResult.from_line(outcome)
    reached = [
        (schema.STEPS_TO_TARGET + schema.target_label(target), steps)
        for target, steps in result.steps_to_target.items()
    ]
    if result.step_seconds is None:
        return reached
    speed = batch_size / result.step_seconds
    return [*reached, (schema.STEP_SECONDS, result.step_seconds), (schema.SPEED, speed)]


def trial_key(trial_id: str) -> str:
    return f"trial {trial_id}"


def sweep_key(name: str) -> str:
    return f"sweep {name}"
