"""How trials end: first touch of targets, tails, budgets, divergence."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from scaling.curves import interpolate_crossing
from scaling.result import TrialResult
from scaling.schema import CENSORED, DIVERGED, REACHED
from scaling.trial import Trial

HELD_OUT_LOSS = "held-out loss"
STEPS_TIMED = 10000  # enough for a median
Curve = tuple[list[int], list[float]]  # steps and held-out losses


class Watch:
    """Follows the curves of a stack's N trials; arrays [N], those of K targets [N, K]."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = trials
        n_trials, n_targets = len(trials), max(1, *(len(trial.targets) for trial in trials))
        self.lr = np.array([trial.config.lr for trial in trials])
        self.limit = np.array([trial.max_steps for trial in trials])
        self.budgets = set(self.limit.tolist())
        self._targets = np.full((n_trials, n_targets), -np.inf)
        for targets, trial in zip(self._targets, trials, strict=True):
            targets[: len(trial.targets)] = trial.targets
        self._ending = np.array(  # the target after which it ends; -1: none
            [len(trial.targets) - 1 if trial.ends_at_target else -1 for trial in trials]
        )
        self._explosion = np.array([t.config.divergence_factor * t.initial_loss for t in trials])
        self._tail_factor = np.array([trial.config.tail_factor for trial in trials])
        self._crossing = np.full((n_trials, n_targets), np.nan)
        self._end = np.full(n_trials, np.inf)
        self._last_step = np.zeros(n_trials, dtype=int)
        self._last_loss = np.array([trial.initial_loss for trial in trials])
        self.best_loss = np.full(n_trials, np.inf)
        self._diverged_step = np.full(n_trials, -1)
        self._not_finite: dict[int, str] = {}
        self._seconds = np.zeros(n_trials)
        self._training = np.ones(n_trials, dtype=bool)
        self._clock = time.perf_counter()
        self._step_seconds: list[float] = []

    def took(self, seconds: float) -> None:
        """One step took this long, evaluation apart."""
        if len(self._step_seconds) < STEPS_TIMED:
            self._step_seconds.append(seconds)

    def replay(self, curves: Sequence[Curve], seconds: Sequence[float]) -> None:
        """Take in what N trials have on record, to go on from there."""
        known = [dict(zip(*curve, strict=True)) for curve in curves]
        for step in sorted({step for curve in known for step in curve}):
            numbers = [number for number, curve in enumerate(known) if step in curve]
            losses = [known[number][step] for number in numbers]
            self.look(step, np.array(numbers), np.array(losses))
        self._seconds[:] = seconds
        self._clock = time.perf_counter()

    def look(self, step: int, numbers: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """Take in the evaluation of trials `numbers` at `step`; the numbers that end here."""
        self._share_time()
        exploded = ~(loss <= self._explosion[numbers])
        self._diverged_step[numbers[exploded]] = step
        self._not_finite |= dict.fromkeys(numbers[~np.isfinite(loss)].tolist(), HELD_OUT_LOSS)
        new = (loss[:, None] <= self._targets[numbers]) & np.isnan(self._crossing[numbers])
        for position, target in np.argwhere(new).tolist():
            self._touch(step, int(numbers[position]), float(loss[position]), target)
        finite = np.isfinite(loss)
        self._last_step[numbers[finite]] = step
        self._last_loss[numbers[finite]] = loss[finite]
        self.best_loss[numbers[finite]] = np.minimum(self.best_loss[numbers[finite]], loss[finite])
        over = (step >= self.limit[numbers]) | (step >= self._end[numbers])
        ended = numbers[exploded | over]
        self._training[ended] = False
        return ended

    def capped(self, numbers: np.ndarray) -> np.ndarray:
        """Those of them that ended for want of budget alone."""
        last = self._last_step[numbers]
        alive = (self._diverged_step[numbers] < 0) & (last < self._end[numbers])
        return numbers[alive & (last >= self.limit[numbers])]

    def _touch(self, step: int, number: int, loss: float, target: int) -> None:
        self._crossing[number, target] = interpolate_crossing(
            self._last_step[number],
            self._last_loss[number],
            step,
            loss,
            self._targets[number, target],
        )
        if target == self._ending[number]:
            self._end[number] = self._tail_factor[number] * step

    def diverge(self, step: int, number: int, not_finite: str | None) -> TrialResult:
        """The update that would make `step` is not finite, and what of it."""
        self._share_time()
        self._training[number] = False
        self._diverged_step[number] = step
        if not_finite is not None:
            self._not_finite[int(number)] = not_finite
        return self.result(number)

    def result(self, number: int) -> TrialResult:
        diverged = self._diverged_step[number] >= 0
        targets = self._trials[number].targets
        crossings = dict(zip(targets, self._crossing[number].tolist(), strict=False))
        missed = DIVERGED if diverged else CENSORED
        outcomes = {t: missed if np.isnan(c) else REACHED for t, c in crossings.items()}
        is_lost = diverged and not self._trials[number].ends_at_target
        return TrialResult(
            outcome=outcomes[targets[-1]] if targets and not is_lost else missed,
            outcomes=outcomes,
            steps_to_target={t: c for t, c in crossings.items() if not np.isnan(c)},
            last_step=int(self._last_step[number]),
            last_loss=float(self._last_loss[number]),
            diverged_step=int(self._diverged_step[number]) if diverged else None,
            seconds=float(self._seconds[number]),
            step_seconds=self._median_step(),
            not_finite=self._not_finite.get(int(number)),
        )

    @property
    def seconds(self) -> np.ndarray:
        """Seconds charged to each trial up to the last evaluation [N]."""
        return self._seconds

    def _median_step(self) -> float | None:
        """Of tasks that do not stack: in a stack a step is not one trial's."""
        if self._trials[0].most_rows != 1 or not self._step_seconds:
            return None
        return float(np.median(self._step_seconds))

    def results(self) -> list[TrialResult]:
        return [self.result(number) for number in range(len(self._trials))]

    def _share_time(self) -> None:
        """Charge the time since the last call to the trials that trained in it, equally."""
        now = time.perf_counter()
        self._seconds[self._training] += (now - self._clock) / max(1, self._training.sum())
        self._clock = now
