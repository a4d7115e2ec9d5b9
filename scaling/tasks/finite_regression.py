"""Linear regression on a fixed data set, drawn once or given; also with fewer examples than D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaling.limits import ConfigError
from scaling.problem import drawn_examples
from scaling.schema import TRAIN_EXAMPLES
from scaling.tasks.config import FiniteRegressionConfig
from scaling.tasks.linear_regression import (
    TILE_WIDTH,
    squared_error_gradients,
    squared_error_part_gradients,
)
from scaling.tasks.streams import Batch, Streams
from scaling.tasks.task import Moments, Params, StackedTask

Array = NDArray[np.float64]


class FiniteRegression(StackedTask):
    """J(w) = loss_scale / n * |X w - t|^2 on X [n, D], t [n].

    The recorded loss is J over all n examples; the irreducible loss is its minimum, that of the
    least-squares solution. A batch is drawn with replacement, or without replacement within
    itself (each batch a fresh random subset; not epoch shuffling).
    """

    tile_width = TILE_WIDTH

    def __init__(self, config: FiniteRegressionConfig, dtype: torch.dtype) -> None:
        given = config.inputs is not None or config.labels is not None
        inputs, labels = given_data(config) if given else drawn_data(config)
        solution = np.linalg.lstsq(inputs, labels, rcond=None)[0]
        self.config = config
        self.dtype = dtype
        self.model_size = inputs.shape[1]
        self.irreducible_loss = float(
            config.loss_scale * np.mean((inputs @ solution - labels) ** 2)
        )
        self._exact_inputs, self._exact_labels = torch.from_numpy(inputs), torch.from_numpy(labels)
        self._inputs, self._labels = self._exact_inputs.to(dtype), self._exact_labels.to(dtype)
        self._solution = torch.from_numpy(solution)
        rank = int(np.linalg.matrix_rank(inputs))
        self._row_space = _row_space(inputs, rank) if rank < self.model_size else None
        self._initial = _initial_weights(config, self.model_size)
        replaced = config.sampling == "with_replacement"
        self.distinct_examples = None if replaced else len(inputs)

    @property
    def facts(self) -> dict[str, Any]:
        return {TRAIN_EXAMPLES: len(self._inputs)}

    def initial_params(self, seeds: Sequence[int]) -> Params:
        return {"weights": self._initial.to(self.dtype).repeat(len(seeds), 1)}

    def streams(self, seeds: Sequence[int], batch_size: int) -> Streams:
        n_examples, dimension = self._inputs.shape
        replace = self.config.sampling == "with_replacement"
        if not replace and batch_size > n_examples:
            allowed = f"at most the {n_examples} examples of the data without replacement"
            raise ConfigError("batch_size", batch_size, allowed)

        def draw(generator: torch.Generator, n_steps: int, first_step: int) -> Batch:
            if replace:
                rows = torch.randint(n_examples, (n_steps, batch_size), generator=generator)
            else:
                keys = torch.rand((n_steps, n_examples), generator=generator, dtype=torch.float64)
                rows = keys.argsort(-1)[:, :batch_size]
            return self._inputs[rows], self._labels[rows]

        elements = max(batch_size * dimension, 0 if replace else n_examples)
        return Streams(seeds, batch_size, elements, draw)

    def losses_and_gradients(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        scale = self.config.loss_scale
        losses, gradients = squared_error_gradients(params["weights"], *batch, loss_scale=scale)
        return losses, {"weights": gradients}

    def held_out_metrics(self, params: Params) -> dict[str, Tensor]:
        rows = params["weights"].double()
        tiles = rows.unflatten(0, (-1, TILE_WIDTH))
        inputs = self._exact_inputs.expand(tiles.shape[0], -1, -1)
        residuals = torch.bmm(inputs, tiles.mT) - self._exact_labels[:, None]
        losses = residuals.square().mean(1).flatten() * self.config.loss_scale
        return {"loss": losses} | self._beyond_loss(rows)

    def _beyond_loss(self, weights: Tensor) -> dict[str, Tensor]:
        """Where many weights fit: how far [R, D] are from those of least norm and the row space."""
        distances: dict[str, Tensor] = {}
        if self._row_space is not None:
            solution, basis = self._solution, self._row_space
            outside = weights - weights @ basis @ basis.mT
            length = weights.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
            distances["minimum_norm_distance"] = (weights - solution).norm(dim=1) / solution.norm()
            distances["row_space_residual"] = outside.norm(dim=1) / length
        if self.model_size == 2:
            distances |= {"weight_1": weights[:, 0], "weight_2": weights[:, 1]}
        return distances

    def fresh_examples(self, generator: torch.Generator, n_examples: int) -> Batch:
        rows = torch.randint(len(self._inputs), (n_examples,), generator=generator)
        return self._inputs[rows], self._labels[rows]

    def part_gradients(self, params: Params, batch: Batch, n_parts: int) -> Tensor:
        inputs, labels = batch
        scale = self.config.loss_scale
        return squared_error_part_gradients(params["weights"], inputs, labels, scale, n_parts)

    def curvature(self) -> Tensor:
        """H = 2 loss_scale X'X/n, [D, D]."""
        scale = 2 * self.config.loss_scale / len(self._exact_inputs)
        return scale * self._exact_inputs.mT @ self._exact_inputs

    def curvature_root(self, gradients: Tensor) -> Tensor:
        """H = 2 loss_scale X'X/n."""
        root = self._exact_inputs * (2 * self.config.loss_scale / len(self._inputs)) ** 0.5
        return gradients.double() @ root.mT

    def exact_moments(self, params: Params) -> dict[str, Moments]:
        """Mean and covariance of the n examples' own gradients 2 loss_scale (w.x - t) x."""
        inputs, labels, scale = self._exact_inputs, self._exact_labels, self.config.loss_scale
        residuals = params["weights"].double() @ inputs.mT - labels  # [R, n]
        mean = 2 * scale * residuals @ inputs / len(inputs)  # G, [R, D]
        exact: dict[str, Moments] = {}
        for kind, lengths, at_mean in (
            ("simple", inputs.square().sum(1), mean),
            ("noise", self.curvature_root(inputs).square().sum(1), self.curvature_root(mean)),
        ):
            norms = (2 * scale) ** 2 * (residuals.square() @ lengths) / len(inputs)
            square = at_mean.square().sum(-1)
            exact[kind] = {"trace": norms - square, "square": square}
        return exact


