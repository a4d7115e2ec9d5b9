"""Whether a custom optimizer can be resumed bit for bit: steps are made, saved and compared."""

from __future__ import annotations

import inspect
import io

import torch

from scaling.custom_code import first_line
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.optimizers.custom import KEY, Leaves, TrialOptimizer, optimizer_class
from scaling.optimizers.groups import Groups

PROBED_STEPS = 12  # before and after saving: methods that renew something every 10 steps do so


def check_custom_optimizer(
    config: CustomOptimizerConfig, lr: float, leaves: Leaves, groups: Groups | None = None
) -> None:
    """Make some steps on copies of one trial's shaped parameters; ConfigError for what fails.

    The steps are saved, as a checkpoint is, and resumed: an optimizer whose state_dict does
    not hold all its state would train other numbers after an interruption, and is refused.
    """
    kind = optimizer_class(config)
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        allowed = "its step requires a closure that computes the loss again; a trial computes each "
        raise ConfigError(KEY, config.path, allowed + "batch's gradient once")
    if callable(getattr(kind, "eval", None)):
        allowed = "has an eval mode, in which it changes the weights: that is not supported"
        raise ConfigError(KEY, config.path, allowed)
    try:
        refusal = _probe(config, lr, leaves, groups)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(KEY, config.path, f"raised {first_line(error)}") from None
    if refusal:
        raise ConfigError(KEY, config.path, refusal)


def _probe(
    config: CustomOptimizerConfig, lr: float, leaves: Leaves, groups: Groups | None
) -> str | None:
    """Why the optimizer cannot be resumed after it is saved, if so."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.default_generator.get_state()
    first = TrialOptimizer(config, lr, leaves, groups)
    params = leaves
    for _ in range(PROBED_STEPS):
        params = _clone(first.step(_random(leaves, generator), None))
    buffer = io.BytesIO()
    torch.save(first.saved(), buffer)
    buffer.seek(0)
    try:
        saved = torch.load(buffer, weights_only=True)
    except Exception:
        return "its state_dict holds more than tensors and plain values: it cannot be saved"
    second = TrialOptimizer(config, lr, leaves, groups)
    second.restore(saved, params)
    for _ in range(PROBED_STEPS):
        gradients = _random(leaves, generator)
        uncut, resumed = first.step(gradients, None), second.step(gradients, None)
        if any(not torch.equal(uncut[k].nan_to_num(), resumed[k].nan_to_num()) for k in uncut):
            return (
                "its state_dict does not hold all its state: after an interruption it would give "
                "different numbers"
            )
    if not torch.equal(draws, torch.default_generator.get_state()):
        return "draws random numbers that a resumed trial would not draw again"
    return None


def _random(leaves: Leaves, generator: torch.Generator) -> Leaves:
    """Small gradients [...] of each leaf's shape, drawn on the CPU whatever the device."""
    return {
        key: (0.01 * torch.randn(leaf.shape, generator=generator)).to(leaf)
        for key, leaf in leaves.items()
    }


def _clone(leaves: Leaves) -> Leaves:
    return {key: leaf.clone() for key, leaf in leaves.items()}
