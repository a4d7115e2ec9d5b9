"""A network whose trained parameters are views of one vector, and all else views of others."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scaling.limits import ConfigError

WEIGHTS, BUFFERS = "weights", "buffers"


@dataclass(frozen=True)
class _Part:
    """Where a parameter or buffer stands in its vector; complex trained ones as pairs of reals."""

    name: str
    shape: torch.Size
    begin: int
    pairs: bool = False
    kernel: bool = False

    @property
    def end(self) -> int:
        return self.begin + math.prod(self.shape) * (2 if self.pairs else 1)

    def view(self, flat: Tensor) -> Tensor:
        """Convolution kernels [O, I, H, W] lie as [O, H, W, I]: channels last, as they are used."""
        values = flat[self.begin : self.end]
        if self.pairs:
            return torch.view_as_complex(values.view(*self.shape, 2))
        if self.kernel:
            out, into, height, width = self.shape
            return values.view(out, height, width, into).permute(0, 3, 1, 2)
        return values.view(self.shape)


@dataclass
class _Kept:
    """A buffer or frozen parameter, and its view of the vector that holds it."""

    owner: dict[str, Tensor | None]
    name: str
    view: Tensor
    tensor: Tensor

    def take_in(self) -> bool:
        """Where the network put another tensor in its place: its values; whether it was so."""
        now = self.owner[self.name]
        if now is self.tensor and self.tensor.data_ptr() == self.view.data_ptr():
            return False
        if now is not None:
            self.view.copy_(now.detach())
        self.put_back()
        return True

    def put_back(self) -> None:
        self.tensor.data = self.view
        self.owner[self.name] = self.tensor


class FlatModule:
    """Takes a module over. gradient [P] collects what backward finds for the weights [P].

    Parameters that require no gradient (frozen) stand with the buffers, which no optimizer sees:
    in the vector `buffers` where they have the weights' dtype, else in one of their own dtype,
    `buffers_int64`. n_parameters: of all, n_trained: of those that are not frozen, complex ones
    counted once. replaced: the network was seen to put new tensors in the place of buffers.
    ConfigError for a network without a parameter to train.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        named = dict(module.named_parameters())
        trained = {name: value for name, value in named.items() if value.requires_grad}
        if not trained:
            allowed = "has no parameter that requires a gradient: there is nothing to train"
            raise ConfigError("the problem's model", type(module).__name__, allowed)
        self.n_parameters = sum(value.numel() for value in named.values())
        self.n_trained = sum(value.numel() for value in trained.values())
        self.replaced = False
        self._trained = list(trained.values())
        self._parameters = _lay_out(trained, pairs=True)
        first = next(iter(trained.values()))
        kind = {"dtype": first.dtype.to_real(), "device": first.device}
        length = self._parameters[-1].end
        if any(part.pairs for part in self._parameters):
            length += length % 2  # in a stack a row's complex numbers begin at an even place too
        self._weights = torch.zeros(length, **kind)
        self.gradient = torch.zeros_like(self._weights)
        for part in self._parameters:
            view = part.view(self._weights)
            view.copy_(trained[part.name].data)
            trained[part.name].data = view
            trained[part.name].grad = part.view(self.gradient)
        frozen = {name: value for name, value in named.items() if not value.requires_grad}
        self._take_over(dict(module.named_buffers()) | frozen, set(frozen), self._weights)

    def _take_over(self, tensors: dict[str, Tensor], frozen: set[str], like: Tensor) -> None:
        """Make all that is not trained views of one vector a dtype."""
        groups: dict[str, dict[str, Tensor]] = defaultdict(dict, {BUFFERS: {}})
        for name, tensor in tensors.items():
            suffix = "" if tensor.dtype == like.dtype else f"_{tensor.dtype}".replace("torch.", "")
            groups[BUFFERS + suffix][name] = tensor
        self._kept_parts = {key: _lay_out(group, frozen) for key, group in groups.items()}
        self._vectors: dict[str, Tensor] = {}
        self._kept: list[_Kept] = []
        for key, parts in self._kept_parts.items():
            dtype = next(iter(groups[key].values())).dtype if parts else like.dtype
            length = parts[-1].end if parts else 0
            self._vectors[key] = torch.zeros(length, dtype=dtype, device=like.device)
            for part in parts:
                view = part.view(self._vectors[key])
                view.copy_(tensors[part.name].data)
                prefix, _, name = part.name.rpartition(".")
                module = self.module.get_submodule(prefix)
                owner = module._parameters if part.name in frozen else module._buffers
                self._kept.append(_Kept(owner, name, view, tensors[part.name]))  # pyright: ignore
                self._kept[-1].put_back()

    def values(self) -> dict[str, Tensor]:
        """Copies of the weights and of all that is kept beside them."""
        kept = {key: vector.clone() for key, vector in self.kept().items()}
        return {WEIGHTS: self._weights.clone(), **kept}

    def load(self, values: Mapping[str, Tensor]) -> None:
        self._weights.copy_(values[WEIGHTS])
        for kept in self._kept:
            self.replaced |= kept.take_in()
        for key, vector in self._vectors.items():
            vector.copy_(values[key])

    def kept(self) -> dict[str, Tensor]:
        """Buffers and frozen parameters as they are now [Q]; the same tensors each time."""
        for kept in self._kept:
            self.replaced |= kept.take_in()
        return self._vectors

    def unused(self, loss: Tensor) -> list[slice]:
        """Where the parameters stand that the loss does not depend on."""
        gradients = torch.autograd.grad(loss, self._trained, allow_unused=True)
        return [
            slice(part.begin, part.end)
            for part, gradient in zip(self._parameters, gradients, strict=True)
            if gradient is None
        ]

    def named(self, weights: Tensor, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters and buffers by name, as views of their vectors, for torch.func."""
        buffers = {
            p.name: p.view(kept[key]) for key, parts in self._kept_parts.items() for p in parts
        }
        return self.parameters(weights) | buffers

    def buffers(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Buffers alone by name, as views of their vectors."""
        frozen = {name for name, _ in self.module.named_parameters()}
        return {
            p.name: p.view(kept[key])
            for key, parts in self._kept_parts.items()
            for p in parts
            if p.name not in frozen
        }

    def parameters(self, weights: Tensor) -> dict[str, Tensor]:
        """Trained parameters by name, as views of their vector [P]."""
        return {part.name: part.view(weights) for part in self._parameters}


def _lay_out(
    named: Mapping[str, Tensor], kernels: set[str] | None = None, pairs: bool = False
) -> list[_Part]:
    """One after the other; kernels: names that may be those of convolutions, None for all."""
    parts, begin = [], 0
    for name, value in named.items():
        paired = pairs and value.is_complex()
        kernel = value.dim() == 4 and not paired and (kernels is None or name in kernels)
        begin += begin % 2 if paired else 0  # a complex number begins at an even place
        parts.append(_Part(name, value.shape, begin, paired, kernel))
        begin = parts[-1].end
    return parts
