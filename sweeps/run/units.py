"""Units of work: the trials that one process trains together, and what they resume from."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from scaling.outcome import Curve
from scaling.record.checkpoint import Header, read_headers
from scaling.record.plan import Plan, plan
from scaling.record.study import StudyRecord, read_record
from scaling.result import TrialResult
from scaling.stack import group_into_stacks
from scaling.trial import Trial
from sweeps.run.job import Job, trial_header, trial_settings

OVERHEAD = 1e5  # work of a step that does not grow with it, in multiplications
_launches = count(1)


@dataclass(frozen=True)
class Unit:
    """A stack. numbers: its trials' jobs; headers: what a journal says of each trial.

    saved: checkpoints to resume from, newest first; curves: what is on record of each trial.
    log: where whatever the training prints goes. launch: a number, equal for all units of
    one launch. attempt: 1, 2, ...
    """

    numbers: list[int]
    trials: list[Trial]
    headers: list[dict[str, Any]]
    saved: tuple[Header, ...]
    curves: list[Curve]
    log: Path
    launch: int = 0
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
    headers, launch = journal_headers(jobs, trials, planned.to_do, record), next(_launches)
    units = []
    for numbers, saved in _groups(trials, planned, stack_size):
        unit = Unit(
            numbers=numbers,
            trials=[trials[number] for number in numbers],
            headers=[headers[number] for number in numbers],
            saved=saved,
            curves=[_curve(trials[number], record, saved) for number in numbers],
            log=(jobs[numbers[0]].directory / "train.log").absolute(),
            launch=launch,
        )
        units.append(unit)
    return sorted(units, key=lambda unit: -unit.work)


def _groups(
    trials: Sequence[Trial], planned: Plan, stack_size: int
) -> list[tuple[list[int], tuple[Header, ...]]]:
    """Positions of the trials to do that form a stack, and what it resumes from."""
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
        number: _at_next_turn(trial_header(trials[number], jobs[number], settings[number]), record)
        for number in positions
    }


def _at_next_turn(header: dict[str, Any], record: StudyRecord) -> dict[str, Any]:
    """What a journal says of a trial that begins again: after everything that is on record."""
    known = record.trials.get(header["trial_id"])
    return {**header, "turn": 1 if known is None else known.turn + 1}


def _curve(trial: Trial, record: StudyRecord, saved: Sequence[Header]) -> Curve:
    return record.trials[trial.trial_id].curve_to(saved[0].step) if saved else ([], [])


def share_out(units: Sequence[Unit], n: int) -> list[list[Unit]]:
    """At most n lists of about equal work, each with its longest unit first."""
    shares: list[list[Unit]] = [[] for _ in range(min(n, len(units)))]
    least = [(0.0, number) for number in range(len(shares))]
    for unit in sorted(units, key=lambda unit: -unit.work):
        work, number = heapq.heappop(least)
        shares[number].append(unit)
        heapq.heappush(least, (work + unit.work, number))
    return shares
