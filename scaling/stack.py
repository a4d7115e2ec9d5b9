"""Which trials may share a stack, and the rows of a stack while it trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling.averaging import WeightAverage, start_average
from scaling.config import ScheduleConfig
from scaling.optimizers.stack import StackOptimizer, start_optimizer
from scaling.schedules import in_steps, lr_factor
from scaling.tasks.streams import Batch, Streams
from scaling.tasks.task import Params, Task
from scaling.trial import Trial


def group_into_stacks(
    trials: Sequence[Trial], stack_size: int, begins: Sequence[Hashable] = ()
) -> list[list[int]]:
    """Positions of the trials that train together, at most `stack_size` a stack.

    Trials share a stack if they differ in nothing but lr, seed, the optimizer's numbers, targets
    and budget, and begin together (`begins`, one a trial: what they go on from). Order within a
    stack is that of the trials, by seed.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for position, trial in enumerate(trials):
        groups[trial.stack_key, begins[position] if begins else None].append(position)
    stacks = []
    for members in groups.values():
        members.sort(key=lambda position: trials[position].config.seed)
        most = min(stack_size, trials[members[0]].most_rows or stack_size)
        stacks += [members[i : i + most] for i in range(0, len(members), most)]
    return stacks


StackState = dict[str, Any]  # plain containers and tensors, as checkpoints hold them


