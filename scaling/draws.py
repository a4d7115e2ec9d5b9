"""Random numbers that a task draws from the global generators of torch, numpy and Python.

They follow from what is computed, never from what was computed before: the loop seeds all of them
anew for every training step of a trial, by its seed, its batch size and the step. So a trial draws
the same numbers on any worker, in any order, for every lr, and after any interruption; what a
checkpoint has to hold of them is the step. Evaluations draw the same numbers every time.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

CONSTRUCTION, TRAINING, MEASURING, EVALUATION, READING = range(2, 7)  # first numbers of keys


def seed_draws(*key: int) -> None:
    """Seed the global generators, those of all CUDA devices in use among them, by a hash of key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 - the global one is what users draw from
    random.seed(number)


@contextmanager
def kept_draws() -> Iterator[None]:
    """Whatever is drawn inside, the global generators go on outside as if nothing had been."""
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def drawing(*key: int) -> Iterator[None]:
    """Inside, draws follow from `key`; outside they go on as before."""
    with kept_draws():
        seed_draws(*key)
        yield


def position() -> tuple[object, ...]:
    """Where the global generators stand: equal before and after what draws nothing."""
    _, numbers, *rest = np.random.get_state()  # noqa: NPY002
    states = [torch.get_rng_state()]
    states += torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return (
        random.getstate(),
        np.asarray(numbers).tobytes(),
        *rest,
        *(state.numpy().tobytes() for state in states),
    )
