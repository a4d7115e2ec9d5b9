"""What a stack hands over of each trial: the networks of its own evaluations, as if alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from scaling.config import BudgetConfig, TrialConfig
from scaling.schedules import next_evaluation
from scaling.tasks.config import CustomTaskConfig
from scaling.train import train
from scaling.trial import prepare
from tests.scaling.trials import Memory, optimizer_config

LAST = 60


class Line:
    """Noisy enough that losses go up and down from step to step."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(80, 3, generator=generator)
        targets = inputs.sum(1, keepdim=True) + torch.randn(80, 1, generator=generator)
        self.train = (inputs[:64], targets[:64])
        self.held_out = (inputs[64:], targets[64:])

    def model(self) -> nn.Module:
        return nn.Linear(3, 1)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(outputs, targets)


def test_the_best_network_is_of_an_evaluation_of_its_own() -> None:
    """A neighbour's end has the whole stack evaluated, between two evaluations of the others."""
    config = TrialConfig(
        task=CustomTaskConfig(path="tests.scaling.test_stack_best.Line"),
        optimizer=optimizer_config("sgd"),
        batch_size=1,
        lr=0.15,
        budget=BudgetConfig(LAST),
        save_models=True,
        stack_networks="true",
        picture_ratio=None,
        divergence_factor=1e6,
    )
    due = {0}
    while max(due) < LAST:
        due.add(next_evaluation(config.evaluation, max(due)))
    between = [step for step in range(LAST) if step not in due]
    ends = [replace(config, seed=9, budget=BudgetConfig(step)) for step in between]
    for seed in range(4):  # of some trials the lowest loss lies between their evaluations
        memory = Memory()
        train(prepare([replace(config, seed=seed), *ends]), memory)
        model = Line().model()
        model.load_state_dict(memory.models[0, "best"])
        inputs, targets = Line().held_out
        with torch.no_grad():
            best = Line().loss(model(inputs), targets).item()
        assert best == pytest.approx(min(row[1] for row in memory.curves[0]), rel=1e-4)
