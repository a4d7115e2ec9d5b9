"""Formulas of the rules against hand values and against what torch's optimizers do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scaling.rules import LR_RULES, half_life, lr_ratio, timescale

SIZES = np.array([1.0, 4.0, 16.0, 64.0, 1024.0])


@pytest.mark.parametrize(
    ("rule", "given", "ratios"),
    [
        ("constant", {}, [1, 1, 1, 1, 1]),
        ("sqrt", {}, [0.25, 0.5, 1, 2, 8]),
        ("linear", {}, [1 / 16, 0.25, 1, 4, 64]),
        ("power", {"exponent": 0.25}, [0.5, 2**-0.5, 1, 2**0.5, 2**1.5]),
        # (1 + 48/16) / (1 + 48/B)
        ("saturating", {"batch_scale": 48.0}, [4 / 49, 4 / 13, 1, 4 / 1.75, 4 / (1 + 3 / 64)]),
        ("saturating", {"batch_scale": 48.0, "exponent": 0.5},
         [2 / 7, 2 / 13**0.5, 1, 2 / 1.75**0.5, 2 / (1 + 3 / 64) ** 0.5]),
    ],
)  # fmt: skip
def test_ratios_by_hand(rule: str, given: dict[str, float], ratios: list[float]) -> None:
    assert lr_ratio(rule, SIZES, 16, **given) == pytest.approx(ratios, rel=1e-12)


def test_saturating_is_linear_far_below_and_constant_far_above() -> None:
    below, above = np.array([1e-3, 2e-3]), np.array([1e6, 2e6])
    low, high = (lr_ratio("saturating", sizes, 16, batch_scale=50.0) for sizes in (below, above))
    assert low[1] / low[0] == pytest.approx(2, rel=1e-4)
    assert high[1] / high[0] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("rule", LR_RULES)
def test_at_the_reference_nothing_moves(rule: str) -> None:
    assert float(lr_ratio(rule, 24, 24, exponent=0.37, batch_scale=7.0)) == 1.0


@pytest.mark.parametrize("batch_size", [4, 16, 32])
def test_half_life_in_examples_is_kept_by_torch(batch_size: int) -> None:
    """One gradient of 1, then zeros: the second moment falls to the same share after as many
    examples, whatever the batch size."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    beta2 = float(half_life(0.9, batch_size, 16))
    optimizer = torch.optim.Adam([weight], betas=(0.0, beta2))
    moments = []
    for step in range(1 + 128 // batch_size):
        weight.grad = torch.full_like(weight, float(step == 0))
        optimizer.step()
        moments.append(float(optimizer.state[weight]["exp_avg_sq"]))
    assert moments[-1] / moments[0] == pytest.approx(0.9 ** (128 / 16), rel=1e-12)


def test_half_life_is_malladis_rule_to_first_order() -> None:
    assert half_life(0.9999, 64, 16) == pytest.approx(1 - 4 * (1 - 0.9999), rel=1e-6)


@pytest.mark.parametrize("rule", ["constant", "sqrt", "linear"])
@pytest.mark.parametrize("batch_size", [4, 64])
def test_timescale_of_torch_adamw_is_kept(rule: str, batch_size: int) -> None:
    """Without gradients, weights shrink by the same factor over as many examples."""

    def left(lr: float, weight_decay: float, steps: int) -> float:
        weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = torch.optim.AdamW([weight], lr=lr, weight_decay=weight_decay)
        for _ in range(steps):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
        return float(weight.detach())

    ratio = float(lr_ratio(rule, batch_size, 16))
    decay = float(timescale(0.1, batch_size, 16, ratio))
    assert batch_size / (ratio * decay) == pytest.approx(16 / 0.1, rel=1e-12)
    whole, moved = left(1e-3, 0.1, 512), left(1e-3 * ratio, decay, 512 * 16 // batch_size)
    assert 1 - moved == pytest.approx(1 - whole, rel=1e-3)
