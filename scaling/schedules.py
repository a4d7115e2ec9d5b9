"""Learning-rate schedules in optimizer steps, and the steps at which trials are evaluated."""

from __future__ import annotations

import math

from scaling.config import EvaluationConfig, ScheduleConfig


def lr_factor(schedule: ScheduleConfig, step: int) -> float:
    """Factor on lr for the update that makes step `step` (1, 2, ...) from `step - 1`.

    constant: 1. warmup: min(1, step / warmup_steps). cosine: the same warm-up, then
    f + (1 - f) (1 + cos(pi p)) / 2 with f = final_fraction and p = (step - 1 - warmup_steps) /
    (total_steps - warmup_steps), at most 1: the schedule stays at f after total_steps
    (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, one cycle).
    """
    if schedule.name == "constant":
        return 1.0
    if step <= schedule.warmup_steps:
        return step / schedule.warmup_steps
    if schedule.name == "warmup":
        return 1.0
    span = schedule.total_steps - schedule.warmup_steps
    progress = min(1.0, (step - 1 - schedule.warmup_steps) / span)
    final = schedule.final_fraction
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def next_evaluation(config: EvaluationConfig, step: int) -> int:
    """The evaluation step that follows `step`.

    Every step up to `every_step_until`; from there the largest growth that keeps
    next / step <= ratio, and never less than one step. The steps depend on nothing else, so that
    curves of all batch sizes, lrs and seeds stand at common steps.
    """
    if step < config.every_step_until:
        return step + 1
    return max(step + 1, math.floor(step * config.ratio))


def grown(least: float, step: int, ratio: float) -> float:
    """`least` after an evaluation at `step`: as it is, or where this one took what was due."""
    return max(1, step * ratio) if step >= least else least


def first_due(ratio: float | None, config: EvaluationConfig, due: int) -> float:
    """The least step of what comes next at evaluations whose steps grow by `ratio`, after those
    before `due`."""
    step, least = 0, 0.0
    while step < due:
        least = grown(least, step, ratio or math.inf)
        step = next_evaluation(config, step)
    return least
