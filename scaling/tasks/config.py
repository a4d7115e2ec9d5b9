"""Fields, defaults and limits of the group `task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaling.data.config import IMAGE_SETS, TextConfig
from scaling.limits import MISSING, limited
from scaling.models.config import LAYOUTS, ColourizationModelConfig, TransformerConfig

SAMPLINGS = ("with_replacement", "without_replacement")
NETWORK_SAMPLINGS = (*SAMPLINGS, "fixed_order")


@dataclass
class TaskConfig:
    name: str = MISSING


@dataclass
class LinearRegressionConfig(TaskConfig):
    """Streaming regression with a power-law spectrum, see scaling.tasks.linear_regression."""

    name: str = "linear_regression"
    dimension: int = limited(64, least=1)
    spectrum_exponent: float = limited(1.0, least=-20, most=20)
    label_noise: float = limited(1.0, least=0)
    true_weight: float = limited(1.0)
    initial_weight: float = limited(0.0)


@dataclass
class FiniteRegressionConfig(TaskConfig):
    """Regression on a fixed data set, drawn or given, see scaling.tasks.finite_regression."""

    name: str = "finite_regression"
    data_examples: int = limited(32, least=1)
    dimension: int = limited(64, least=1)
    spectrum_exponent: float = limited(1.0, least=-20, most=20)
    label_noise: float = limited(1.0, least=0)
    true_weight: float = limited(1.0)
    data_seed: int = limited(0, least=0)
    inputs: Any = None  # list[list[float]], whole numbers too; checked by the task
    labels: Any = None  # list[float]
    initial_weights: list[float] = field(default_factory=lambda: [0.0])
    loss_scale: float = limited(1.0, above=0)
    sampling: str = limited("with_replacement", among=SAMPLINGS)


@dataclass
class CustomTaskConfig(TaskConfig):
    """A custom task (scaling.tasks.custom). path: module.Class; options: its
    arguments."""

    name: str = "custom"
    path: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
    sampling: str = limited("with_replacement", among=NETWORK_SAMPLINGS)


@dataclass
class ColourizationConfig(TaskConfig):
    """Grey photographs to colours, with the groups `model` and `data`; see
    scaling.tasks.colourization."""

    name: str = "colourization"
    sampling: str = limited("with_replacement", among=NETWORK_SAMPLINGS)


@dataclass
class LanguageModelConfig(TaskConfig):
    """The next character of a text, with the groups `model` and `data`; see
    scaling.tasks.language_model."""

    name: str = "language_model"
    sampling: str = limited("with_replacement", among=NETWORK_SAMPLINGS)


# The networks and data that a task takes: choice -> its fields.
NETWORK_GROUPS: dict[type[TaskConfig], dict[str, Mapping[str, type]]] = {
    ColourizationConfig: {
        "model": dict.fromkeys(LAYOUTS, ColourizationModelConfig),
        "data": IMAGE_SETS,
    },
    LanguageModelConfig: {
        "model": {"transformer": TransformerConfig},
        "data": {"text": TextConfig},
    },
}
TASKS: dict[str, type[TaskConfig]] = {
    "linear_regression": LinearRegressionConfig,
    "finite_regression": FiniteRegressionConfig,
    "colourization": ColourizationConfig,
    "language_model": LanguageModelConfig,
    "custom": CustomTaskConfig,
}
