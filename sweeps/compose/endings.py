"""What a launch says and returns when its trials have ended."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from scaling.commands import command
from scaling.result import TrialResult
from scaling.schema import CENSORED, DIVERGED, REACHED
from scaling.trial import Trial
from sweeps.run.job import Job
from sweeps.run.jobs import SweepResult
from sweeps.run.training import Failure

log = logging.getLogger(__name__)
OUTCOMES = (REACHED, CENSORED, DIVERGED)


NOT_TRAINED = "not trained: the sweep stopped at its first failure (hydra.launcher.fail_fast)"


def fail_after_all(returned: Sequence[Sequence[JobReturn]]) -> None:
    """Exit with code 1 if jobs failed; which ones has been printed already."""
    if any(job.status == JobStatus.FAILED for batch in returned for job in batch):
        for job in itertools.chain(*returned):
            if job.status == JobStatus.FAILED and not isinstance(job._return_value, TrialFailed):
                raise job._return_value
        raise SystemExit(1)


def refuse_stillborn(results: Sequence[TrialResult], n_trials: int) -> None:
    """End with exit code 1 and one line if every trial diverged before or at its first update."""
    if len(results) < n_trials or not all(_at_once(result) for result in results):
        return
    [(what, _)] = Counter(result.not_finite for result in results).most_common(1)
    who = f"all {n_trials} trials" if n_trials > 1 else "the trial"
    why = f"{what} is not finite" if what else "the held-out loss grew above divergence_factor"
    line = f"{who} diverged at the first step ({why}): an error of the task, not a result; "
    advice = "check its data and its loss, and whether lr is far too large"
    print(f"error: {line}{advice}", file=sys.stderr)
    raise SystemExit(1)


def _at_once(result: TrialResult) -> bool:
    return result.diverged_step is not None and result.diverged_step <= 1


def say_report(study: str) -> None:
    log.info("report: %s", command("report", f"study={study}"))


def say_what_came_out(done: SweepResult, trials: Sequence[Trial]) -> None:
    n_trials, of_targets = len(trials), trials[0].ends_at_target
    counts = Counter(result.outcome for result in done.results.values())
    if of_targets:
        ended = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES]
    else:
        whole = sum(counts.values()) - counts[DIVERGED]
        ended = [f"{whole} trained to the end", f"{counts[DIVERGED]} diverged"]
    n_failed = sum(len(failure.numbers) for failure in done.failures)
    ended += [f"{n_failed} failed"] if n_failed else []
    left = n_trials - len(done.results) - n_failed
    ended += [f"{left} not trained"] if left else []
    at = " (their hardest target)" if of_targets else ""
    log.info("%d trials: %s%s", n_trials, ", ".join(ended), at)
    if done.failures:
        say_failures(done.failures)


def say_failures(failures: Sequence[Failure]) -> None:
    lines = ["failed (the same command trains these again):"]
    for failure in failures:
        lines.append(f"  {failure.name}\n    {failure.error}\n    log: {failure.log}")
    print("\n".join(lines), file=sys.stderr)


class TrialFailed(RuntimeError):
    """What a failed job returns: the first line of its error."""


class Returned(JobReturn):
    """A JobReturn that makes its configuration when it is asked for: few ask."""

    def __init__(self, job: Job, status: JobStatus, value: Any) -> None:
        self._content = job.content
        super().__init__(
            overrides=job.overrides,
            working_dir=os.getcwd(),
            task_name="sweeps",
            status=status,
        )
        self.return_value = value

    @property
    def cfg(self) -> DictConfig:
        return OmegaConf.create(self._content)

    @cfg.setter
    def cfg(self, value: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The dataclass sets its default."""


def job_return(job: Job, result: TrialResult | None, error: str) -> JobReturn:
    if result is None:
        return Returned(job, JobStatus.FAILED, TrialFailed(error))
    return Returned(job, JobStatus.COMPLETED, result.main_loss)
