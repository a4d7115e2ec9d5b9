"""Problems whose data are no arrays in memory, or whose networks take several inputs.

As a user would write them: nothing of the project but the digest of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from scaling.data.file_digest import file_digest

N_TRAIN, N_HELD_OUT, LENGTH = 96, 32, 6


def classes() -> tuple[np.ndarray, np.ndarray]:
    """Numbers [N, 4] in three classes [N]."""
    drawn = np.random.default_rng(0)
    labels = drawn.integers(0, 3, N_TRAIN + N_HELD_OUT)
    return drawn.standard_normal((len(labels), 4)) + labels[:, None], labels


class Noisy(Dataset[Any]):
    """Examples with a random transform; `library` is whose global generator it draws from."""

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, library: str = "torch") -> None:
        self.inputs, self.labels, self.library = inputs, labels, library

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        example = torch.as_tensor(self.inputs[index])
        noise = torch.randn(4) if self.library == "torch" else torch.as_tensor(np.random.randn(4))  # noqa: NPY002
        return example + 0.1 * noise, int(self.labels[index])


class Classes:
    """The base of the others: three classes of four numbers, a network of two layers."""

    content_hash = "classes"

    def __init__(self) -> None:
        inputs, labels = classes()
        self.inputs, self.labels = inputs.astype(np.float32), labels
        self.held_out: Any = (self.inputs[N_TRAIN:], labels[N_TRAIN:])

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, labels)


class Arrays(Classes):
    """In memory: what the others must be equal to."""

    def __init__(self) -> None:
        super().__init__()
        self.train = (self.inputs[:N_TRAIN], self.labels[:N_TRAIN])


class Batches(Classes):
    """batch(), with noise from the generator that it is given, or none."""

    n_train = N_TRAIN

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        inputs = torch.as_tensor(self.inputs)[indices]
        if self.noise:
            inputs = inputs + self.noise * torch.randn(inputs.shape, generator=generator)
        return inputs, torch.as_tensor(self.labels)[indices]


class Broken(Batches):
    """One of its examples cannot be read."""

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if 77 in indices:
            raise ValueError("example 77 is damaged")
        return super().batch(indices, generator)


class HeldOutBatches(Batches):
    """All data by batches."""

    n_held_out = N_HELD_OUT

    def __init__(self) -> None:
        super().__init__()
        del self.held_out

    def held_out_batch(self, indices: Tensor) -> tuple[np.ndarray, np.ndarray]:
        rows = N_TRAIN + indices.numpy()
        return self.inputs[rows], self.labels[rows]


class Transformed(Classes):
    """A torch Dataset that draws in __getitem__."""

    def __init__(self, library: str = "torch") -> None:
        super().__init__()
        self.train = Noisy(self.inputs[:N_TRAIN], self.labels[:N_TRAIN], library)
        self.held_out = Noisy(self.inputs[N_TRAIN:], self.labels[N_TRAIN:], library)


class Normalized(Transformed):
    """Batch-norm statistics are recomputed on examples that are read."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Mapped(Classes):
    """Two memory maps: numbers and uint16 labels."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        inputs = np.load(Path(folder) / "inputs.npy", mmap_mode="r")
        labels = np.memmap(Path(folder) / "labels.bin", dtype=np.uint16, mode="r")
        self.train = (inputs[:N_TRAIN], labels[:N_TRAIN])

    @staticmethod
    def write(folder: Path) -> None:
        inputs, labels = classes()
        np.save(folder / "inputs.npy", inputs.astype(np.float32))
        labels.astype(np.uint16).tofile(folder / "labels.bin")


class TokenFile:
    """Windows of a file of tokens, as language models read them: inputs and the next tokens."""

    example, unit, units_per_example = "sequence", "tokens", LENGTH

    def __init__(self, path: str) -> None:
        self.tokens = np.memmap(path, dtype=np.uint16, mode="r")
        self.n_train = len(self.tokens) - LENGTH - 200
        self.content_hash = file_digest(path, cache_dir=Path(path).parent)
        held_out = np.arange(self.n_train + LENGTH, len(self.tokens) - LENGTH, LENGTH)
        self.held_out = self.windows(held_out)

    def windows(self, begins: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = self.tokens[begins[:, None] + np.arange(LENGTH + 1)].astype(np.int64)
        return torch.as_tensor(rows[:, :-1]), torch.as_tensor(rows[:, 1:])

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.windows(indices.numpy())

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


@dataclass
class Output:
    """As of Hugging Face's models."""

    loss: Tensor | None
    logits: Tensor
    hidden_states: tuple[Tensor, ...] = ()


