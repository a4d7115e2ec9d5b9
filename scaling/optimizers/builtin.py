"""Optimizers as pure functions over stacks, each equal to its torch.optim counterpart.

state = init(name, params); params, state = update(name, gradients, state, params, hyper, step).
Every leaf of params, gradients and state is [R, ...]; a hyperparameter is [R], so that trials of
one stack may differ in it. `step` is 1 at the first update. `weight_decay` has torch's meaning:
a penalty of weight_decay / 2 |w|^2 in the loss, except for sgdw, momentumw, rmspropw and adamw,
where it is decoupled: w <- (1 - lr weight_decay) w, then the update with the plain gradient
(Loshchilov & Hutter 2019, arXiv:1711.05101, algorithms 1 and 2; adamw is torch.optim.AdamW).
Below, g is the gradient with the penalty's weight_decay * w added.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Leaf = dict[str, Tensor]  # state of one parameter
Hyper = dict[str, Tensor]
Step = tuple[Tensor, Leaf]  # the new parameter and its new state
LeafUpdate = Callable[[Tensor, Leaf, Tensor, Hyper], Step]


def sgd(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
    """w <- w - lr g (torch.optim.SGD)."""
    gradient = _with_penalty(gradient, param, hyper)
    return param - hyper["lr"] * gradient, state


def momentum(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
    """v <- mu v + g; w <- w - lr v (torch.optim.SGD(momentum=mu); Polyak 1964)."""
    gradient = _with_penalty(gradient, param, hyper)
    velocity = hyper["momentum"] * state["velocity"] + gradient
    return param - hyper["lr"] * velocity, {"velocity": velocity}


def nesterov(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
    """v <- mu v + g; w <- w - lr (g + mu v) (torch.optim.SGD(nesterov=True))."""
    gradient = _with_penalty(gradient, param, hyper)
    velocity = hyper["momentum"] * state["velocity"] + gradient
    ahead = gradient + hyper["momentum"] * velocity
    return param - hyper["lr"] * ahead, {"velocity": velocity}


def rmsprop(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
    """v <- alpha v + (1 - alpha) g^2; w <- w - lr g / (sqrt(v) + eps) (torch.optim.RMSprop)."""
    gradient = _with_penalty(gradient, param, hyper)
    square = hyper["alpha"] * state["square"] + hyper["1 - alpha"] * gradient.square()
    update = gradient / (square.sqrt() + hyper["eps"])
    return param - hyper["lr"] * update, {"square": square}


def adam(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2;
    w <- w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
    (torch.optim.Adam; Kingma & Ba 2015, arXiv:1412.6980, algorithm 1).
    """
    gradient = _with_penalty(gradient, param, hyper)
    mean = hyper["beta1"] * state["mean"] + hyper["1 - beta1"] * gradient
    square = hyper["beta2"] * state["square"] + hyper["1 - beta2"] * gradient.square()
    denominator = square.sqrt() / hyper["1 - beta2^t"].sqrt() + hyper["eps"]
    update = mean / hyper["1 - beta1^t"] / denominator
    return param - hyper["lr"] * update, {"mean": mean, "square": square}


def preconditioned(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
    """w <- w - lr (H + damping)^-power g, H the task's curvature, a constant (power 1: Newton's
    direction; Zhang et al. 2019, arXiv:1907.04164, section 3.4, have powers of it)."""
    gradient = _with_penalty(gradient, param, hyper)
    matrix = state["preconditioner"]  # [R, D], or [R, D, D] where H is not diagonal
    if matrix.dim() == gradient.dim():
        update = matrix * gradient
    else:
        update = (matrix * gradient[:, None]).sum(-1)
    return param - hyper["lr"] * update, state


def _with_penalty(gradient: Tensor, param: Tensor, hyper: Hyper) -> Tensor:
    decay = hyper.get("weight_decay")
    return gradient if decay is None else gradient + decay * param


def _decoupled(update: LeafUpdate) -> LeafUpdate:
    def decayed(gradient: Tensor, state: Leaf, param: Tensor, hyper: Hyper) -> Step:
        if "weight_decay" in hyper:
            param = param * (1 - hyper["lr"] * hyper["weight_decay"])
            hyper = {key: value for key, value in hyper.items() if key != "weight_decay"}
        return update(gradient, state, param, hyper)

    return decayed


UPDATES: dict[str, LeafUpdate] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adam": adam,
    "sgdw": _decoupled(sgd),
    "momentumw": _decoupled(momentum),
    "rmspropw": _decoupled(rmsprop),
    "adamw": _decoupled(adam),
    "preconditioned": preconditioned,
}
STATE: dict[str, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("velocity",),
    "nesterov": ("velocity",),
    "rmsprop": ("square",),
    "adam": ("mean", "square"),
    "sgdw": (),
    "momentumw": ("velocity",),
    "rmspropw": ("square",),
    "adamw": ("mean", "square"),
    "preconditioned": (),
}


