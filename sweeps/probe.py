"""Seconds of a step at each batch size and model of a multirun: timed alone, kept in MLflow.

Trials that train in stacks share their steps, so the cost of a step of one alone is unknown.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig

from scaling import addresses, schema
from scaling.draws import kept_draws
from scaling.limits import ConfigError
from scaling.stack import Stack
from scaling.store.check import StoreError, store_message
from scaling.store.client import Store
from scaling.tasks.make import make_task
from scaling.train import take_step
from scaling.trial import Trial
from sweeps.command_line.messages import one_line_errors
from sweeps.compose.composer import Composer
from sweeps.compose.endings import say_report
from sweeps.compose.launch import compose_jobs
from sweeps.run.job import Job, trial_params
from sweeps.run.jobs import prepare_jobs
from sweeps.run.provenance import sweep_record

log = logging.getLogger(__name__)
WARM_UP_STEPS = 5  # caches, memory, kernels that are chosen at their first use
BLOCKS = 9
LEAST_BLOCK_STEPS, LEAST_BLOCK_SECONDS = 4, 0.03
Block = tuple[int, float]


def probe(loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[Sequence[str]]) -> None:
    """Time every distinct batch size, model, task and optimizer of the jobs; a run each."""
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    with one_line_errors():
        jobs = compose_jobs(Composer(loader, config), job_overrides, 0)
        trials = prepare_jobs(jobs)
        shapes = distinct_shapes(trials)
        study = trials[0].config.study
        uri = trials[0].config.tracking.uri
        if uri == schema.NO_STORE:
            allowed = "the probe requires a store for what it measures; name one"
            raise ConfigError("tracking.uri", uri, allowed)
        resolved = addresses.resolve_tracking_uri(uri)
        with _store_errors(resolved):
            store = Store(resolved, study.name, study.question)
        record = sweep_record(study, Path.cwd(), sys.argv[1:])["tags"]
        tags = {key: record[key] for key in ("command", "host", "versions")}
        tags |= {schema.STUDY: study.name, schema.KIND: "probe"}
        for number in shapes:
            blocks = time_steps(trials[number])
            with _store_errors(resolved):
                _write(store, jobs[number], trials[number], blocks, tags)
    say_report(study.name)


def time_steps(trial: Trial) -> list[Block]:
    """(steps done, median seconds of a step) of BLOCKS blocks of consecutive training steps.

    The steps of the training loop (data, gradients, update, the look for what is not finite), one
    thread as in the workers; evaluations are not timed. Nothing is recorded.
    """
    torch.set_num_threads(1)
    task = make_task(trial.config)
    stack = Stack.start(task, [trial])
    blocks: list[Block] = []
    step = 0
    with kept_draws():
        for _ in range(WARM_UP_STEPS):
            step += 1
            take_step(task, stack, trial.config, step)
        while len(blocks) < BLOCKS:
            seconds: list[float] = []
            while len(seconds) < LEAST_BLOCK_STEPS or sum(seconds) < LEAST_BLOCK_SECONDS:
                step += 1
                clock = time.perf_counter()
                take_step(task, stack, trial.config, step)
                seconds.append(time.perf_counter() - clock)
            blocks.append((step, float(np.median(seconds))))
    return blocks


def distinct_shapes(trials: Sequence[Trial]) -> list[int]:
    """Positions of one trial of each shape, that of the smallest lr: it does not diverge."""
    least: dict[str, int] = {}
    for number, trial in enumerate(trials):
        known = least.get(trial.stack_key)
        if known is None or trial.config.lr < trials[known].config.lr:
            least[trial.stack_key] = number
    return list(least.values())


def _write(
    store: Store, job: Job, trial: Trial, blocks: Sequence[Block], tags: dict[str, str]
) -> None:
    """A run with the params of the trial and a point of STEP_SECONDS a block."""
    size, now = trial.config.batch_size, time.time()
    name = f"step time B={size} N={trial.model_size}"
    run_id = store.create_run(name, now, {**tags, schema.TRIAL_ID: trial.stack_key})
    points = [(schema.STEP_SECONDS, value, now, step) for step, value in blocks]
    store.log(run_id, points, trial_params(trial, job.content))
    store.set_status(run_id, "FINISHED", time.time())
    seconds = statistics.median(value for _, value in blocks)
    log.info("batch size %d, model size %d: %.3g s a step", size, trial.model_size, seconds)


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise StoreError(store_message(uri, error)) from None
