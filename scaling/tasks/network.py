"""A problem's network and data on the trial's device: how it is made, run and evaluated."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from scaling.config import TrialConfig
from scaling.draws import CONSTRUCTION, EVALUATION, drawing
from scaling.limits import ConfigError
from scaling.models.norms import recompute_statistics
from scaling.tasks.flat import WEIGHTS, FlatModule
from scaling.tasks.problem import Problem
from scaling.tasks.task import Params

HELD_OUT_CHUNK = 250  # examples evaluated at once
STATISTICS_CHUNK = 256


class ProblemNetwork:
    """One network object, into which the parameters of the row at hand are loaded.

    Parameters are one vector a trial, [R, P], and buffers another, [R, Q] (of each dtype), so that
    optimizers make one pass whatever the number of layers.
    """

    def __init__(self, problem: Problem, config: TrialConfig) -> None:
        self.problem = problem
        self.device = torch.device(device_of(config.device))
        self._bf16 = config.precision == "bf16"
        self._dtype = torch.float64 if config.precision == "float64" else torch.float32
        self._recompute = config.evaluation.recompute_statistics
        self._statistics_examples = config.evaluation.statistics_examples
        self._train = self._tensors("train", problem.train)
        self._held_out = self._tensors("held_out", problem.held_out)
        self._copied = _share(self._made(0), self._made(0))
        self._flat = FlatModule(self.new_module(0))
        self.model_size = int(getattr(problem, "model_size", self._flat.n_trained))
        self.irreducible_loss = float(getattr(problem, "irreducible_loss", 0.0))
        self.facts = {"parameters": self._flat.n_parameters}
        if self.frozen:
            self.facts["trained_parameters"] = self._flat.n_trained
        self.facts |= getattr(problem, "facts", {})
        self.files = dict(getattr(problem, "files", {}))

    @property
    def data_hash(self) -> str:
        """Digest of all examples."""
        known = getattr(self.problem, "content_hash", None)
        if known is not None:
            return str(known)
        digest = hashlib.sha256()
        for leaf in (*self.problem.train, *self.problem.held_out):
            array = np.ascontiguousarray(np.asarray(leaf))
            digest.update(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())
        return digest.hexdigest()[:16]

    def initial_params(self, seeds: Sequence[int]) -> Params:
        rows = [FlatModule(self.new_module(seed)).values() for seed in seeds]
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    @property
    def frozen(self) -> bool:
        """Whether some parameters are not trained."""
        return self._flat.n_trained < self._flat.n_parameters

    @property
    def replaces_buffers(self) -> bool:
        """It was seen to put new tensors in the place of buffers."""
        return self._flat.replaced

    @property
    def network_name(self) -> str:
        return type(self._flat.module).__name__

    def shaped(self, leaves: Params) -> Params:
        """Views of one trial's weights [P], each parameter by its name and in its shape."""
        return self._flat.parameters(leaves[WEIGHTS])

    def held_out_metrics(self, params: Params) -> dict[str, Tensor]:
        """Mean loss and metrics over all held-out examples, [R] float64, in eval mode."""
        rows = [self._held_out_row(params, row) for row in range(len(params[WEIGHTS]))]
        return {key: torch.tensor([row[key] for row in rows]).double() for key in rows[0]}

    def pictures(self, params: Params) -> list[np.ndarray] | None:
        draw = getattr(self.problem, "picture", None)
        sample = getattr(self.problem, "sample", None)
        if draw is None:
            return None
        made = []
        for row in range(len(params[WEIGHTS])):
            with self.evaluating(params, row) as module:
                inputs, *targets = self._examples(self._held_out, slice(0, 8))
                if sample is None:
                    outputs = self.forward(module, inputs)
                else:
                    outputs = sample(partial(self.forward, module), inputs)
                made.append(draw(inputs, _to(outputs, torch.float32), *targets))
        return made

    def exported(self, params: Params, row: int) -> dict[str, Tensor] | None:
        """As it is evaluated: with recomputed batch statistics where these are asked for."""
        with self.evaluating(params, row) as module:
            return {
                key: value.detach().cpu().contiguous().clone()
                for key, value in module.state_dict().items()
            }

    def held_out_inputs(self, n_examples: int) -> np.ndarray:
        """The first held-out inputs, as the network takes them."""
        return self._held_out[0][:n_examples].cpu().contiguous().numpy()

    def _held_out_row(self, params: Params, row: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        n_examples = len(self._held_out[0])
        with self.evaluating(params, row) as module:
            for begin in range(0, n_examples, HELD_OUT_CHUNK):
                part = slice(begin, min(begin + HELD_OUT_CHUNK, n_examples))
                inputs, *targets = self._examples(self._held_out, part)
                outputs = self.forward(module, inputs)
                values = {"loss": self.problem.loss(outputs, *targets)}
                if hasattr(self.problem, "metrics"):
                    values |= self.problem.metrics(outputs, *targets)  # pyright: ignore
                for key, value in values.items():
                    share = (part.stop - part.start) / n_examples
                    sums[key] = sums.get(key, 0.0) + float(value) * share
        return sums

    @contextmanager
    def evaluating(self, params: Params, row: int) -> Iterator[nn.Module]:
        """The network of one row in eval mode; the row's own buffers stay as they are."""
        self._flat.load({key: leaf[row] for key, leaf in params.items()})
        module = self._flat.module
        with torch.no_grad(), drawing(EVALUATION):
            if self._recompute:
                examples = self._train[0][: self._statistics_examples]
                chunks = [self._laid_out(c) for c in examples.split(STATISTICS_CHUNK)]
                recompute_statistics(module, chunks)
            yield module.eval()
        module.train()

    def _loss_of(self) -> Callable[..., Tensor]:
        """The batch loss as a function of weights [P], what is kept [Q] and examples."""
        flat, module = self._flat, self._flat.module.train()

        def loss_of(weights: Tensor, kept: Params, inputs: Tensor, *targets: Tensor) -> Tensor:
            outputs = functional_call(module, flat.named(weights, kept), (inputs,))
            return self.problem.loss(_to(outputs, self._dtype), *targets)

        return loss_of

    def _loss(self, module: nn.Module, examples: Sequence[Tensor]) -> Tensor:
        inputs, *targets = examples
        return self.problem.loss(self.forward(module, inputs), *targets)

    def outputs(self, module: nn.Module, rows: Tensor) -> Any:
        """What the network says of these training examples."""
        return self.forward(module, self._examples(self._train, rows.to(self.device))[0])

    def forward(self, module: nn.Module, inputs: Tensor) -> Any:
        """What a network says of inputs that are laid out for it, in the trial's precision."""
        with self._autocast():
            outputs = module(inputs)
        return _to(outputs, self._dtype)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def examples(self, rows: slice) -> list[Tensor]:
        """Inputs and targets of these training examples."""
        return self._examples(self._train, rows)

    def _examples(self, leaves: Sequence[Tensor], rows: Tensor | slice) -> list[Tensor]:
        inputs, *targets = (leaf[rows] for leaf in leaves)
        return [self._laid_out(inputs), *targets]

    def _laid_out(self, inputs: Tensor) -> Tensor:
        """Images as convolutions like them: channels last."""
        if inputs.dim() == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def new_module(self, seed: int) -> nn.Module:
        """The network as `seed` begins it, on the trial's device and in its precision."""
        module = self._made(seed)
        module = (copy.deepcopy(module) if self._copied else module).to(self.device)
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = _to(tensor.data, self._dtype)
        return module

    def _made(self, seed: int) -> nn.Module:
        with drawing(CONSTRUCTION, seed):
            torch.default_generator.manual_seed(seed)
            module = self.problem.model()
        if not isinstance(module, nn.Module):
            allowed = "must make a torch.nn.Module"
            raise ConfigError("the problem's model()", f"a {type(module).__name__}", allowed)
        return module

    def _tensors(self, key: str, leaves: Sequence[Any]) -> list[Tensor]:
        tensors = [torch.as_tensor(leaf) for leaf in leaves]
        if not tensors or not len(tensors[0]) or len({len(leaf) for leaf in tensors}) > 1:
            lengths = ", ".join(str(len(leaf)) for leaf in tensors)
            allowed = "its parts must have one length, at least 1"
            raise ConfigError(f"the problem's {key}", f"lengths {lengths}", allowed)
        tensors[0] = _to(tensors[0], self._dtype)
        return [leaf.to(self.device) for leaf in tensors]


def _to(values: Any, dtype: torch.dtype) -> Any:
    """Real numbers as `dtype`, complex ones as its complex counterpart, all else as it is."""
    if not isinstance(values, Tensor) or not (values.is_floating_point() or values.is_complex()):
        return values
    return values.to(dtype.to_complex() if values.is_complex() else dtype)


def _share(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have a part in common, such as a backbone that was loaded once."""
    tensors = {id(tensor) for tensor in (*one.parameters(), *one.buffers())}
    return any(id(tensor) in tensors for tensor in (*other.parameters(), *other.buffers()))


def device_of(wanted: str) -> str:
    """ConfigError where the device is not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", wanted, "torch sees no CUDA device here; use auto or cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
