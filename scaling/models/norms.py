"""Normalisation layers: batch, ghost batch, group, none; batch statistics on given data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scaling.limits import ConfigError
from scaling.models.config import ColourizationModelConfig


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of every ghost_batch_size consecutive examples by themselves.

    In training [B, C, H, W] is cut along B, and each part meets batch normalisation (Ioffe &
    Szegedy 2015, arXiv:1502.03167) with its own statistics. The parts update the running mean and
    variance one after the other, running <- (1 - momentum) running + momentum part (Hoffer et al.
    2017, arXiv:1705.08741, algorithm 1): exactly what micro-batches of that size would do.
    In eval mode it is nn.BatchNorm2d. ConfigError if ghost_batch_size does not divide B.
    """

    def __init__(self, num_features: int, ghost_batch_size: int) -> None:
        super().__init__(num_features)
        self.ghost_batch_size = ghost_batch_size

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) == self.ghost_batch_size:
            return super().forward(input)
        if len(input) % self.ghost_batch_size:
            allowed = f"must divide the number of examples normalised together, {len(input)}"
            raise ConfigError("model.ghost_batch_size", self.ghost_batch_size, allowed)
        normalise = super().forward
        return torch.cat([normalise(part) for part in input.split(self.ghost_batch_size)])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ghost_batch_size={self.ghost_batch_size}"


def make_norm(config: ColourizationModelConfig, channels: int) -> nn.Module | None:
    """The layer that normalises `channels` channels; None for norm=none.

    Each has a scale and an offset per channel. Group normalisation is by example (Wu & He 2018,
    arXiv:1803.08494), in group_count(channels, norm_groups) groups of channels.
    """
    if config.norm == "none":
        return None
    if config.norm == "group":
        return nn.GroupNorm(group_count(channels, config.norm_groups), channels)
    if config.ghost_batch_size is None:
        return nn.BatchNorm2d(channels)
    return GhostBatchNorm2d(channels, config.ghost_batch_size)


def group_count(channels: int, most: int) -> int:
    """The largest divisor of `channels` that is at most `most`.

    A prime number of channels above `most` is thereby one group, as in layer normalisation.
    """
    return max(count for count in range(1, min(channels, most) + 1) if channels % count == 0)


def batch_norm_refusal(model: nn.Module) -> str | None:
    """Why single examples have no gradient in this network, where batch normalisation is so."""
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        return None
    return (
        "with batch normalisation the loss of an example depends on its batch, so that a single "
        "example has no gradient (model.norm=group or none has one)"
    )


def recompute_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    run: Callable[[nn.Module, Any], object] = lambda module, batch: module(batch),
) -> None:
    """Set the running mean and variance of batch-norm layers to those over training batches.

    All examples of all batches count alike: with n_b values per channel in batch b, their mean
    mu_b and variance v_b (PreciseBN of Wu & Johnson 2021, arXiv:2105.07576, for equal n_b),

        mean = sum n_b mu_b / n;   variance = [sum n_b (v_b + mu_b^2) / n - mean^2] n / (n - 1)

    with n = sum n_b; the last factor is torch's for running_var. A layer sees what the layers
    before it make in training mode, normalised batch by batch. Nothing else of the model changes,
    and nothing at all where this raises. Models without running statistics take no batch.

    batches: inputs [B, ...] of the model, as `run` gives them to it. ValueError if there are none.
    """
    if not _tracked(model):
        return
    # A copy is run: forward passes in training mode move the running statistics themselves.
    copied = copy.deepcopy(model).train()
    moments = {name: _Moments() for name in _tracked(copied)}
    for name, layer in _tracked(copied).items():
        layer.register_forward_pre_hook(moments[name].observe)
    with torch.no_grad():
        for batch in batches:
            run(copied, batch)
    results = {name: moments[name].mean_and_variance() for name in moments}
    for name, layer in _tracked(model).items():
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, variance = results[name]
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)


def _tracked(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
    }


@dataclass
class _Moments:
    """Sums over the batches that a layer has seen, [C] in float64."""

    count: int = 0
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0

    def observe(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].to(torch.promote_types(inputs[0].dtype, torch.float32))
        dims = [0, *range(2, values.dim())]
        variance, mean = (part.double() for part in torch.var_mean(values, dims, correction=0))
        count = values.numel() // values.shape[1]
        self.count += count
        self.first = self.first + count * mean
        self.second = self.second + count * (variance + mean.square())

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        if not isinstance(self.first, Tensor) or not isinstance(self.second, Tensor):
            raise ValueError("batch statistics require at least one batch")
        mean = self.first / self.count
        variance = self.second / self.count - mean.square()
        return mean, variance * self.count / (self.count - 1)
