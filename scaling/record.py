"""What a study's journals say of its trials: which have ended, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scaling.journal import FolderReader
from scaling.outcome import TrialResult, Watch
from scaling.trial import Trial


@dataclass
class TrialRecord:
    """The curve of one trial, merged over every time it was trained."""

    batch_size: int
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    diverged_step: int | None = None
    seconds: float = 0.0


@dataclass
class StudyRecord:
    """trials: by trial id. torn: journals whose last line is not whole."""

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    torn: list[Path] = field(default_factory=list)


def read_record(folder: Path) -> StudyRecord:
    """Merge the journals in `folder`; JournalError for one that is none or of another format."""
    record = StudyRecord()
    named: dict[tuple[str, int], TrialRecord] = {}
    with FolderReader(folder) as reader:
        while lines := reader.read():
            for journal, line in lines:
                kind = line["record"]
                if kind == "trial":
                    known = record.trials.setdefault(
                        line["trial_id"], TrialRecord(line["params"]["batch_size"])
                    )
                    named[journal, line["trial"]] = known
                elif kind == "evaluation":
                    for number, loss in zip(line["trials"], line["loss"], strict=True):
                        trial = named[journal, number]
                        if not trial.steps or line["step"] > trial.steps[-1]:
                            trial.steps.append(line["step"])
                            trial.losses.append(loss)
                elif kind == "outcome":
                    trial = named[journal, line["trial"]]
                    trial.diverged_step = line["diverged_step"]
                    trial.seconds = max(trial.seconds, float(line["tags"]["seconds"]))
        record.torn = reader.torn()
    return record


def finished(trial: Trial, record: TrialRecord) -> TrialResult | None:
    """The result that training `trial` would have, if the recorded curve reaches its end.

    The rules of ending are those of training (scaling.outcome): a longer budget, a harder target
    or a longer tail than the record's may need more steps; then None.
    """
    watch = Watch([trial])
    number = np.array([0])
    for step, loss in zip(record.steps, record.losses, strict=True):
        if len(watch.look(step, number, np.array([loss]))):
            return replace(watch.result(0), seconds=record.seconds)
    if record.diverged_step is not None and record.diverged_step <= trial.max_steps:
        return replace(watch.diverge(record.diverged_step, 0), seconds=record.seconds)
    return None


@dataclass(frozen=True)
class Plan:
    """What is left to do of the trials asked for. Positions are those of the trials given."""

    results: dict[int, TrialResult]
    to_do: list[int]
    begun: int  # of those to do: with some steps on record


def plan(trials: Sequence[Trial], record: StudyRecord) -> Plan:
    """Sort trials into those whose result is on record and those to train."""
    results: dict[int, TrialResult] = {}
    to_do, begun = [], 0
    for position, trial in enumerate(trials):
        known = record.trials.get(trial.trial_id)
        result = finished(trial, known) if known else None
        if result is None:
            to_do.append(position)
            begun += known is not None
        else:
            results[position] = result
    return Plan(results, to_do, begun)


def describe(planned: Plan, trials: Sequence[Trial], record: StudyRecord) -> list[str]:
    """What a sweep of these trials would do, with its cost, one line each."""
    examples = sum(trials[i].max_steps * trials[i].config.batch_size for i in planned.to_do)
    lines = [
        f"on record    {len(planned.results):6d} trials, not trained again",
        f"to continue  {planned.begun:6d} trials, begun before",
        f"to do        {len(planned.to_do) - planned.begun:6d} trials",
        f"examples     at most {examples:,}",
        f"time         {_estimate(planned, trials, record)}",
    ]
    return lines + [f"torn last line in {path}: skipped" for path in record.torn]


def _estimate(planned: Plan, trials: Sequence[Trial], record: StudyRecord) -> str:
    """Seconds from the trials on record with the same batch size."""
    if not planned.to_do:
        return "nothing to train"
    known: dict[int, list[float]] = {}
    for trial in record.trials.values():
        if trial.seconds > 0:
            known.setdefault(trial.batch_size, []).append(trial.seconds)
    sizes = [trials[position].config.batch_size for position in planned.to_do]
    if not set(sizes) <= set(known):
        return "not known: no trial with these batch sizes is on record"
    seconds = sum(float(np.mean(known[size])) for size in sizes)
    return f"about {seconds:.1f} s of training, as trials of these batch sizes took before"
