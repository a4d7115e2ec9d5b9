"""Streams of examples that are read batch by batch, in worker processes ahead of the training."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from scaling.custom_code import first_line
from scaling.tasks.examples import Take
from scaling.tasks.nests import mapped
from scaling.tasks.streams import Batch, Streams

AHEAD = 2  # batches that each worker reads ahead


def batch_key(generator: torch.Generator, step: int) -> int:
    """Of a stream's step (from 0), by which its batch draws; the generator's seed follows from the
    trial's seed and the batch size."""
    words = repr((generator.initial_seed(), step)).encode()
    return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "big") >> 2


class ReadStreams(Streams):
    """Streams whose batches are the examples themselves, leaves [G, B, ...].

    draw: as of Streams, leaves rows [n_steps, B] and keys [n_steps]. load(taken, n_rows): the
    leaves of one batch [B, ...] from what `take` gave. The order of batches, and what they draw,
    depend on neither n_workers nor the other streams.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        batch_size: int,
        elements_per_step: int,
        draw: Callable[[torch.Generator, int, int], Batch],
        take: Take,
        load: Callable[[Any, int], Batch],
        n_workers: int,
    ) -> None:
        super().__init__(seeds, batch_size, elements_per_step, draw)
        self._load = load
        self._reader = Reader(take, n_workers)
        self._ahead: Iterator[Any] | None = None

    def next(self) -> Batch:
        rows, _ = super().next()
        if self._ahead is None:
            waiting = self._steps[self._position - 1 :]
            self._ahead = self._reader.read(
                [
                    (own.numpy(), int(key))
                    for step in waiting
                    for own, key in zip(*step, strict=True)
                ]
            )
        loaded = [self._load(next(self._ahead), rows.shape[1]) for _ in rows]
        if len(loaded) == 1:
            return tuple(leaf[None] for leaf in loaded[0])
        return tuple(map(torch.stack, zip(*loaded, strict=True)))

    def _take(self, block: Batch) -> None:
        super()._take(block)
        self._ahead = None


Wanted = tuple[np.ndarray, int]  # rows [B], key


class Reader:
    """Reads batches in order, in n_workers processes (0: in this one) that live as long as it.

    These are forked where that is safe, so that no data are copied to them.
    """

    def __init__(self, take: Take, n_workers: int) -> None:
        self._wanted: list[Wanted] = []
        self._taken, self._n_workers = _Taken(take), n_workers
        self._loader: DataLoader[Any] | None = None

    def read(self, wanted: list[Wanted]) -> Iterator[Any]:
        """What `take` gives for each of these; what was asked for before is dropped."""
        if not self._n_workers:
            return (self._taken.take(torch.from_numpy(rows), key) for rows, key in wanted)
        self._wanted[:] = wanted
        if self._loader is None:
            self._loader = DataLoader(
                self._taken,
                batch_size=None,
                sampler=self._wanted,  # pyright: ignore[reportArgumentType]
                num_workers=self._n_workers,
                prefetch_factor=AHEAD,
                persistent_workers=True,
                multiprocessing_context="fork" if sys.platform == "linux" else None,
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # the global one is the trial's
            )
        return map(_succeeded, iter(self._loader))


@dataclass(frozen=True)
class _Failure:
    """What a read in another process raised: a traceback stays there, and its places with it."""

    text: str


class _Taken(Dataset[Any]):
    def __init__(self, take: Take) -> None:
        self.take = take

    def __getitem__(self, wanted: Wanted) -> Any:
        rows, key = wanted
        try:
            taken = self.take(torch.from_numpy(rows), key)
        except Exception as error:
            return _Failure(first_line(error))
        return mapped(lambda leaf: leaf, taken)  # tensors go to another process by shared memory


def _succeeded(taken: Any) -> Any:
    if isinstance(taken, _Failure):
        raise RuntimeError(f"a batch could not be read: {taken.text}")
    return taken


def _as_it_is(taken: Any) -> Any:
    return taken
