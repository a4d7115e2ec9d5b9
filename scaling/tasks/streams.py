"""Data streams of a stack: one generator per seed, drawn in blocks of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, ...]
StreamState = dict[str, Any]  # generators: a state for each; steps and first of the block; next
FIRST_BLOCK_STEPS = 16  # blocks double from here, so that short trials waste few draws ...
BLOCK_ELEMENTS = 2**16  # ... up to this many numbers: drawing at once is what makes small B fast


class Streams:
    """Batches of G streams, leaves [G, B, ...], one call of `next` per step.

    `draw(generator, n_steps, first_step)` returns leaves [n_steps, B, ...]; first_step, the steps
    drawn before, is for data in a fixed order. The lengths of blocks depend on
    the shape of one batch alone, never on the stack, so that a trial's data do not depend on its
    neighbours. A stream is fixed by (seed, batch size): equal for every lr, independent between
    batch sizes.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        batch_size: int,
        elements_per_step: int,
        draw: Callable[[torch.Generator, int, int], Batch],
    ) -> None:
        self._generators = [_generator(seed, batch_size) for seed in seeds]
        self._draw = draw
        self._most_steps = max(1, BLOCK_ELEMENTS // elements_per_step)
        self._block_steps = min(FIRST_BLOCK_STEPS, self._most_steps)
        self._position = 0
        self._first_step = 0  # of the block
        self._before: list[Tensor] = []  # states of the generators before the block was drawn
        self._block: Batch = ()  # leaves [n_steps, G, B, ...]: each batch lies in one piece
        self._steps: list[Batch] = []  # the block's batches: views, cut once a block

    def __len__(self) -> int:
        return len(self._generators)

    def next(self) -> Batch:
        if not self._block or self._position == self._block_steps:
            if self._block:
                self._first_step += self._block_steps
                self._block_steps = min(2 * self._block_steps, self._most_steps)
            self._draw_block()
        self._position += 1
        return self._steps[self._position - 1]

    def _draw_block(self) -> None:
        self._before = [generator.get_state() for generator in self._generators]
        first, steps = self._first_step, self._block_steps
        drawn = [self._draw(generator, steps, first) for generator in self._generators]
        self._take(tuple(map(_stack, zip(*drawn, strict=True))))
        self._position = 0

    def _take(self, block: Batch) -> None:
        self._block = block
        self._steps = list(zip(*(leaf.unbind() for leaf in block), strict=True))

    def state(self) -> StreamState:
        """What `restore` needs to go on with the next batch."""
        states = self._before or [generator.get_state() for generator in self._generators]
        return {
            "generators": states,
            "steps": self._block_steps,
            "first": self._first_step,
            "next": self._position if self._block else 0,
        }

    def restore(self, state: StreamState) -> None:
        """Go on where the streams of this state, given in this order, stood."""
        for generator, before in zip(self._generators, state["generators"], strict=True):
            generator.set_state(before)
        self._block_steps, self._first_step = state["steps"], state["first"]
        if state["next"]:  # the block is drawn again rather than saved: it may be large
            self._draw_block()
            self._position = state["next"]

    def keep(self, streams: Sequence[int]) -> None:
        """Go on with these streams only, in this order."""
        self._generators = [self._generators[stream] for stream in streams]
        self._before = [self._before[stream] for stream in streams] if self._before else []
        if self._block:
            self._take(tuple(leaf[:, list(streams)] for leaf in self._block))


def _stack(leaves: tuple[Tensor, ...]) -> Tensor:
    """Leaves [n_steps, ...] of G streams as [n_steps, G, ...]; one is not copied."""
    return leaves[0][:, None] if len(leaves) == 1 else torch.stack(leaves, 1)


def _generator(seed: int, batch_size: int) -> torch.Generator:
    words = np.random.SeedSequence([seed, batch_size]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
