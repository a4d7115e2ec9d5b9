"""A problem's network and data on the trial's device: how it is made, run and evaluated."""

from __future__ import annotations

import copy
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
from scaling.tasks.content import data_digest
from scaling.tasks.examples import examples_of
from scaling.tasks.flat import WEIGHTS, FlatModule
from scaling.tasks.nests import Nest, arguments, as_dtype, call, mapped
from scaling.tasks.problem import Problem
from scaling.tasks.task import Params
from scaling.tasks.units import units_of

HELD_OUT_CHUNK = 250  # examples evaluated at once
STATISTICS_CHUNK = 256
N_DRAWN = 8  # examples in a picture


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
        self._held_out_loss = getattr(problem, "eval_loss", problem.loss)
        self._train = examples_of(problem, "train").to(self.device, self._dtype)
        self._held_out = examples_of(problem, "held_out").to(self.device, self._dtype)
        self._copied = _share(self._made(0), self._made(0))
        self._flat = FlatModule(self.new_module(0))
        self.model_size = int(getattr(problem, "model_size", self._flat.n_trained))
        self.irreducible_loss = float(getattr(problem, "irreducible_loss", 0.0))
        self.facts = {"parameters": self._flat.n_parameters}
        if self.frozen:
            self.facts["trained_parameters"] = self._flat.n_trained
        self.facts |= units_of(problem) | getattr(problem, "facts", {})
        self.files = dict(getattr(problem, "files", {}))

    @property
    def data_hash(self) -> str:
        return data_digest(self.problem)

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
                inputs, *targets = self._held_out_part(0, N_DRAWN)
                if sample is None:
                    outputs = self.forward(module, inputs)
                else:
                    outputs = sample(partial(self.forward, module), inputs)
                made.append(draw(inputs, as_dtype(outputs, torch.float32), *targets))
        return made

    def exported(self, params: Params, row: int) -> dict[str, Tensor] | None:
        """As it is evaluated: with recomputed batch statistics where these are asked for."""
        with self.evaluating(params, row) as module:
            return {
                key: value.detach().cpu().contiguous().clone()
                for key, value in module.state_dict().items()
            }

    def held_out_inputs(self, n_examples: int) -> Nest:
        """The first held-out inputs, on the CPU."""
        inputs = self._held_out.between(0, n_examples)[0]
        return mapped(lambda leaf: leaf.cpu().contiguous(), inputs)

    def _held_out_row(self, params: Params, row: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        n_examples = len(self._held_out)
        with self.evaluating(params, row) as module:
            for begin in range(0, n_examples, HELD_OUT_CHUNK):
                end = min(begin + HELD_OUT_CHUNK, n_examples)
                inputs, *targets = self._held_out_part(begin, end)
                outputs = self.forward(module, inputs)
                values = {"loss": self._held_out_loss(outputs, *targets)}
                if hasattr(self.problem, "metrics"):
                    values |= self.problem.metrics(outputs, *targets)  # pyright: ignore
                for key, value in values.items():
                    share = (end - begin) / n_examples
                    sums[key] = sums.get(key, 0.0) + float(value) * share
        return sums

    @contextmanager
    def evaluating(self, params: Params, row: int) -> Iterator[nn.Module]:
        """The network of one row in eval mode; the row's own buffers stay as they are."""
        self._flat.load({key: leaf[row] for key, leaf in params.items()})
        module = self._flat.module
        with torch.no_grad(), drawing(EVALUATION):
            if self._recompute:
                recompute_statistics(module, self._statistics_inputs(), call)
            yield module.eval()
        module.train()

    def _statistics_inputs(self) -> Iterator[Nest]:
        n_examples = min(self._statistics_examples, len(self._train))
        for begin in range(0, n_examples, STATISTICS_CHUNK):
            end = min(begin + STATISTICS_CHUNK, n_examples)
            yield laid_out(self._train.between(begin, end)[0])

    def _loss_of(self) -> Callable[..., Tensor]:
        """The batch loss as a function of weights [P], what is kept [Q] and examples."""
        flat, module = self._flat, self._flat.module.train()

        def loss_of(weights: Tensor, kept: Params, inputs: Nest, *targets: Nest) -> Tensor:
            # torch.func's batch normalization writes statistics into whole tensors only, not into
            # rows of a stack's vectors: they are computed in copies
            views = flat.buffers(kept)
            copies = {name: view.clone() for name, view in views.items()}
            outputs = functional_call(
                module, flat.named(weights, kept) | copies, *arguments(inputs)
            )
            for name, view in views.items():
                view.copy_(copies[name].detach())
            return self.problem.loss(as_dtype(outputs, self._dtype), *targets)

        return loss_of

    def _loss(self, module: nn.Module, examples: Nest) -> Tensor:
        inputs, *targets = examples
        return self.problem.loss(self.forward(module, inputs), *targets)

    def forward(self, module: nn.Module, inputs: Nest) -> Any:
        """What a network says of inputs that are laid out for it, in the trial's precision."""
        with self._autocast():
            outputs = call(module, inputs)
        return as_dtype(outputs, self._dtype)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def examples(self, n_examples: int) -> Nest:
        """Inputs and targets of the first training examples."""
        return _inputs_laid_out(self._train.between(0, n_examples))

    def _held_out_part(self, begin: int, end: int) -> Nest:
        return _inputs_laid_out(self._held_out.between(begin, end))

    def new_module(self, seed: int) -> nn.Module:
        """The network as `seed` begins it, on the trial's device and in its precision."""
        module = self._made(seed)
        module = (copy.deepcopy(module) if self._copied else module).to(self.device)
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = as_dtype(tensor.data, self._dtype)
        return module

    def _made(self, seed: int) -> nn.Module:
        with drawing(CONSTRUCTION, seed):
            torch.default_generator.manual_seed(seed)
            module = self.problem.model()
        if not isinstance(module, nn.Module):
            allowed = "must make a torch.nn.Module"
            raise ConfigError("the problem's model()", f"a {type(module).__name__}", allowed)
        return module


def laid_out(inputs: Nest) -> Nest:
    """Images as convolutions like them: channels last."""

    def one(leaf: Tensor) -> Tensor:
        return leaf.contiguous(memory_format=torch.channels_last) if leaf.dim() == 4 else leaf

    return mapped(one, inputs)


def _inputs_laid_out(examples: Nest) -> Nest:
    inputs, *targets = examples
    return [laid_out(inputs), *targets]


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
