"""Trials that are finished and asked for otherwise than before: that stands in the record too, so
that the newest request is what one sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scaling.record.journal import Journal
from scaling.record.plan import Plan, StudyRecord, requested
from scaling.trial import Trial
from sweeps.run.units import Job, journal_headers, trial_params

OF_A_SEARCH = ("budget.max_steps", "budget.max_examples")  # its own, another one each round


def new_requests(
    jobs: Sequence[Job], trials: Sequence[Trial], planned: Plan, record: StudyRecord
) -> dict[int, dict[str, Any]]:
    """What the journal says of such trials, by position."""
    in_search = trials[0].cap is not None
    ignored = OF_A_SEARCH if in_search else ()

    def asks(request: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in request.items() if key not in ignored}

    changed = [
        number
        for number in sorted(planned.results)
        if asks(requested(trial_params(trials[number], jobs[number].content)))
        != asks(record.trials[trials[number].trial_id].asked)
    ]
    return journal_headers(jobs, trials, changed, record) if changed else {}


def write_requests(
    journal: Journal, headers: Mapping[int, dict[str, Any]], planned: Plan, record: StudyRecord
) -> None:
    """A turn of each trial in which nothing is trained, with the outcome for what is asked now and
    the time at which its training ended."""
    for number, header in headers.items():
        ended_at = record.trials[header["trial_id"]].ended_at
        journal.write("trial", trial=number, **header, trains=False)
        journal.write("outcome", trial=number, **planned.results[number].as_line(), time=ended_at)
