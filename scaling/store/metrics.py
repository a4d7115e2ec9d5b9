"""What a trial's run in MLflow says of how it ended: tags and metrics, from its journals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scaling import schema
from scaling.record.replay import Course
from scaling.result import TrialResult

TAG_CHARACTERS = 5000  # MLflow cuts longer ones silently
OF_PROCESS = ("host", "pid", "process_started", "slurm_job")


def run_tags(course: Course, commits: Iterable[str]) -> dict[str, str]:
    """What is known of a trial only once it trains, and how it ended."""
    process = course.last_journal if course.latest.get("trains", True) else {}
    tags = {key: str(process[key]) for key in OF_PROCESS if key in process}
    if len(every := list(commits)) > 1:
        tags[schema.GIT_COMMITS] = ", ".join(every)[:TAG_CHARACTERS]
    if course.end is None:
        return tags
    if course.end["record"] == "failure":
        return tags | {schema.ERROR: course.end["error"][:TAG_CHARACTERS]}
    result = TrialResult.from_line(course.end)
    tags |= {
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


def end_metrics(outcome: dict[str, Any], batch_size: int) -> list[tuple[str, float]]:
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
