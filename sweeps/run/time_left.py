"""How long work still takes: from the steps that trials have taken, not from how many have ended.

Trials differ in length by orders of magnitude, and the longest begin first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from sweeps.run.units import OVERHEAD, Unit

SLACK = 0.25  # a longer estimate is believed if it is longer by more than this share
_NOTHING_SECONDS = 3.0  # and by more than this
_FULL = 0.1  # of all trials: so many count in front as trained to their last step
_EVERY_SECONDS = 1.0  # as it goes through all trials


class Countdown:
    """Seconds left as they are shown: they fall with the clock, and rise only where an estimate
    leaves them by more than SLACK."""

    def __init__(self) -> None:
        self._end: float | None = None

    def shown(self, now: float, estimate: float | None) -> float | None:
        if estimate is None:
            return None
        left = -1.0 if self._end is None else max(0.0, self._end - now)
        if left <= estimate <= (1 + SLACK) * left + _NOTHING_SECONDS and self._end is not None:
            return left
        self._end = now + estimate
        return estimate


class Ends:
    """At which share of their steps trials end: by those that ended, and by those that train, which
    end later than they have come (Kaplan and Meier 1958). The first to end are the short ones.

    n_full: trials that count in front as trained to their last step.
    """

    def __init__(self, ended: Sequence[float], trains: Sequence[float], n_full: float) -> None:
        at_risk, survive = len(ended) + len(trains) + n_full, 1.0
        self._steps = [(0.0, 1.0)]  # a share of the steps, and how many come further
        for share, has_ended in sorted([(x, True) for x in ended] + [(x, False) for x in trains]):
            if has_ended and share < 1:
                survive *= 1 - 1 / at_risk
                self._steps.append((share, survive))
            at_risk -= 1
        self._steps.append((1.0, survive))
        self.left = cache(self._left)  # thousands wait at share 0

    def _left(self, share: float) -> float:
        """Share of its steps that a trial which has come so far still takes, in the mean."""
        here = next(survive for end, survive in reversed(self._steps) if end <= share)
        parts = (
            survive * (end - max(begin, share))
            for (begin, survive), (end, _) in pairwise(self._steps)
            if end > share
        )
        return sum(parts) / here


@dataclass
class Course:
    """How far a trial has come. cost: of a step; last: step at which it ends at the latest; heard:
    when it began or was evaluated last, None before it trains."""

    cost: float
    first: int
    step: int
    last: int
    heard: float | None = None

    @property
    def work(self) -> float:
        return self.cost * (self.last - self.first)

    @property
    def share(self) -> float:
        return (self.step - self.first) / max(1, self.last - self.first)


class Pace:
    """The work of trials that is done and left, and how much of it a worker does in a second.

    Work is in multiplications, as Unit.work has it. It may go on with other trials, as the rounds
    of a search do: the pace stays known.
    """

    def __init__(self) -> None:
        self._courses: dict[int, Course] = {}
        self._busy_seconds = self._done = 0.0
        self._ended: list[float] = []  # at which share of their steps
        self._then: float | None = None
        self._estimate: float | None = None

    def begin(self, units: Sequence[Unit]) -> None:
        """These train now or later, from where their checkpoints stand."""
        for unit in units:
            first = unit.saved[0].step if unit.saved else 0
            for number, trial in zip(unit.numbers, unit.trials, strict=True):
                cost = OVERHEAD / len(unit.trials) + trial.config.batch_size * trial.model_size
                self.add(number, Course(cost, first, first, trial.max_steps))

    def add(self, number: int, course: Course) -> None:
        self._courses[number] = course

    def came_to(self, now: float, number: int, step: int, *, ended: bool = False) -> None:
        """A trial took its steps up to this one; ended: it takes no more."""
        course = self._courses.get(number)
        if course is None:
            return
        self._done += course.cost * max(0, step - course.step)
        course.step, course.heard = max(step, course.step), now
        if ended:
            self._ended.append(course.share)
            del self._courses[number]

    def rest(self) -> None:
        """Nobody works until seconds_left is asked again."""
        self._then = self._estimate = None

    def seconds_left(
        self, now: float, running: Sequence[Sequence[int]], waiting: Sequence[Sequence[int]], n: int
    ) -> float | None:
        """Until n workers have trained these units (numbers of trials each); None: nobody knows.

        Each worker takes the next unit as soon as it is free, at the pace of all so far, and each
        trial ends where those before it did.
        """
        then = now if self._then is None else self._then
        if self._estimate is not None and now - then < _EVERY_SECONDS:
            return max(0.0, self._estimate - (now - then))
        self._busy_seconds += (now - then) * len(running)
        self._then = now
        unheard = [self._unheard(now, unit) for unit in running]
        heard = self._busy_seconds - sum(unheard)
        if self._done <= 0 or heard <= 0:
            return None
        ends = self._ends(running, waiting)
        pace = heard / self._done  # seconds of a unit of work
        times = [
            max(0.0, pace * self._left(unit, ends) - seconds)
            for unit, seconds in zip(running, unheard, strict=True)
        ] + [0.0] * min(n - len(running), len(waiting))
        heapq.heapify(times)
        for unit in waiting:
            heapq.heapreplace(times, times[0] + pace * self._left(unit, ends))
        self._estimate = max(times, default=0.0)
        return self._estimate

    def _unheard(self, now: float, unit: Sequence[int]) -> float:
        """Seconds since a unit that trains was heard of: its steps since then are not counted."""
        courses = self._of(unit)
        for course in courses:
            course.heard = now if course.heard is None else course.heard
        return min((now - (course.heard or now) for course in courses), default=0.0)

    def _of(self, unit: Sequence[int]) -> list[Course]:
        """Courses of its trials that have not ended."""
        return [self._courses[number] for number in unit if number in self._courses]

    def _ends(self, running: Sequence[Sequence[int]], waiting: Sequence[Sequence[int]]) -> Ends:
        train = [course.share for unit in running for course in self._of(unit)]
        n_trials = len(self._ended) + len(train) + sum(map(len, waiting))
        return Ends(self._ended, train, _FULL * n_trials)

    def _left(self, unit: Sequence[int], ends: Ends) -> float:
        return sum(course.work * ends.left(course.share) for course in self._of(unit))
