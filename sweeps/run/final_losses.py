"""What a study of final losses (study.report=final_losses) requires of its trials."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

from scaling.limits import ConfigError
from scaling.schedules import LENGTHS, follows_budget
from scaling.schema import FINAL_LOSSES
from scaling.trial import Trial

log = logging.getLogger(__name__)


def check_final_losses(trials: Sequence[Trial]) -> None:
    """ConfigError where several budgets would train one trial; a line where no schedule decays."""
    if all(trial.ends_at_target for trial in trials):
        return
    budgets: dict[str, int] = {}
    for trial in trials:
        schedule = trial.config.schedule
        if trial.budget_steps != budgets.setdefault(trial.trial_id, trial.budget_steps):
            allowed = (
                "does not end with the budget, so that runs of several budgets are one run; "
                "choose one that does, schedule=linear, or leave study.report at batch_sizes"
            )
            raise ConfigError("schedule.name", schedule.name, allowed)
    names = {one.config.schedule.name for one in trials if not _decays(one)}
    for name in sorted(names):
        _say_once(
            f"schedule.name={name}: does not decay to the end of the budget, so that each final "
            f"loss (study.report={FINAL_LOSSES}) is a point of a longer run; schedule=linear does"
        )


def _decays(trial: Trial) -> bool:
    schedule = trial.config.schedule
    return schedule.name in LENGTHS["total"] and follows_budget(schedule)


@cache
def _say_once(line: str) -> None:
    log.warning("%s", line)
