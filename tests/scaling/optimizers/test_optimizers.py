"""Every optimizer equals its torch.optim counterpart in float64, member by member of a stack."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from scaling.optimizers import builtin as optimizers

LRS = (0.003, 0.01, 0.05)
DECAYS = (0.0, 0.1, 0.02)
Optimizer = torch.optim.Optimizer


class Decayed:
    """A torch optimizer whose weights shrink by lr * weight_decay before each of its steps."""

    def __init__(self, make: Callable[..., Optimizer]) -> None:
        self.make = make

    def __call__(self, params: list[Tensor], lr: float, weight_decay: float, **hyper: float):
        optimizer = self.make(params, lr=lr, weight_decay=0.0, **hyper)

        def shrink(*_: object) -> None:
            with torch.no_grad():
                for param in params:
                    param.mul_(1 - lr * weight_decay)

        optimizer.register_step_pre_hook(shrink)
        return optimizer


CASES: dict[str, tuple[dict[str, float], Callable[..., Optimizer]]] = {
    "sgd": ({}, torch.optim.SGD),
    "momentum": ({"momentum": 0.9}, torch.optim.SGD),
    "nesterov": (
        {"momentum": 0.8},
        lambda params, **kw: torch.optim.SGD(params, nesterov=True, **kw),
    ),
    "rmsprop": ({"alpha": 0.95, "eps": 1e-3}, torch.optim.RMSprop),
    "adam": ({"beta1": 0.85, "beta2": 0.99, "eps": 1e-6}, torch.optim.Adam),
    "sgdw": ({}, Decayed(torch.optim.SGD)),
    "momentumw": ({"momentum": 0.9}, Decayed(torch.optim.SGD)),
    "rmspropw": ({"alpha": 0.95, "eps": 1e-3}, Decayed(torch.optim.RMSprop)),
    "adamw": ({"beta1": 0.85, "beta2": 0.99, "eps": 1e-6}, torch.optim.AdamW),
}


def loss_of(matrix: Tensor, bias: Tensor) -> Tensor:
    """Not quadratic, so that gradients change in size and sign."""
    return (torch.sin(matrix).sum() + 0.3 * matrix.square().sum() + (bias - 1).pow(4).sum()) / 2


def torch_iterates(name: str, lr: float, weight_decay: float, start: Iterable[Tensor]):
    hyper, make = CASES[name]
    hyper = dict(hyper)
    if "beta1" in hyper:
        betas = (hyper.pop("beta1"), hyper.pop("beta2"))
        hyper["betas"] = betas  # pyright: ignore[reportArgumentType]
    params = [leaf.clone().requires_grad_() for leaf in start]
    optimizer = make(params, lr=lr, weight_decay=weight_decay, **hyper)
    for _ in range(40):
        optimizer.zero_grad()
        loss_of(*params).backward()
        optimizer.step()
        yield [leaf.detach().clone() for leaf in params]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("decays", [DECAYS, (0.0, 0.0, 0.0)])
def test_equals_torch(name: str, decays: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    start = {
        "matrix": torch.randn(3, 4, 2, generator=generator, dtype=torch.float64),
        "bias": torch.randn(3, 5, generator=generator, dtype=torch.float64),
    }
    numbers = {"lr": LRS} | {key: (value,) * 3 for key, value in CASES[name][0].items()}
    hyper = {key: torch.tensor(value, dtype=torch.float64) for key, value in numbers.items()}
    if any(decays):
        hyper["weight_decay"] = torch.tensor(decays, dtype=torch.float64)
    expected = [
        list(torch_iterates(name, lr, decay, (start["matrix"][row], start["bias"][row])))
        for row, (lr, decay) in enumerate(zip(LRS, decays, strict=True))
    ]
    params, state = start, optimizers.init(name, start)
    for step in range(1, 41):
        leaves = {key: leaf.clone().requires_grad_() for key, leaf in params.items()}
        total = sum(loss_of(leaves["matrix"][row], leaves["bias"][row]) for row in range(3))
        assert isinstance(total, Tensor)
        gradients = dict(
            zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True)
        )
        params, state = optimizers.update(name, gradients, state, params, hyper, step)
        for row in range(3):
            matrix, bias = expected[row][step - 1]
            torch.testing.assert_close(params["matrix"][row], matrix, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(params["bias"][row], bias, rtol=1e-12, atol=1e-12)


def test_adamw_decays_apart_from_the_gradient() -> None:
    """One step with gradient 0: adamw shrinks w by lr * decay, adam takes a step of lr."""
    params = {"w": torch.full((1, 1), 2.0, dtype=torch.float64)}
    gradients = {"w": torch.zeros(1, 1, dtype=torch.float64)}
    values = {"lr": 0.1, "weight_decay": 0.5, "beta1": 0.9, "beta2": 0.999, "eps": 0.0}
    hyper = {key: torch.tensor([value], dtype=torch.float64) for key, value in values.items()}
    hyper["eps"] += 1e-30
    after = {}
    for name in ("adam", "adamw"):
        state = optimizers.init(name, params)
        after[name] = optimizers.update(name, gradients, state, params, hyper, 1)[0]["w"].item()
    assert after["adamw"] == pytest.approx(2.0 * (1 - 0.05), abs=1e-14)
    assert after["adam"] == pytest.approx(2.0 - 0.1, abs=1e-14)


def test_preconditioned_is_the_formula_row_by_row() -> None:
    """(H + damping)^-power g with a diagonal H and with a full one, against torch.linalg."""
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(4, 5, 5, generator=generator, dtype=torch.float64)[0]
    full = root @ root.mT + torch.eye(5, dtype=torch.float64)
    powers = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    dampings = torch.tensor([0.0, 0.2, 0.1], dtype=torch.float64)
    param, gradient = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    hyper = {"lr": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)}
    for curvature in (full, full.diagonal()):
        matrix = curvature if curvature.dim() == 2 else torch.diag(curvature)
        state = {"w": {"preconditioner": optimizers.preconditioner(curvature, powers, dampings)}}
        found, _ = optimizers.update(
            "preconditioned", {"w": gradient}, state, {"w": param}, hyper, 1
        )
        for row in range(3):
            shifted = matrix + dampings[row] * torch.eye(5, dtype=torch.float64)
            direction = gradient[row]
            if powers[row] == 1.0:
                direction = torch.linalg.solve(shifted, direction)
            elif powers[row] == 0.5:  # twice the root is the inverse
                half = state["w"]["preconditioner"][row]
                half = half if half.dim() == 2 else torch.diag(half)
                torch.testing.assert_close(half @ half, torch.linalg.inv(shifted))
                direction = half @ direction
            expected = param[row] - hyper["lr"][row] * direction
            torch.testing.assert_close(found["w"][row], expected, rtol=1e-10, atol=1e-12)
