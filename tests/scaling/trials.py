"""Trials for tests: small, real, prepared as a sweep prepares them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from scaling.config import BudgetConfig, TrialConfig
from scaling.optimizers.config import OPTIMIZERS, OptimizerConfig
from scaling.recorder import Evaluation, TrainState
from scaling.result import TrialResult
from scaling.tasks.config import CustomTaskConfig, FiniteRegressionConfig, LinearRegressionConfig
from scaling.train import train
from scaling.trial import Trial, prepare


def regression_trial(optimizer: str = "sgd", max_steps: int = 60, **fields: Any) -> TrialConfig:
    """A streaming regression trial with 16 inputs; fields of the optimizer stay at defaults."""
    fields.setdefault("task", LinearRegressionConfig(dimension=16))
    fields.setdefault("budget", BudgetConfig(max_steps=max_steps))
    return TrialConfig(optimizer=OPTIMIZERS[optimizer](), **fields)


def custom(
    kind: str = "", optimizer: str = "sgd", problem: str = "Custom", **fields: Any
) -> TrialConfig:
    """A trial of a network in custom_networks.py; options: further ones of its problem."""
    options = ({"kind": kind} if kind else {}) | fields.pop("options", {})
    task = CustomTaskConfig(path=f"tests.scaling.custom_networks.{problem}", options=options)
    fields = {"budget": BudgetConfig(max_steps=30), "lr": 0.05, "batch_size": 8} | fields
    return TrialConfig(task=task, optimizer=optimizer_config(optimizer), **fields)


def finite_task(**fields: Any) -> FiniteRegressionConfig:
    return replace(FiniteRegressionConfig(data_examples=24, dimension=8), **fields)


def optimizer_config(name: str, **fields: float) -> OptimizerConfig:
    return OPTIMIZERS[name](**fields)  # pyright: ignore[reportArgumentType]


class Memory:
    """Keeps what the loop records: {trial number: [(step, loss, train_loss, lr)]}."""

    def __init__(self) -> None:
        self.curves: dict[int, list[tuple[int, float, float | None, float | None]]] = {}
        self.outcomes: dict[int, TrialResult] = {}
        self.models: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
        self.pictures: dict[int, dict[int, np.ndarray]] = {}
        self.states: list[TrainState] = []
        self.metrics: dict[int, dict[int, dict[str, float]]] = {}  # by number and step

    def evaluation(self, evaluation: Evaluation) -> None:
        for position, number in enumerate(evaluation.numbers.tolist()):
            train_loss, lr = (
                None if column is None else float(column[position])
                for column in (evaluation.train_loss, evaluation.lr)
            )
            row = (evaluation.step, float(evaluation.loss[position]), train_loss, lr)
            self.curves.setdefault(number, []).append(row)
            measured = {key: float(v[position]) for key, v in evaluation.metrics.items()}
            if measured:
                self.metrics.setdefault(number, {})[evaluation.step] = measured

    def outcome(self, number: int, result: TrialResult) -> None:
        self.outcomes[int(number)] = result

    def picture(self, step: int, number: int, picture: np.ndarray) -> None:
        self.pictures.setdefault(number, {})[step] = picture

    def model(self, number: int, kind: str, state: dict[str, torch.Tensor]) -> None:
        self.models[number, kind] = state

    def wants_state(self) -> bool:
        return False

    def state(self, state: TrainState) -> None:
        raise NotImplementedError

    def capped(self, state: TrainState) -> None:
        self.states.append(state)


def trained(*configs: TrialConfig) -> tuple[Memory, list[TrialResult]]:
    """Train these configurations as one stack."""
    memory = Memory()
    trials: list[Trial] = prepare(configs)
    return memory, train(trials, memory)
