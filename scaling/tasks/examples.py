"""A problem's examples: tensors on the device, or read batch by batch from where they lie.

Read are memory maps, what a problem's own batch() gives, and map-style Datasets. What they draw
(augmentation) follows from a batch's key, and the key of a training batch from seed, batch size and
step: so it is the same for every lr, in every process, and after any interruption.
Axes: B examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate

from scaling.draws import READING, drawing
from scaling.limits import ConfigError
from scaling.tasks.nests import Nest, as_dtype, filled, mapped, parts_of, tensors_of, widened

KEPT_BYTES = 2**28  # of held-out examples that are read, and of those for batch-norm statistics
Take = Callable[[Tensor, int], Any]  # rows [B], key -> (inputs, *targets)
COUNTS = {"train": "n_train", "held_out": "n_held_out"}
BATCHES = {"train": "batch", "held_out": "held_out_batch"}


class Examples:
    """n examples, `take`n where they lie; `take` is None of those that lie on the device."""

    def __init__(self, key: str, n: int, take: Take | None, leaves: Nest = ()) -> None:
        self.key, self.take, self._n, self._leaves = key, take, n, leaves
        self._template: Nest = None
        self._kept: dict[tuple[int, int], Nest] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return self._n

    def to(self, device: torch.device, dtype: torch.dtype) -> Examples:
        """Inputs in this dtype, and all on the device: now, or whenever they are read."""
        self._device, self._dtype = device, dtype
        if self.take is None:
            self._leaves = self.placed(mapped(lambda leaf: leaf, self._leaves))
        return self

    def placed(self, examples: Nest) -> Nest:
        """Inputs in the trial's precision, and all on its device."""
        inputs, *targets = examples
        placed = [as_dtype(inputs, self._dtype), *targets]
        return mapped(lambda leaf: leaf.to(self._device), placed)

    def read(self, rows: Tensor, key: int = 0) -> Nest:
        """[inputs, *targets] of these rows: [B], or of any shape where they lie on the device."""
        if self.take is None:
            at = rows.to(self._device)
            return mapped(lambda leaf: widened(leaf[at]), self._leaves)
        return self.placed(self.checked(self.take(rows, key), len(rows)))

    def between(self, begin: int, end: int) -> Nest:
        """Those from begin to end; what they draw is the same each time.

        They serve evaluations, which come back to them: what was read is kept, as far as it fits.
        """
        if self.take is None:
            return mapped(lambda leaf: widened(leaf[begin:end]), self._leaves)
        if (begin, end) in self._kept:
            return self._kept[begin, end]
        examples = self.read(torch.arange(begin, min(end, len(self))), key=begin)
        n_bytes = sum(leaf.nbytes for leaf in tensors_of(examples))
        if self._kept_bytes + n_bytes <= KEPT_BYTES:
            self._kept[begin, end] = examples
            self._kept_bytes += n_bytes
        return examples

    def checked(self, taken: Any, n_rows: int) -> Nest:
        """What was read of n_rows rows, as [inputs, *targets]; ConfigError where it is not that."""
        parts = list(taken) if isinstance(taken, tuple | list) else [taken]
        parts = mapped(widened, parts)
        for place, part in parts_of(parts):
            if isinstance(part, Tensor) and part.shape[:1] == (n_rows,):
                continue
            shown = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
            allowed = f"every part must be a tensor of the {n_rows} examples that were asked for"
            raise ConfigError(f"the problem's {self.key}, part {place}", shown, allowed)
        self._template = parts
        return parts

    def flat(self, examples: Nest) -> list[Tensor]:
        return tensors_of(examples)

    def nested(self, tensors: Sequence[Tensor]) -> Nest:
        """The reverse of `flat`."""
        return filled(self._template, tensors)


