"""Any data set and any nn.Module as a task: what a custom problem has to have is `Problem`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value, vmap

from scaling.config import TrialConfig
from scaling.draws import kept_draws
from scaling.limits import ConfigError
from scaling.models.norms import batch_norm_refusal
from scaling.tasks.flat import WEIGHTS
from scaling.tasks.nests import Nest, tensors_of
from scaling.tasks.network import ProblemNetwork, laid_out
from scaling.tasks.probing import draws_numbers, no_stack
from scaling.tasks.problem import Problem
from scaling.tasks.read_streams import ReadStreams, batch_key
from scaling.tasks.streams import Batch, Streams
from scaling.tasks.task import Params

PARTS_AT_ONCE = 16  # single gradients: more need more memory and gain nothing

log = logging.getLogger(__name__)


class SupervisedTask(ProblemNetwork):
    """Trains a Problem: a stack of one by ordinary autograd, larger ones by torch.func.

    Buffers change in place. Networks that draw random numbers train alone, as all do that
    torch.func cannot take (`most_rows`).
    """

    tile_width = 1
    least_tiles = 1
    draws = True

    def __init__(self, problem: Problem, config: TrialConfig) -> None:
        super().__init__(problem, config)
        self._micro_batch_size = config.micro_batch_size
        self._sampling = getattr(config.task, "sampling", "with_replacement")
        self._batch_size = config.batch_size
        self._data_workers = config.data_workers
        self._stack_networks = config.stack_networks

    @cached_property
    def seen_to_draw(self) -> bool:
        """It draws from a global generator; ConfigError where it draws from others."""
        return draws_numbers(self, *self._sample(1))

    @property
    def most_rows(self) -> int | None:
        """One where the network trains alone."""
        return 1 if self._alone else None

    @cached_property
    def _alone(self) -> bool:
        if self._micro_batch_size is not None or not _stacked(self._stack_networks, self.device):
            return True
        reason = "as it draws random numbers, and each trial draws its own"
        if not self.seen_to_draw:
            reason = no_stack(self, *self._sample(2))
        if reason and self._stack_networks == "true":
            log.warning("stack_networks=true: %s trains alone, %s", self.network_name, reason)
        return reason is not None

    def _sample(self, n_rows: int) -> tuple[Params, Batch]:
        """Parameters at step 0 and a small batch of each of these rows."""
        size = min(self._micro_batch_size or self._batch_size, self._batch_size)
        rows = torch.arange(size) % len(self._train)
        batch = self._drawn(rows, 0)
        return self.initial_params(range(n_rows)), tuple(
            leaf.expand(n_rows, *leaf.shape) for leaf in batch
        )

    def _drawn(self, rows: Tensor, key: int) -> Batch:
        """A batch of these rows [B]: they themselves, or the examples if these must be read."""
        if self._train.take is None:
            return (rows,)
        return tuple(self._train.flat(self._train.read(rows, key)))

    def _taken(self, batch: Batch, part: Callable[[Tensor], Tensor]) -> Nest:
        """[inputs, *targets] of a part of a batch, on the device."""
        leaves = [part(leaf) for leaf in batch]
        if self._train.take is None:
            return self._train.read(leaves[0])
        return self._train.nested([leaf.to(self.device) for leaf in leaves])

    def streams(self, seeds: Sequence[int], batch_size: int) -> Streams:
        n_examples = len(self._train)
        replace = self._sampling == "with_replacement"
        if self._sampling == "without_replacement" and batch_size > n_examples:
            allowed = f"at most the {n_examples} training examples without replacement"
            raise ConfigError("batch_size", batch_size, allowed)

        def draw(generator: torch.Generator, n_steps: int, first_step: int) -> Batch:
            if self._sampling == "fixed_order":
                first = first_step * batch_size
                order = torch.arange(first, first + n_steps * batch_size) % n_examples
                return (order.view(n_steps, batch_size),)
            if replace:
                return (torch.randint(n_examples, (n_steps, batch_size), generator=generator),)
            keys = torch.rand((n_steps, n_examples), generator=generator, dtype=torch.float64)
            return (keys.argsort(-1)[:, :batch_size],)

        elements = batch_size if self._sampling != "without_replacement" else n_examples
        if self._train.take is None:
            return Streams(seeds, batch_size, elements, draw)
        return self._read_streams(seeds, batch_size, elements, draw)

    def _read_streams(
        self,
        seeds: Sequence[int],
        batch_size: int,
        elements: int,
        draw: Callable[[torch.Generator, int, int], Batch],
    ) -> Streams:
        """Of examples that are read when their turn comes, once for all trials of a seed."""
        take = self._train.take
        assert take is not None

        def keyed(generator: torch.Generator, n_steps: int, first_step: int) -> Batch:
            keys = [batch_key(generator, first_step + step) for step in range(n_steps)]
            return (*draw(generator, n_steps, first_step), torch.tensor(keys))

        def load(taken: Any, n_rows: int) -> Batch:
            examples = self._train.checked(taken, n_rows)
            return tuple(self._train.flat(self._train.placed(examples)))

        return ReadStreams(seeds, batch_size, elements, keyed, take, load, self._data_workers)

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        if len(params[WEIGHTS]) > 1:
            return self._stacked(params, batch)
        self._flat.load({key: leaf[0] for key, leaf in params.items()})
        self._flat.gradient.zero_()
        module, total = self._flat.module.train(), torch.zeros((), dtype=torch.float64)
        n_examples = batch[0].shape[1]
        size = self._micro_batch_size or n_examples
        for begin in range(0, n_examples, size):
            end = min(begin + size, n_examples)
            loss = self._loss(module, self._of_first_row(batch, begin, end))
            share = (end - begin) / n_examples
            (loss * share).backward()
            total += loss.detach().double().cpu() * share
        for key, vector in self._flat.kept().items():
            params[key][0].copy_(vector)
        return total[None], {WEIGHTS: self._flat.gradient[None]}

    def _of_first_row(self, batch: Batch, begin: int, end: int) -> Nest:
        inputs, *targets = self._taken(batch, lambda leaf: leaf[0, begin:end])
        return [laid_out(inputs), *targets]

    def outputs(self, module: nn.Module, batch: Batch) -> Any:
        """What the network says of the first row's batch."""
        inputs, *_ = self._of_first_row(batch, 0, batch[0].shape[1])
        return self.forward(module, inputs)

    def hold_idle(self, gradients: Params, old: Params, new: Params) -> None:
        """As in torch.optim a parameter without gradient stays as it is, whatever the decay."""
        for place in self._idle:
            still = (gradients[WEIGHTS][:, place] == 0).all(1)
            new[WEIGHTS][still, place] = old[WEIGHTS][still, place]

    @cached_property
    def _idle(self) -> list[slice]:
        """Where parameters stand that a small batch's loss does not depend on."""
        with kept_draws():
            params, batch = self._sample(1)
            self._flat.load({key: leaf[0] for key, leaf in params.items()})
            examples = self._of_first_row(batch, 0, batch[0].shape[1])
            return self._flat.unused(self._loss(self._flat.module.train(), examples))

    @property
    def distinct_examples(self) -> int | None:
        return None if self._sampling == "with_replacement" else len(self._train)

    @property
    def no_example_gradients(self) -> str | None:
        return batch_norm_refusal(self._flat.module)

    def fresh_examples(self, generator: torch.Generator, n_examples: int) -> Batch:
        rows = torch.randint(len(self._train), (n_examples,), generator=generator)
        return self._drawn(rows, batch_key(generator, 0))

    def curvature_root(self, gradients: Tensor) -> None:
        return None

    def exact_moments(self, params: Params) -> None:
        return None

    def part_gradients(self, params: Params, batch: Batch, n_parts: int) -> Tensor:
        """One after the other where trials train alone, else (and single examples) together."""
        size = batch[0].shape[1] // n_parts

        def parts_of(row: int) -> Nest:
            """[inputs, *targets] of one trial, leaves [k, b, ...]."""
            return self._taken(
                batch, lambda leaf: leaf[row, : n_parts * size].unflatten(0, (n_parts, size))
            )

        with kept_draws():
            if len(params[WEIGHTS]) == 1 and size > 1:
                return self._gradients_in_turn(params, batch, size, n_parts)[None]
            return torch.stack(
                [
                    self._gradients_together(
                        {key: leaf[row] for key, leaf in params.items()}, parts_of(row)
                    )
                    for row in range(len(params[WEIGHTS]))
                ]
            )

    def _gradients_in_turn(self, params: Params, batch: Batch, size: int, n_parts: int) -> Tensor:
        """[k, P] of k parts of `size` examples by ordinary autograd."""
        gradients = []
        for begin in range(0, n_parts * size, size):
            self._flat.load({key: leaf[0] for key, leaf in params.items()})
            self._flat.gradient.zero_()
            examples = self._of_first_row(batch, begin, begin + size)
            self._loss(self._flat.module.train(), examples).backward()
            gradients.append(self._flat.gradient.clone())
        return torch.stack(gradients)

    def _gradients_together(self, leaves: Params, parts: Nest) -> Tensor:
        """[k, P] of parts [k, b] by torch.func, a chunk of parts at once; leaves: of one trial."""
        weights, kept = _apart(leaves)
        n_parts = len(tensors_of(parts)[0])
        buffers = {
            key: leaf.expand(n_parts, -1).clone() for key, leaf in kept.items()
        }  # written to
        with self._autocast():
            each = vmap(
                grad(self._loss_of()),
                in_dims=(None, *[0] * (len(parts) + 1)),
                randomness="different",
                chunk_size=PARTS_AT_ONCE,
            )
            return each(weights, buffers, *parts).detach()

    def _stacked(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        inputs, *targets = self._taken(batch, lambda leaf: leaf)
        with self._autocast():
            both = vmap(grad_and_value(self._loss_of()))  # an error where it draws
            gradients, losses = both(*_apart(params), inputs, *targets)
        return losses.detach().double().cpu(), {WEIGHTS: gradients}


def _apart(leaves: Mapping[str, Tensor]) -> tuple[Tensor, Params]:
    """The weights, and all else."""
    return leaves[WEIGHTS], {key: leaf for key, leaf in leaves.items() if key != WEIGHTS}


def _stacked(wanted: str, device: torch.device) -> bool:
    """Convolutions with differing weights are slower together on a CPU, and faster on a GPU."""
    return device.type == "cuda" if wanted == "auto" else wanted == "true"
