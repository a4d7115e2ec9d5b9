"""How long a step of one trial takes that trains alone, on the device at hand."""

from __future__ import annotations

import time

import numpy as np
import torch

from scaling.draws import kept_draws
from scaling.stack import Stack
from scaling.tasks.make import make_task
from scaling.train import take_step
from scaling.trial import Trial

WARM_UP_STEPS = 5  # caches, memory, kernels that are chosen at their first use
BLOCKS = 9
LEAST_BLOCK_STEPS, LEAST_BLOCK_SECONDS = 4, 0.03
Block = tuple[int, float]


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
