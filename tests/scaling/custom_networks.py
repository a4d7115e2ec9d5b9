"""Networks that users bring: they draw, freeze, tie, count, mask; all on one small data set.

It imports nothing of the project, as a user's file does.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Net(nn.Module):
    """Two layers; `kind` is what is special about them."""

    mask: Tensor
    order: Tensor
    used: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8, momentum=None) if "norm" in kind else nn.Identity()
        if kind == "dropout_norm":
            self.norm = nn.BatchNorm1d(8)
        if kind == "frozen":
            self.first.weight.requires_grad_(False)
        if kind == "tied":
            self.first, self.middle = nn.Linear(4, 8), nn.Linear(8, 8)
            self.again = nn.Linear(8, 8)
            self.again.weight = self.middle.weight
        if kind == "idle":
            self.idle = nn.Linear(2, 2)
        if kind == "complex":
            self.wave = nn.Parameter(torch.randn(8, dtype=torch.complex64))
            self.register_buffer("phase", torch.full((8,), 0.6 + 0.8j))
        if kind == "mask":
            self.register_buffer("mask", torch.tensor([0.0] * 7 + [-torch.inf]))
        if kind == "integers":
            self.register_buffer("order", torch.randperm(8))
            self.register_buffer("large", torch.tensor(2**24 + 1))
            self.register_buffer("used", torch.tensor([True] * 6 + [False] * 2))
        if kind == "replaced":
            self.register_buffer("mean", torch.zeros(8))
        if kind == "unlucky" and float(torch.rand(())) < 0.5:
            nn.init.constant_(self.last.bias, torch.inf)
        if kind == "generator":
            self.generator = np.random.default_rng(0)
        if kind == "counter":
            self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = functional.relu(self.norm(self.first(self._augmented(inputs))))
        return self.last(self._changed(hidden))

    def _augmented(self, inputs: Tensor) -> Tensor:
        match self.kind:
            case "augmented" if self.training:
                return inputs + 0.3 * torch.randn_like(inputs)
            case "always":
                return inputs * torch.rand(len(inputs), 1)
            case "numpy":
                return inputs + 0.3 * float(np.random.normal())  # noqa: NPY002
            case "python":
                return inputs if random.random() < 0.5 else -inputs
            case "generator":
                return inputs * float(self.generator.random())
            case "counter":
                self.calls += 1
                return inputs * self.calls
        return inputs

    def _changed(self, hidden: Tensor) -> Tensor:
        match self.kind:
            case "dropout" | "dropout_norm":
                return functional.dropout(hidden, 0.4, self.training)
            case "tied":
                return self.again(functional.relu(self.middle(hidden)))
            case "complex":
                return (torch.fft.fft(hidden) * self.wave * self.phase).real
            case "mask":
                return hidden * torch.softmax(hidden + self.mask, 1)
            case "integers":
                self.large += 1
                return hidden[:, self.order].masked_fill(~self.used, 0.0)
            case "bad_loss":
                return hidden / (0.0 if self.training else 1.0)
            case "bad_gradient":
                return hidden + (hidden * 0).sqrt()
            case "replaced":
                if self.training:
                    self.mean = 0.9 * self.mean + 0.1 * hidden.mean(0).detach()
                return hidden - self.mean
        return hidden


class Custom:
    """Three classes of four numbers."""

    def __init__(self, kind: str, noisy_loss: bool = False) -> None:
        drawn = np.random.default_rng(0)
        labels = drawn.integers(0, 3, 96)
        inputs = drawn.standard_normal((96, 4)) + labels[:, None]
        self.train = (inputs[:64].astype(np.float32), labels[:64])
        self.held_out = (inputs[64:].astype(np.float32), labels[64:])
        self.kind, self.noisy_loss = kind, noisy_loss

    def model(self) -> nn.Module:
        return Net(self.kind)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        noise = torch.rand(()) if self.noisy_loss else 0.0
        return functional.cross_entropy(outputs, labels) * (1 + noise)


class BadBiasNet(Net):
    """Of its gradients only that of the last bias, behind the others, is not finite."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + (self.last.bias * 0).sqrt()


class BadBias(Custom):
    def __init__(self) -> None:
        super().__init__("plain")

    def model(self) -> nn.Module:
        return BadBiasNet("plain")


class Shared(Custom):
    """Every network has the one backbone that was loaded at the start."""

    def __init__(self) -> None:
        super().__init__("plain")
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Linear(8, 3)

    def model(self) -> nn.Module:
        return nn.Sequential(self.backbone, nn.ReLU(), self.head)


class Drawn(Custom):
    """Its data are drawn when it is made."""

    def __init__(self) -> None:
        super().__init__("plain")
        labels = torch.randint(0, 3, (64,))
        inputs = torch.as_tensor(np.random.normal(size=(64, 4)), dtype=torch.float32)  # noqa: NPY002
        self.train = self.held_out = (inputs + labels[:, None], labels)
