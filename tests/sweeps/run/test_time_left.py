"""The time left: falls with the clock while work proceeds steadily, and is about right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from sweeps.run.time_left import SLACK, Countdown, Course, Pace

RATIO = 1.1  # between evaluations
POLL = 0.4  # seconds between two looks


@dataclass
class Simulated:
    """A trial that takes `seconds` for each of its `ends` steps, of which `last` are allowed."""

    seconds: float
    ends: int
    last: int
    step: float = 0.0
    seen: int = 0


@dataclass
class Farm:
    """n workers at one trial each; what is heard of trials are their evaluations and ends."""

    n: int
    trials: dict[int, Simulated]
    pace: Pace = field(default_factory=Pace)
    cost: Callable[[Simulated], float] = lambda trial: trial.seconds
    now: float = 0.0

    def run(self) -> Iterator[tuple[float, float | None]]:
        """Time and estimate at each poll."""
        waiting, running = list(self.trials), []
        for number, trial in self.trials.items():
            self.pace.add(number, Course(self.cost(trial), 0, 0, trial.last))
        self.pace.rest()
        while waiting or running:
            while waiting and len(running) < self.n:
                running.append(waiting.pop(0))
            units = [[number] for number in running], [[number] for number in waiting]
            yield self.now, self.pace.seconds_left(self.now, *units, self.n)
            self.now += POLL
            running = [number for number in running if not self._ended(number)]

    def _ended(self, number: int) -> bool:
        trial = self.trials[number]
        trial.step += POLL / trial.seconds
        ended = trial.step >= trial.ends
        if ended or trial.step >= trial.seen * RATIO + 1:
            trial.seen = min(trial.ends, int(trial.step))
            self.pace.came_to(self.now, number, trial.seen, ended=ended)
        return ended


def unequal(ends: Callable[[int], float] = lambda number: 1.0) -> dict[int, Simulated]:
    """Batch sizes 1 to 512, three seeds each, longest first: 10,000 steps to 40."""
    trials = {}
    for number in range(30):
        last = max(40, 10_000 // 2 ** (number // 3))
        trials[number] = Simulated(0.04, max(1, int(last * ends(number))), last)
    return trials


def shown_against_truth(farm: Farm) -> tuple[list[float], list[float], list[float]]:
    """What is shown at each poll from the first estimate on, the truth, and the rises."""
    countdown, times, shown = Countdown(), [], []
    for now, estimate in farm.run():
        left = countdown.shown(now, estimate)
        if left is not None:
            times.append(now)
            shown.append(left)
    rises = [after - before for before, after in pairwise(shown)]
    return shown, [farm.now - time for time in times], [rise for rise in rises if rise > 0]


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_it_falls_at_a_constant_pace_however_unequal_the_trials(n: int) -> None:
    shown, truth, rises = shown_against_truth(Farm(n, unequal()))
    assert not rises
    assert len(shown) > 0.95 * max(truth) / POLL  # from the first evaluation on
    for left, true in zip(shown, truth, strict=True):
        assert left == pytest.approx(true, rel=0.05, abs=5)


def test_trials_that_end_early_make_it_shorter() -> None:
    """At half of their steps: nobody knows at first; then what ended tells of the others."""
    shown, truth, rises = shown_against_truth(Farm(2, unequal(lambda number: 0.5)))
    assert shown[0] == pytest.approx(2 * truth[0], rel=0.1)
    half = len(shown) // 2
    assert truth[half] < shown[half] < 1.75 * truth[half]
    assert not rises


def test_the_first_to_diverge_do_not_stand_for_all() -> None:
    """A third of the trials end after a fiftieth of their steps, and so end first."""
    farm = Farm(4, unequal(lambda number: 1.0 if number % 3 else 0.02))
    shown, truth, rises = shown_against_truth(farm)
    assert truth[0] < shown[0] < 1.6 * truth[0]
    for left, true in list(zip(shown, truth, strict=True))[len(shown) // 10 :]:
        assert left == pytest.approx(true, rel=0.05, abs=6)
    assert sum(rises) < 6


def test_the_next_round_of_a_search_knows_the_pace() -> None:
    first = Farm(2, unequal())
    list(first.run())
    later = Farm(2, unequal(), pace=first.pace, now=first.now + 1000)  # nobody worked meanwhile
    shown, truth, _ = shown_against_truth(later)
    assert len(shown) == len(truth) == pytest.approx(first.now / POLL, rel=0.01)
    assert shown[0] == pytest.approx(truth[0], rel=0.05)


def test_a_trial_that_is_trained_again_counts_again() -> None:
    pace = Pace()
    pace.add(0, Course(1.0, 0, 0, 100))
    assert pace.seconds_left(0.0, [[0]], [], 1) is None  # nothing is known yet
    pace.came_to(50.0, 0, 50)
    assert pace.seconds_left(50.0, [[0]], [], 1) == pytest.approx(50)
    pace.add(0, Course(1.0, 10, 10, 100))  # its worker died; there was a checkpoint
    assert pace.seconds_left(52.0, [], [[0]], 1) == pytest.approx(90)


def test_what_is_shown_rises_only_where_much_more_is_left() -> None:
    countdown = Countdown()
    assert countdown.shown(0.0, None) is None
    assert countdown.shown(0.0, 100.0) == 100
    assert countdown.shown(10.0, 90 * (1 + SLACK)) == 90
    assert countdown.shown(20.0, 80 * (1 + SLACK) + 4) == 80 * (1 + SLACK) + 4
    assert countdown.shown(20.0, 60.0) == 60
