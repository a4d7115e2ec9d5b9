"""Learning-rate schedules by optimizer step, and the steps at which trials are evaluated.

A schedule has up to three lengths: of the warm-up, of the decay, and in total. Each is given in
steps, in examples (ceil(examples / batch_size) steps) or as a fraction of the steps of the budget
(rounded up), so that nothing but what is written changes with the batch size.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from scaling.config import EvaluationConfig, ScheduleConfig, TrialConfig

LENGTHS = {  # the schedules that have them
    "warmup": ("warmup", "cosine", "linear", "wsd"),
    "decay": ("wsd",),
    "total": ("cosine", "linear", "wsd"),
}
UNITS = ("steps", "examples", "fraction")


def lr_factor(schedule: ScheduleConfig, step: int) -> float:
    """Factor on lr for the update that makes step `step` (1, 2, ...) from `step - 1`.

    schedule: with every length in steps, see `in_steps`. With W = warmup_steps, T = total_steps,
    D = decay_steps and f = final_fraction it is step / W up to W, and then

    constant, warmup: 1.
    cosine: f + (1 - f) (1 + cos(pi p)) / 2, p = (step - 1 - W) / (T - W)
        (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, one cycle).
    linear: f + (1 - f) (1 - p) with the same p (Defazio et al. 2023, arXiv:2310.07831).
    wsd: warm-up, stable, decay: 1 up to T - D, then f + (1 - f) (1 - p) with
        p = (step - 1 - (T - D)) / D (Hu et al. 2024, arXiv:2404.06395, section 4; the linear
        cooldown of Haegele et al. 2024, arXiv:2405.18392, section 3).

    p is at most 1: the factor stays at f from step T + 1 on, as with torch's schedulers.
    """
    if schedule.name == "constant":
        return 1.0
    if step <= schedule.warmup_steps:
        return step / schedule.warmup_steps
    if schedule.name == "warmup":
        return 1.0
    begin = schedule.warmup_steps
    if schedule.name == "wsd":
        begin = schedule.total_steps - (schedule.decay_steps or 0)
    progress = min(1.0, max(0, step - 1 - begin) / (schedule.total_steps - begin))
    cosine = schedule.name == "cosine"
    left = 0.5 * (1 + math.cos(math.pi * progress)) if cosine else 1 - progress
    return schedule.final_fraction + (1 - schedule.final_fraction) * left


def given_lengths(schedule: ScheduleConfig, length: str) -> dict[str, float]:
    """The fields that give a length (of LENGTHS) and their values; 0 and null leave it out."""
    values = {f"{length}_{unit}": getattr(schedule, f"{length}_{unit}") for unit in UNITS}
    return {field: value for field, value in values.items() if value}


def follows_budget(schedule: ScheduleConfig) -> bool:
    """Whether a length is a fraction of the budget."""
    return any(f"{length}_fraction" in given_lengths(schedule, length) for length in LENGTHS)


def length_in_steps(config: TrialConfig, length: str) -> int:
    """Optimizer steps of a length (of LENGTHS), however it is given; 0 where it is left out."""
    for field, value in given_lengths(config.schedule, length).items():
        if field.endswith("_examples"):
            return -(-int(value) // config.batch_size)
        if field.endswith("_fraction"):  # as it is written: 0.07 of 100 steps are 7, not 7.000..01
            return math.ceil(Fraction(str(value)) * config.budget.steps(config.batch_size))
        return int(value)
    return 0


def in_steps(config: TrialConfig) -> ScheduleConfig:
    """The schedule of a trial with every length in steps."""
    fields = {f"{length}_{unit}": None for length in LENGTHS for unit in UNITS}
    steps = {f"{length}_steps": length_in_steps(config, length) for length in LENGTHS}
    return replace(config.schedule, **(fields | steps))


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
