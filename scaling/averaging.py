"""Exponential averages of weights, evaluated in place of the weights that train."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scaling.config import TrialConfig
from scaling.tasks.task import Params, optimized

RAW = "raw_"  # of the metrics of the weights themselves, beside those of their average


class WeightAverage:
    """avg <- d avg + (1 - d) w after each update, with d = 2^(-B / half_life_examples).

    Leaves [R, ...]. The first update's weights are copied: torch.optim.swa_utils.AveragedModel with
    get_ema_multi_avg_fn(d), which starts alike (half-life in examples: Zhang et al. 2024,
    arXiv:2410.21676). Kept in float64 whatever the weights are: in float32, increments of
    (1 - d)(w - avg) that are below half a unit in the last place are lost, and averages of 1e5
    steps and more stand still. Each number is rounded alike wherever it stands in a stack.
    """

    def __init__(self, batch_size: int, half_life_examples: int) -> None:
        self._share = -math.expm1(-math.log(2) * batch_size / half_life_examples)  # 1 - d
        self._leaves: Params = {}  # none before the first update

    def take(self, params: Params) -> None:
        """Take in the weights after an update."""
        for key in optimized(params):
            weights = params[key]
            kind = torch.promote_types(weights.dtype, torch.float64)
            if key in self._leaves:
                change = weights.to(kind, copy=True)
                change -= self._leaves[key]
                change *= self._share
                self._leaves[key] += change
            else:
                self._leaves[key] = weights.to(kind, copy=True)

    def of(self, params: Params) -> Params:
        """The same parameters with their averages, in their own precision, in the weights' place;
        before the first update the weights themselves."""
        averages = {key: leaf.to(params[key].dtype) for key, leaf in self._leaves.items()}
        return {**params, **averages}

    def keep(self, index: Tensor) -> None:
        """Go on with the rows `index` alone, in that order."""
        self._leaves = {key: leaf[index] for key, leaf in self._leaves.items()}

    def saved(self, index: Tensor) -> Params:
        return {key: leaf[index].cpu() for key, leaf in self._leaves.items()}

    def restore(self, saved: Params, index: Tensor, device: torch.device) -> None:
        """Go on from `saved`; index [R]: where each row stands in it."""
        self._leaves = {key: leaf[index].to(device) for key, leaf in saved.items()}


def start_average(config: TrialConfig) -> WeightAverage | None:
    """None where the weights themselves are evaluated."""
    half_life = config.evaluation.average_half_life_examples
    if config.evaluation.average == "none" or half_life is None:
        return None
    return WeightAverage(config.batch_size, half_life)
