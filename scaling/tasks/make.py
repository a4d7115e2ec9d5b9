"""The task that a configuration describes."""

from __future__ import annotations

import torch

from scaling.config import TrialConfig
from scaling.tasks.config import (
    ColourizationConfig,
    CustomTaskConfig,
    FiniteRegressionConfig,
    LanguageModelConfig,
    LinearRegressionConfig,
)
from scaling.tasks.custom import make_custom_task
from scaling.tasks.finite_regression import FiniteRegression
from scaling.tasks.linear_regression import LinearRegression
from scaling.tasks.task import Task


def make_task(config: TrialConfig) -> Task:
    """The task that `config` describes; ConfigError where its values do not fit together."""
    task = config.task
    if isinstance(task, LinearRegressionConfig):
        return LinearRegression(task, getattr(torch, config.precision))
    if isinstance(task, FiniteRegressionConfig):
        return FiniteRegression(task, getattr(torch, config.precision))
    if isinstance(task, CustomTaskConfig):
        return make_custom_task(task, config)
    if isinstance(task, ColourizationConfig):
        from scaling.tasks.colourization import Colourization
        from scaling.tasks.supervised import SupervisedTask

        return SupervisedTask(Colourization(config), config)
    if isinstance(task, LanguageModelConfig):
        from scaling.tasks.language_model import LanguageModel
        from scaling.tasks.supervised import SupervisedTask

        return SupervisedTask(LanguageModel(config), config)
    raise TypeError(f"no task for {type(task).__name__}")
