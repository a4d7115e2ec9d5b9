"""What a study's journals say of its trials: which have ended, and how."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scaling.outcome import Watch
from scaling.record.checkpoint import Header
from scaling.record.study import ENDED, StudyRecord, TrialRecord, commits_of
from scaling.result import TrialResult
from scaling.trial import Trial


def finished(trial: Trial, record: TrialRecord) -> TrialResult | None:
    """The result that training `trial` would have, if the recorded curve reaches its end.

    The rules of ending are those of training (scaling.outcome): a longer budget, a harder target
    or a longer tail than the record's may need more steps; then None. Also where the curve has its
    last point but no outcome followed (killed in between, a full disk): it would stay without one;
    and where a part of the curve is lost.
    """
    if record.status != ENDED or not (record.steps or record.diverged_step == 0):
        return None
    if record.steps and not record.covers(trial.config.evaluation, record.steps[-1]):
        return None
    watch = Watch([trial])
    number = np.array([0])
    steps, losses = np.array(record.steps), np.array(record.losses)
    for place in _decisive(trial, steps, losses):
        if len(watch.look(int(steps[place]), number, losses[[place]])):
            return replace(watch.result(0), seconds=record.seconds)
    if record.diverged_step is not None and record.diverged_step <= trial.max_steps:
        ended = watch.diverge(record.diverged_step, 0, record.not_finite)
        return replace(ended, seconds=record.seconds)
    return None


def _decisive(trial: Trial, steps: np.ndarray, losses: np.ndarray) -> list[int]:
    """Positions of the evaluations that outcome and crossings of a curve follow from: where it
    meets a target or may end, each with the one before. Looking at all takes 5 times as long."""
    if not len(steps):
        return []
    limit = trial.config.divergence_factor * trial.initial_loss
    met = [np.flatnonzero(losses <= target)[:1] for target in trial.targets]
    tails = [np.searchsorted(steps, trial.config.tail_factor * steps[one]) for one in met[-1:]]
    ends = np.searchsorted(steps, trial.max_steps), np.flatnonzero(~(losses <= limit))[:1]
    places = np.hstack([*met, *tails, *ends, len(steps) - 1]).astype(int)
    return sorted(({*places.tolist()} | {*(places - 1).tolist()}) & {*range(len(steps))})


@dataclass(frozen=True)
class Plan:
    """What is left to do of the trials asked for. Positions are those of the trials given.

    failed, interrupted: of those to do. saved: checkpoints to go on from, newest first.
    """

    results: dict[int, TrialResult] = field(default_factory=dict)
    to_do: list[int] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    interrupted: set[int] = field(default_factory=set)
    saved: dict[int, tuple[Header, ...]] = field(default_factory=dict)


def plan(
    trials: Sequence[Trial],
    record: StudyRecord,
    checkpoints: Sequence[Header] = (),
) -> Plan:
    """Sort trials into those on record and those to train."""
    planned = Plan()
    of_trial: dict[str, list[Header]] = defaultdict(list)
    for header in sorted(checkpoints, key=lambda header: -header.step):
        for trial_id in header.trial_ids:
            of_trial[trial_id].append(header)
    for position, trial in enumerate(trials):
        known = record.trials.get(trial.trial_id)
        result = finished(trial, known) if known else None
        if result is not None:
            planned.results[position] = result
            continue
        planned.to_do.append(position)
        if known is not None:
            (planned.failed if known.failed else planned.interrupted).add(position)
            usable = [
                header
                for header in of_trial[trial.trial_id]
                if known.covers(trial.config.evaluation, header.step)
            ]
            if usable:
                planned.saved[position] = tuple(usable)
    return planned


def describe(planned: Plan, trials: Sequence[Trial], record: StudyRecord) -> list[str]:
    """What a sweep of these trials would do, with its cost, one line each."""
    left = {i: trials[i].max_steps for i in planned.to_do}
    for position, headers in planned.saved.items():
        left[position] -= headers[0].step
    examples = sum(steps * trials[i].config.batch_size for i, steps in left.items())
    new = len(planned.to_do) - len(planned.failed) - len(planned.interrupted)
    lines = [
        f"finished     {len(planned.results):6d} trials, not trained again",
        f"to continue  {len(planned.interrupted):6d} trials, {saved_among(planned)}",
        f"to do again  {len(planned.failed):6d} trials that failed",
        f"to do        {new:6d} trials",
        f"examples     at most {examples:,}",
        f"time         {_estimate(planned, trials, record)}",
    ]
    return lines + record.troubles


def saved_among(planned: Plan) -> str:
    """How many of the interrupted trials have a checkpoint."""
    n_saved = len(planned.interrupted & planned.saved.keys())
    repeated = len(planned.interrupted) - n_saved
    return f"{n_saved} from a checkpoint and {repeated} from step 0"


def differences(trials: Sequence[Trial], record: StudyRecord, tags: dict[str, str]) -> list[str]:
    """What the user should know of the record: other commits, another version of their task."""
    lines = []
    commits = commits_of(tags)
    others = sorted(record.commits - {commits})
    if others:
        lines.append(
            f"trials of this study were trained at other commits ({'; '.join(others)}; now "
            f"{commits}): their numbers are taken as they are"
        )
    for trial in {trial.task_content: trial for trial in trials if trial.task_content}.values():
        path = trial.config.task.path  # pyright: ignore[reportAttributeAccessIssue]
        known = record.task_contents.get(path, set())
        if known and trial.task_content not in known:
            lines.append(
                f"task.path={path}: its code or data changed since trials of this study were "
                "trained; they count as new trials and are trained from step 0"
            )
    return lines


def _estimate(planned: Plan, trials: Sequence[Trial], record: StudyRecord) -> str:
    """From the trials on record with the same batch size; less where a checkpoint has a part."""
    if not planned.to_do:
        return "nothing to train"
    known: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for trial in record.trials.values():
        if trial.seconds > 0:
            known[trial.batch_size].append((trial.seconds, max([1, *trial.steps[-1:]])))
    if not {trials[position].config.batch_size for position in planned.to_do} <= set(known):
        return "not known: no trial with these batch sizes is on record"
    whole = {size: float(np.mean([one[0] for one in ones])) for size, ones in known.items()}
    step = {size: sum(t for t, _ in ones) / sum(s for _, s in ones) for size, ones in known.items()}
    seconds = 0.0
    for position in planned.to_do:
        size, saved = trials[position].config.batch_size, planned.saved.get(position)
        seconds += max(0.0, whole[size] - (saved[0].step * step[size] if saved else 0.0))
    return f"about {seconds:.1f} s of training, as trials of these batch sizes took before"
