"""Fields, defaults and limits of the group `optimizer`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scaling.limits import MISSING, limited


@dataclass
class OptimizerConfig:
    name: str = MISSING


@dataclass
class CustomOptimizerConfig(OptimizerConfig):
    """Any torch.optim.Optimizer (scaling.optimizers.custom). path: module.Class; options: its
    arguments but for the parameters and lr."""

    name: str = "custom"
    path: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DecayingConfig(OptimizerConfig):
    weight_decay: float = limited(0.0, least=0)


@dataclass
class PreconditionedConfig(DecayingConfig):
    """SGD with (H + damping)^-power in front of the gradient, H the task's own curvature."""

    name: str = "preconditioned"
    power: float = limited(1.0, least=0)
    damping: float = limited(0.0, least=0)


@dataclass
class SgdConfig(DecayingConfig):
    name: str = "sgd"


@dataclass
class MomentumConfig(DecayingConfig):
    name: str = "momentum"
    momentum: float = limited(0.9, least=0, below=1)


@dataclass
class NesterovConfig(DecayingConfig):
    name: str = "nesterov"
    momentum: float = limited(0.9, least=0, below=1)


@dataclass
class RmspropConfig(DecayingConfig):
    name: str = "rmsprop"
    alpha: float = limited(0.99, least=0, below=1)
    eps: float = limited(1e-8, least=0)


@dataclass
class AdamConfig(DecayingConfig):
    name: str = "adam"
    beta1: float = limited(0.9, least=0, below=1)
    beta2: float = limited(0.999, least=0, below=1)
    eps: float = limited(1e-8, least=0)


@dataclass
class SgdwConfig(SgdConfig):
    """As all whose name ends so: weight decay apart from the gradient
    (scaling.optimizers.builtin)."""

    name: str = "sgdw"
    weight_decay: float = limited(0.01, least=0)


@dataclass
class MomentumwConfig(MomentumConfig):
    name: str = "momentumw"
    weight_decay: float = limited(0.01, least=0)


@dataclass
class RmspropwConfig(RmspropConfig):
    name: str = "rmspropw"
    weight_decay: float = limited(0.01, least=0)


@dataclass
class AdamwConfig(AdamConfig):
    name: str = "adamw"
    weight_decay: float = limited(0.01, least=0)


OPTIMIZERS: dict[str, type[OptimizerConfig]] = {
    "sgd": SgdConfig,
    "momentum": MomentumConfig,
    "nesterov": NesterovConfig,
    "rmsprop": RmspropConfig,
    "adam": AdamConfig,
    "sgdw": SgdwConfig,
    "momentumw": MomentumwConfig,
    "rmspropw": RmspropwConfig,
    "adamw": AdamwConfig,
    "preconditioned": PreconditionedConfig,
    "custom": CustomOptimizerConfig,
}