def _row_space(inputs: Array, rank: int) -> Tensor:
    """An orthonormal basis [D, rank] of the span of the rows."""
    return torch.from_numpy(np.linalg.svd(inputs, full_matrices=False)[2][:rank].T.copy())


def drawn_data(config: FiniteRegressionConfig) -> tuple[Array, Array]:
    """X [n, D] and t [n] as the configuration asks for them."""
    return drawn_examples(
        config.data_examples,
        config.dimension,
        config.spectrum_exponent,
        config.label_noise,
        config.true_weight,
        config.data_seed,
    )


def given_data(config: FiniteRegressionConfig) -> tuple[Array, Array]:
    """X and t as they stand in the configuration; they replace every key that draws data."""
    inputs, targets = _array(config.inputs), _array(config.labels)
    if inputs.ndim != 2 or not inputs.size:
        allowed = "must be n rows of D numbers each, n and D >= 1"
        raise ConfigError("task.inputs", config.inputs, allowed)
    if targets.shape != inputs.shape[:1]:
        allowed = f"must hold one number per row of task.inputs ({len(inputs)})"
        raise ConfigError("task.labels", config.labels, allowed)
    for key, values in (("task.inputs", inputs), ("task.labels", targets)):
        if not np.isfinite(values).all():
            raise ConfigError(key, "...", "every number must be finite")
    return inputs, targets


def _array(values: Any) -> Array:
    """The numbers given; empty where they are not numbers or do not form rows of one length."""
    try:
        return np.array([] if values is None else values, dtype=np.float64)
    except (ValueError, TypeError):
        return np.empty(0)


def _initial_weights(config: FiniteRegressionConfig, dimension: int) -> Tensor:
    given = config.initial_weights
    if len(given) not in (1, dimension) or not np.isfinite(given).all():
        allowed = f"must be one finite number for all weights, or {dimension} of them"
        raise ConfigError("task.initial_weights", given, allowed)
    return torch.tensor(given, dtype=torch.float64).expand(dimension).clone()
