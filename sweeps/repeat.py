"""Train a recorded trial again and compare: `repeat run_id=<id>`.

On the same machine, versions and thread count every recorded number comes again, bit for bit; else
the first step that differs is shown, and the largest difference. Nothing is written anywhere.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling import addresses, schema
from scaling.config import StudyConfig
from scaling.recorder import Evaluation, TrainState
from scaling.result import TrialResult
from scaling.store.read_back import History, RunError, RunReader, StoredRun
from scaling.store.recorded_trial import trial_of
from scaling.train import train
from scaling.trial import Trial
from sweeps.command_line.key_values import key_values
from sweeps.command_line.messages import one_line_errors, one_line_warning
from sweeps.run.provenance import sweep_record

USAGE = """run_id=<id> [tracking.uri=<store>] [task.path=<module.Class>]
Trains the trial of an MLflow run again and compares; nothing is written to the store.
  run_id        of a finished trial, from MLflow's pages or a report
  tracking.uri  the store; default MLFLOW_TRACKING_URI, else ./mlflow.db
  task.path     required if the trial trains your code, which is then imported
  optimizer.path  likewise for your optimizer (not for those of torch.optim)
  cache_dir     folder of prepared images
Exit code 0: equal; 1: it differs; 2: it cannot be repeated."""
DIVERGED_AT = "diverged_step"
KEYS = ("run_id", "tracking.uri", "task.path", "optimizer.path", "cache_dir")
SURROUNDINGS = (
    *("git_commit", "git_changes", "code_git_commit", "code_git_changes", "versions"),
    *("host", "processor", "device", "threads"),
)  # tags that say what might make a difference


@dataclass
class Curves:
    """A recorder that keeps every evaluation: {metric: {step: value}}."""

    points: dict[str, History] = field(default_factory=dict)

    def evaluation(self, evaluation: Evaluation) -> None:
        columns = {key: getattr(evaluation, key) for key in ("loss", "train_loss", "lr")}
        for key, column in (columns | evaluation.metrics).items():
            if column is not None and np.isfinite(column[:1]).all() and len(column):
                self.points.setdefault(key, {})[evaluation.step] = float(column[0])

    def outcome(self, number: int, result: TrialResult) -> None:
        if result.diverged_step is not None:
            self.points[DIVERGED_AT] = {0: float(result.diverged_step)}

    def picture(self, step: int, number: int, picture: np.ndarray) -> None:
        return

    def model(self, number: int, kind: str, state: dict[str, Tensor]) -> None:
        return

    def wants_state(self) -> bool:
        return False

    def state(self, state: TrainState) -> None:
        raise NotImplementedError

    def capped(self, state: TrainState) -> None:
        return


@dataclass(frozen=True)
class Comparison:
    """One metric, recorded against repeated. first: step, recorded, repeated, where they differ;
    worst: largest relative difference and its step."""

    metric: str
    n_steps: int
    first: tuple[int, float, float] | None
    worst: tuple[float, int] | None
    missing: int

    @property
    def equal(self) -> bool:
        return self.first is None and not self.missing and self.n_steps > 0

    def __str__(self) -> str:
        text = f"{self.metric}: "
        if self.equal:
            return f"{text}{self.n_steps} evaluations, equal bit for bit"
        if self.first is not None and self.worst is not None:
            step, recorded, now = self.first
            text += (
                f"differs from step {step} on (recorded {recorded!r}, now {now!r}); largest "
                f"relative difference {self.worst[0]:.3g}, at step {self.worst[1]}, "
                f"of {self.n_steps} evaluations"
            )
        if self.missing:
            text += f"{'; ' if self.first else ''}{self.missing} recorded steps are missing"
        return text


def compare(metric: str, recorded: History, now: History) -> Comparison:
    """The values at the recorded steps; `now` may go on beyond them."""
    common = sorted(recorded.keys() & now.keys())
    apart = [step for step in common if recorded[step] != now[step]]
    sizes = [(_relative(recorded[step], now[step]), step) for step in apart]
    return Comparison(
        metric=metric,
        n_steps=len(common),
        first=(apart[0], recorded[apart[0]], now[apart[0]]) if apart else None,
        worst=max(sizes) if sizes else None,
        missing=len(recorded.keys() - now.keys()),
    )


def _relative(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b))


def repeat_run(reader: RunReader, run: StoredRun, trial: Trial) -> list[Comparison]:
    """Train the trial as far as its record goes, with as many threads, and compare each metric.

    RunError if the record has no curve.
    """
    recorded = {}
    for metric in run.metrics:
        points = reader.history(run, metric)
        if metric in ("loss", "train_loss", "lr") or len(points) > 1:
            recorded[metric] = points
    if not recorded.get("loss"):
        raise RunError(f"run_id={run.run_id}: has no loss to compare with")
    last = max(recorded["loss"])
    if run.tags.get(DIVERGED_AT, "").isdigit():
        last = int(run.tags[DIVERGED_AT])
        recorded[DIVERGED_AT] = {0: float(last)}
    torch.set_num_threads(_threads(run))
    now = Curves()
    train([as_far_as(trial, last)], now)
    recorded.pop("examples", None)  # follows from step and batch size
    return [compare(key, recorded[key], now.points.get(key, {})) for key in sorted(recorded)]


def _threads(run: StoredRun) -> int:
    threads = run.tags.get("threads", "1")
    if not threads.isdigit() or not 0 < int(threads) < 4096:
        raise RunError(f"run_id={run.run_id}: its tag threads={threads[:50]} is not a number")
    return int(threads)


def as_far_as(trial: Trial, last_step: int) -> Trial:
    """The same trial, ending at the step where its record ends, whatever asked for that."""
    config = trial.config
    budget = replace(config.budget, max_steps=max(1, last_step), max_examples=None)
    endless = replace(config, budget=budget, picture_ratio=None, save_models=False)
    return replace(trial, config=endless, targets=())


def surroundings(tags: dict[str, str]) -> list[str]:
    """What is not as it was, a line each."""
    now: dict[str, Any] = sweep_record(StudyConfig(), Path.cwd(), [])["tags"]
    lines = []
    for key in SURROUNDINGS:
        was, is_now = tags.get(key), now.get(key)
        if was != is_now:
            lines.append(f"{key}: recorded {was or 'nothing'}, now {is_now or 'nothing'}")
    return lines


def main() -> None:
    """The command; its exit code says what came of it."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    warnings.showwarning = one_line_warning
    with one_line_errors():
        arguments = key_values("repeat", KEYS, USAGE)
        if "run_id" not in arguments:
            raise RunError("run_id: missing; it is at the top of the run's page in MLflow")
        uri = addresses.resolve_tracking_uri(arguments.get("tracking.uri"))
        reader = RunReader(uri)
        run = reader.read(arguments["run_id"])
        trial = trial_of(
            run,
            arguments.get("task.path"),
            arguments.get("cache_dir"),
            arguments.get("optimizer.path"),
        )
        print(f"{run.name}: training again, to step {run.tags.get(schema.LAST_STEP, '?')}")
        compared = repeat_run(reader, run, trial)
    print("\n".join(str(one) for one in compared))
    apart = surroundings(run.tags)
    if all(one.equal for one in compared):
        print("the record repeats" + (", although this has changed:" if apart else ""))
        print("\n".join(f"  {line}" for line in apart))
        return
    print("the record does not repeat; what has changed:", file=sys.stderr)
    print(
        "\n".join(f"  {line}" for line in apart or ["nothing that is on record"]), file=sys.stderr
    )
    raise SystemExit(1)


if __name__ == "__main__":
    main()