@dataclass
class Stack:
    """R rows in tiles of one data stream each.

    member [R] is the number of the trial that a row computes. A tile that is not full is filled
    with repetitions of its first trial, and a stack of one tile repeats it whole: every product
    then has a shape of its own kind, and with it the same bits. `counted` [R] is False there.
    """

    seeds: list[int]  # by number
    member: np.ndarray
    counted: np.ndarray
    stream_of_tile: list[int]
    streams: Streams
    params: Params
    optimizer: StackOptimizer
    schedule: ScheduleConfig  # in steps
    tile_width: int
    least_tiles: int
    train_loss_sum: Tensor
    average: WeightAverage | None = None
    train_steps: int = 0
    noise: list[dict[str, Tensor]] = field(default_factory=list)  # of measured steps, leaves [R]

    def __post_init__(self) -> None:
        self._see_tiles()

    def _see_tiles(self) -> None:
        """What no step changes."""
        self._one_tile_each = self.stream_of_tile == list(range(len(self.streams)))
        self.first_seed = self.seeds[int(self.member[0])]

    @classmethod
    def start(cls, task: Task, trials: Sequence[Trial]) -> Stack:
        seeds = [trial.config.seed for trial in trials]
        distinct = list(dict.fromkeys(seeds))
        member, counted, stream_of_tile = _tiles(
            [distinct.index(seed) for seed in seeds], task.tile_width, task.least_tiles
        )
        rows = [trials[number].config for number in member]
        params = task.initial_params([config.seed for config in rows])
        return cls(
            seeds=seeds,
            member=member,
            counted=counted,
            stream_of_tile=stream_of_tile,
            streams=task.streams(distinct, trials[0].config.batch_size),
            params=params,
            optimizer=start_optimizer(task, rows, member.tolist(), params),
            schedule=in_steps(trials[0].config),
            tile_width=task.tile_width,
            least_tiles=task.least_tiles,
            train_loss_sum=torch.zeros(len(member), dtype=torch.float64),
            average=start_average(trials[0].config),
        )

    @property
    def evaluated(self) -> Params:
        """The parameters that are evaluated: with the average of the weights where there is one."""
        return self.params if self.average is None else self.average.of(self.params)

    def saved(self, numbers: np.ndarray | None = None) -> StackState:
        """All that the next steps depend on, a row a trial, with the trials' numbers [N].

        numbers: of these trials alone.
        """
        wanted = self.counted if numbers is None else self.counted & np.isin(self.member, numbers)
        rows = np.flatnonzero(wanted)
        streams = self.streams.state()
        of_row = [self.stream_of_tile[row // self.tile_width] for row in rows]
        index = torch.from_numpy(rows)
        return {
            "numbers": self.member[rows].tolist(),
            "params": {key: leaf[index].cpu() for key, leaf in self.params.items()},
            "optimizer": self.optimizer.saved(index),
            "train_loss_sum": self.train_loss_sum[index],
            "train_steps": self.train_steps,
            "noise": _picked(self.noise, index),
            **({} if self.average is None else {"average": self.average.saved(index)}),
            "generators": streams["generators"],
            "stream_of_number": of_row,
            "block": {key: streams[key] for key in ("steps", "first", "next")},
        }

    def restore(self, saved: StackState, rows: Sequence[int]) -> None:
        """Go on from `saved`; rows [N]: where each trial of this stack stands in it."""
        source = np.array(rows)[self.member]
        index = torch.from_numpy(source)
        device = next(iter(self.params.values())).device
        self.params = {key: leaf[index].to(device) for key, leaf in saved["params"].items()}
        self.optimizer.restore(saved["optimizer"], index, self.params)
        self.train_loss_sum = saved["train_loss_sum"][index]
        self.train_steps = saved["train_steps"]
        self.noise = _picked(saved.get("noise", []), index)
        if self.average is not None:
            self.average.restore(saved["average"], index, device)
        stream_of = dict(zip(self.stream_of_tile, source[:: self.tile_width], strict=True))
        self.streams.restore(
            {
                "generators": [
                    saved["generators"][saved["stream_of_number"][stream_of[stream]]]
                    for stream in sorted(stream_of)
                ],
                **saved["block"],
            }
        )

    def next_batch(self) -> Batch:
        """The batches of all tiles, leaves [tiles, B, ...]."""
        batch = self.streams.next()
        if self._one_tile_each:
            return batch
        if len(batch[0]) == 1:
            n_tiles = len(self.stream_of_tile)
            return tuple(leaf.expand(n_tiles, *leaf.shape[1:]) for leaf in batch)
        return tuple(leaf[self.stream_of_tile] for leaf in batch)

    def lr_factor(self, step: int) -> float | None:
        """Factor on every lr at update number `step`; None where lr is not scheduled."""
        return None if self.schedule.name == "constant" else lr_factor(self.schedule, step)

    def advance(self, losses: Tensor, params: Params) -> None:
        """Take over what one step made."""
        self.params = params
        if self.average is not None:
            self.average.take(params)
        self.train_loss_sum += losses
        self.train_steps += 1

    def mean_train_loss(self, rows: np.ndarray) -> np.ndarray:
        return self.train_loss_sum.numpy()[rows] / self.train_steps

    def forget_train_loss(self) -> None:
        self.train_loss_sum.zero_()
        self.train_steps = 0

    def drop(self, leaving: np.ndarray) -> bool:
        """Take the trials `leaving` (numbers) out and close the gaps; False when none is left."""
        if not len(leaving):
            return True
        rows = np.flatnonzero(self.counted & ~np.isin(self.member, leaving))
        if not len(rows):
            return False
        streams = [self.stream_of_tile[row // self.tile_width] for row in rows]
        kept = list(dict.fromkeys(streams))
        source, self.counted, self.stream_of_tile = _tiles(
            [kept.index(stream) for stream in streams], self.tile_width, self.least_tiles
        )
        self.streams.keep(kept)
        self.member = self.member[rows[source]]
        self._see_tiles()
        index = torch.from_numpy(rows[source])
        self.params = {key: leaf[index] for key, leaf in self.params.items()}
        self.train_loss_sum = self.train_loss_sum[index]
        self.noise = _picked(self.noise, index)
        self.optimizer.keep(index)
        if self.average is not None:
            self.average.keep(index)
        return True


def _picked(steps: list[dict[str, Tensor]], index: Tensor) -> list[dict[str, Tensor]]:
    """Rows `index` of what was measured, on the CPU."""
    return [{key: leaf.cpu()[index] for key, leaf in step.items()} for step in steps]


def _tiles(
    stream_of: Sequence[int], width: int, least: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Lay numbers 0, 1, ... with these streams into at least `least` tiles of `width`.

    Returns the number in each row, whether the row counts (False: repetition), each tile's stream.
    """
    of_stream: dict[int, list[int]] = defaultdict(list)
    for number, stream in enumerate(stream_of):
        of_stream[stream].append(number)
    numbers, counted, streams = [], [], []
    for stream, members in sorted(of_stream.items()):
        for start in range(0, len(members), width):
            tile = members[start : start + width]
            spare = width - len(tile)
            numbers.append(tile + tile[:1] * spare)
            counted.append([True] * len(tile) + [False] * spare)
            streams.append(stream)
    for _ in range(least - len(numbers)):
        numbers.append(numbers[0])
        streams.append(streams[0])
        counted.append([False] * width)
    return np.array(numbers).flatten(), np.array(counted).flatten(), streams