def examples_of(problem: Any, key: str) -> Examples:
    """The examples `train` or `held_out` of a problem; ConfigError where these are none."""
    given = getattr(problem, key, None)
    if given is None:
        return _batches(problem, key)
    if is_dataset(given):
        collate = getattr(problem, "collate", default_collate)
        return Examples(key, _length(key, given), Keyed(_Items(given, collate)))
    leaves = [arrays_of(part) for part in given]
    parts = [part for _, part in parts_of(leaves)]
    lengths = [len(part) for part in parts]
    if not lengths or not lengths[0] or len(set(lengths)) > 1:
        allowed = "its parts must have one length, at least 1"
        raise ConfigError(
            f"the problem's {key}", f"lengths {', '.join(map(str, lengths))}", allowed
        )
    take = _FromFiles(leaves) if any(map(is_mapped, parts)) else None
    return Examples(key, lengths[0], take, leaves)


def arrays_of(part: Any) -> Nest:
    """Inputs or targets as tensors and arrays; a dict or tuple of them stays one."""
    if isinstance(part, dict):
        return {key: arrays_of(value) for key, value in part.items()}
    if isinstance(part, tuple) and any(isinstance(one, Tensor | np.ndarray) for one in part):
        return tuple(map(arrays_of, part))
    return part if isinstance(part, Tensor | np.ndarray) else torch.as_tensor(part)


def is_dataset(given: Any) -> bool:
    """A map-style Dataset, of torch or like it; a list of dicts is one, too."""
    if isinstance(given, IterableDataset):
        return True
    if isinstance(given, list):
        return bool(given) and all(isinstance(one, dict) for one in given)
    others = isinstance(given, tuple | dict | str | Tensor | np.ndarray | DataLoader)
    return not others and hasattr(given, "__getitem__") and hasattr(given, "__len__")


def is_mapped(leaf: Any) -> bool:
    """An array that lies in a file."""
    while isinstance(leaf, np.ndarray):
        if isinstance(leaf, np.memmap):
            return True
        leaf = leaf.base
    return False


@dataclass(frozen=True)
class Keyed:
    """What it draws, of the generator that it is given or of the global ones, follows from key."""

    take: Callable[[Tensor, torch.Generator], Any]

    def __call__(self, rows: Tensor, key: int) -> Any:
        with drawing(READING, key):
            return self.take(rows, torch.Generator().manual_seed(key))


@dataclass(frozen=True)
class _Items:
    """Of a Dataset's examples, by their numbers."""

    dataset: Any
    collate: Callable[[list[Any]], Any]

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Any:
        numbers = rows.tolist()
        if hasattr(self.dataset, "__getitems__"):
            return self.collate(self.dataset.__getitems__(numbers))
        return self.collate([self.dataset[number] for number in numbers])


@dataclass(frozen=True)
class _FromFiles:
    """Of arrays that lie in files only the rows that are asked for are read."""

    leaves: Nest

    def __call__(self, rows: Tensor, key: int) -> Any:
        return self._picked(self.leaves, rows)

    def _picked(self, leaf: Nest, rows: Tensor) -> Nest:
        if isinstance(leaf, dict):
            return {key: self._picked(value, rows) for key, value in leaf.items()}
        if isinstance(leaf, tuple | list):
            return [self._picked(value, rows) for value in leaf]
        return leaf[rows] if isinstance(leaf, Tensor) else np.asarray(leaf)[rows.numpy()]


def _length(key: str, dataset: Any) -> int:
    if isinstance(dataset, IterableDataset):
        allowed = (
            "has no examples by number, which a trial draws; give a Dataset with __getitem__ and "
            "__len__, or batch(indices, generator) and n_train"
        )
        raise ConfigError(f"the problem's {key}", type(dataset).__name__, allowed)
    if not len(dataset):
        raise ConfigError(f"the problem's {key}", "0 examples", "must have at least 1")
    return len(dataset)


def _batches(problem: Any, key: str) -> Examples:
    count, name = COUNTS[key], BATCHES[key]
    n, batch = getattr(problem, count, None), getattr(problem, name, None)
    if not callable(batch) or isinstance(n, bool) or not isinstance(n, int) or n < 1:
        allowed = f"without {key} the problem requires {name}(..) and {count}, a whole number >= 1"
        raise ConfigError(f"the problem's {count}", n, allowed)
    if key == "held_out":
        return Examples(name, n, Keyed(lambda rows, generator: batch(rows)))
    return Examples(name, n, Keyed(batch))