def init(name: str, params: dict[str, Tensor]) -> dict[str, Leaf]:
    """State before the first update: zeros of each parameter's shape."""
    return {
        key: {part: torch.zeros_like(param) for part in STATE[name]}
        for key, param in params.items()
    }


def preconditioner(curvature: Tensor, power: Tensor, damping: Tensor) -> Tensor:
    """(H + damping)^-power of each row: [R, D] of a diagonal H [D], [R, D, D] of H [D, D].

    power and damping [R]. Computed number by number and in float64: a row's bits are its own.
    """
    if curvature.dim() == 1:
        rows = zip(power.tolist(), damping.tolist(), strict=True)
        return torch.stack([(curvature + shift) ** -exponent for exponent, shift in rows])
    values, basis = torch.linalg.eigh(curvature)
    scales = preconditioner(values.clamp(min=0), power, damping)
    return torch.stack([(basis * row) @ basis.mT for row in scales])


def update(
    name: str,
    gradients: dict[str, Tensor],
    state: dict[str, Leaf],
    params: dict[str, Tensor],
    hyper: Hyper,
    step: int,
) -> tuple[dict[str, Tensor], dict[str, Leaf]]:
    """One optimizer step of every trial; returns new parameters and state, changes nothing.

    Leaves without a gradient (a network's buffers) stay as they are.
    hyper: {"lr": [R], and the optimizer's own fields: [R]}, float64 whatever the parameters are;
    "weight_decay" may be left out where it is 0 for all.
    """
    given = coefficients(hyper, step)
    shaped = {key: shaped_as(params[key], given) for key in gradients}
    return updated(name, gradients, state, params, shaped)


def updated(
    name: str,
    gradients: dict[str, Tensor],
    state: dict[str, Leaf],
    params: dict[str, Tensor],
    shaped: dict[str, Hyper],
) -> tuple[dict[str, Tensor], dict[str, Leaf]]:
    """`update` with the coefficients of each parameter, as `shaped_as` makes them."""
    new_params, new_state = {**params}, {**state}
    for key, gradient in gradients.items():
        new_params[key], new_state[key] = UPDATES[name](
            gradient, state[key], params[key], shaped[key]
        )
    return new_params, new_state


def shaped_as(param: Tensor, hyper: Hyper) -> Hyper:
    """Hyperparameters [R] as [R, 1, ...] of the parameter's kind and device."""
    shape = (-1, *[1] * (param.dim() - 1))
    return {key: v.to(param.device, param.dtype).view(shape) for key, v in hyper.items()}


def same_every_step(hyper: Hyper) -> bool:
    """No formula takes a power of a hyperparameter that grows with the step."""
    return not hyper.keys() & {"beta1", "beta2"}


def coefficients(hyper: Hyper, step: int) -> Hyper:
    """The hyperparameters and what the formulas make of them, in float64 as torch.optim does.

    Powers are taken number by number: a vectorised power rounds by position in the stack.
    """
    derived = {f"1 - {key}": 1 - hyper[key] for key in ("alpha", "beta1", "beta2") if key in hyper}
    for key in ("beta1", "beta2"):
        if key in hyper:
            powers = [1 - beta**step for beta in hyper[key].tolist()]
            derived[f"1 - {key}^t"] = torch.tensor(powers, dtype=torch.float64)
    return hyper | derived