class Language(nn.Module):
    """Takes input_ids, attention_mask and labels by keyword, and gives a dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(16, 8), nn.Linear(8, 3)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None
    ) -> Output:
        hidden = self.embedding(input_ids) * attention_mask[..., None]
        logits = self.head(hidden.sum(-2) / attention_mask.sum(-1, keepdim=True))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return Output(loss, logits, (hidden,))


def sentences(n: int = N_TRAIN + N_HELD_OUT) -> list[dict[str, Any]]:
    """Examples as Hugging Face's datasets have them: dicts of lists and numbers."""
    drawn = np.random.default_rng(0)
    examples = []
    for _ in range(n):
        label = int(drawn.integers(3))
        length = int(drawn.integers(2, LENGTH + 1))
        ids = torch.as_tensor(drawn.integers(5 * label, 5 * label + 6, LENGTH))
        mask = (torch.arange(LENGTH) < length).float()
        examples.append({"input_ids": ids, "attention_mask": mask, "labels": label})
    return examples


class Sentences:
    """A list of dicts as it is: the loss is the network's own."""

    content_hash = "sentences"

    def __init__(self) -> None:
        self.train, self.held_out = sentences()[:N_TRAIN], sentences()[N_TRAIN:]

    def model(self) -> nn.Module:
        return Language()

    def loss(self, outputs: Output) -> Tensor:
        assert outputs.loss is not None
        return outputs.loss


class Keyed:
    """The same in memory: a dict of inputs, and labels."""

    def __init__(self) -> None:
        self.train, self.held_out = (
            self.stacked(sentences()[:N_TRAIN]),
            self.stacked(sentences()[N_TRAIN:]),
        )

    @staticmethod
    def stacked(examples: list[dict[str, Any]]) -> tuple[dict[str, Tensor], Tensor]:
        names = ("input_ids", "attention_mask")
        inputs = {name: torch.stack([one[name] for one in examples]) for name in names}
        return inputs, torch.tensor([one["labels"] for one in examples])

    def model(self) -> nn.Module:
        return Language()

    def loss(self, outputs: Output, labels: Tensor) -> Tensor:
        assert outputs.loss is None
        return functional.cross_entropy(outputs.logits, labels)


class TwoTowers(nn.Module):
    """Takes two inputs by position, and gives a dict."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(2, 8), nn.Linear(2, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Any]:
        hidden = torch.tanh(self.norm(self.left(left) * self.right(right)))
        return {"logits": self.head(hidden), "aside": {"hidden": (hidden,), "kind": "two"}}


class Pairs(Classes):
    """A tuple of inputs."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.norm = norm
        left, right = self.inputs[:, :2], self.inputs[:, 2:]
        self.train = ((left[:N_TRAIN], right[:N_TRAIN]), self.labels[:N_TRAIN])
        self.held_out = ((left[N_TRAIN:], right[N_TRAIN:]), self.labels[N_TRAIN:])

    content_hash = None  # of arrays it is worked out

    def model(self) -> nn.Module:
        return TwoTowers(self.norm)

    def loss(self, outputs: dict[str, Any], labels: Tensor) -> Tensor:
        assert outputs["aside"]["kind"] == "two"
        return functional.cross_entropy(outputs["logits"], labels)
