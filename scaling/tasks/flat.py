"""A network whose parameters are views of one vector, and its buffers of another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class _Part:
    """Where a parameter or buffer stands in its vector."""

    name: str
    shape: torch.Size
    begin: int

    @property
    def end(self) -> int:
        return self.begin + math.prod(self.shape)

    def view(self, flat: Tensor) -> Tensor:
        """Convolution kernels [O, I, H, W] lie as [O, H, W, I]: channels last, as they are used."""
        values = flat[self.begin : self.end]
        if len(self.shape) == 4:
            out, into, height, width = self.shape
            return values.view(out, height, width, into).permute(0, 3, 1, 2)
        return values.view(self.shape)


class FlatModule:
    """Takes a module over. gradient [P] collects what backward finds for the weights [P].

    Buffers that are no floating-point numbers (counts) stand in their vector as such.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._parameters = _lay_out(dict(module.named_parameters()))
        self._buffer_parts = _lay_out(dict(module.named_buffers()))
        self.n_parameters = self._parameters[-1].end if self._parameters else 0
        first = next(module.parameters())
        kind = {"dtype": first.dtype, "device": first.device}
        self._weights = torch.zeros(self.n_parameters, **kind)
        self.gradient = torch.zeros(self.n_parameters, **kind)
        n_buffers = self._buffer_parts[-1].end if self._buffer_parts else 0
        self._buffers = torch.zeros(n_buffers, **kind)
        self._take_over()

    def _take_over(self) -> None:
        named = dict(self.module.named_parameters())
        for part in self._parameters:
            view = part.view(self._weights)
            view.copy_(named[part.name].data)
            named[part.name].data = view
            named[part.name].grad = part.view(self.gradient)
        self._named_buffers = dict(self.module.named_buffers())

    def values(self) -> dict[str, Tensor]:
        """Copies of the weights and the buffers."""
        return {"weights": self._weights.clone(), "buffers": self.buffers().clone()}

    def load(self, values: dict[str, Tensor]) -> None:
        self._weights.copy_(values["weights"])
        for part in self._buffer_parts:
            self._named_buffers[part.name].copy_(part.view(values["buffers"]))

    def buffers(self) -> Tensor:
        """The buffers as they are now [Q]; the same tensor each time."""
        for part in self._buffer_parts:
            part.view(self._buffers).copy_(self._named_buffers[part.name])
        return self._buffers

    def named(self, weights: Tensor, buffers: Tensor) -> dict[str, Tensor]:
        """Parameters and buffers by name, as views of two vectors, for torch.func."""
        own = {part.name: part.view(buffers) for part in self._buffer_parts}
        return self.parameters(weights) | own

    def parameters(self, weights: Tensor) -> dict[str, Tensor]:
        """Parameters by name, as views of their vector [P]."""
        return {part.name: part.view(weights) for part in self._parameters}


def _lay_out(named: dict[str, Tensor]) -> list[_Part]:
    parts, begin = [], 0
    for name, value in named.items():
        parts.append(_Part(name, value.shape, begin))
        begin = parts[-1].end
    return parts
