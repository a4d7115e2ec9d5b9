"""Groups of parameters: torch's own, in stacks and alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from scaling.config import BudgetConfig, EvaluationConfig, ScheduleConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig, OptimizerConfig
from scaling.schedules import in_steps, lr_factor
from scaling.trial import prepare
from tests.scaling.plain_loop import plain_start
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import custom, optimizer_config, regression_trial, trained

NO_DECAY = [{"params": "vectors", "weight_decay_factor": 0}]
THREE = [
    {"params": r"^last\.", "lr_factor": 0.3, "weight_decay_factor": 2},
    {"params": "vectors", "weight_decay_factor": 0},
    {"params": "matrices", "lr_factor": 1.5},
]
DECAY = 0.1
Make = Callable[..., torch.optim.Optimizer]
BUILT_IN: dict[str, Make] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda groups, **rest: torch.optim.SGD(groups, momentum=0.9, **rest),
    "nesterov": lambda groups, **rest: torch.optim.SGD(groups, momentum=0.9, nesterov=True, **rest),
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
CUSTOM: dict[str, Make] = {
    "torch.optim.Adagrad": torch.optim.Adagrad,
    "torch.optim.NAdam": torch.optim.NAdam,
}
EVERY_STEP = EvaluationConfig(30)


def optimizer(name: str) -> OptimizerConfig:
    if "." in name:
        return CustomOptimizerConfig(path=name, options={"weight_decay": DECAY})
    return optimizer_config(name, weight_decay=DECAY)


def torch_groups(model: nn.Module, groups: list[dict[str, Any]], lr: float) -> list[dict[str, Any]]:
    """What somebody writes by hand, for torch's optimizers."""
    parts: list[list[nn.Parameter]] = [[] for _ in range(len(groups) + 1)]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        for number, group in enumerate(groups):
            axes = {"vectors": parameter.dim() < 2, "matrices": parameter.dim() > 1}
            if axes.get(group["params"], re.search(group["params"], name) is not None):
                parts[number].append(parameter)
                break
        else:
            parts[-1].append(parameter)
    return [
        {
            "params": part,
            "lr": lr * group.get("lr_factor", 1),
            "weight_decay": DECAY * group.get("weight_decay_factor", 1),
        }
        for part, group in zip(parts, [*groups, {}], strict=True)
        if part
    ]


def torch_state(config: TrialConfig, kind: str, make: Make) -> dict[str, torch.Tensor]:
    """The network after the loop that everybody writes, with the schedule in every group."""
    problem, model, batches = plain_start(kind, config)
    groups = torch_groups(model, config.param_groups, config.lr)
    made = make(groups, lr=config.lr, weight_decay=DECAY)
    schedule = in_steps(config)
    lrs = [group["lr"] for group in made.param_groups]
    for step in range(1, 31):
        for group, lr in zip(made.param_groups, lrs, strict=True):
            group["lr"] = lr * lr_factor(schedule, step)
        inputs, labels = next(batches)
        made.zero_grad()
        problem.loss(model(inputs), labels).backward()
        made.step()
    return model.state_dict()


@pytest.mark.parametrize("stacking", ["false", "true"])
@pytest.mark.parametrize(
    ("name", "groups"),
    [("adamw", NO_DECAY), *((name, THREE) for name in BUILT_IN), *((n, THREE) for n in CUSTOM)],
)
def test_networks_equal_torch(name: str, groups: list[dict[str, Any]], stacking: str) -> None:
    config = custom("plain", lr=0.02, precision="float64", param_groups=groups)
    config = replace(config, optimizer=optimizer(name), save_models=True, stack_networks=stacking)
    memory, _ = trained(*([config] if stacking == "false" else [replace(config, lr=0.01), config]))
    expected = torch_state(config, "plain", (BUILT_IN | CUSTOM)[name])
    found = memory.models[len(memory.curves) - 1, "last"]
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-12)
    plain, _ = trained(replace(config, param_groups=[]))
    assert not torch.equal(plain.models[0, "last"]["last.bias"], found["last.bias"])


@pytest.mark.parametrize("kind", ["frozen", "tied", "idle", "complex"])
@pytest.mark.parametrize("name", ["adamw", "momentum", "torch.optim.AdamW"])
def test_networks_of_all_kinds_with_a_schedule(name: str, kind: str) -> None:
    """Complex parameters stand in the vector of weights as pairs, kernels in another order."""
    others = {"params": "wave|first|idle|middle", "lr_factor": 0.5, "weight_decay_factor": 0.1}
    groups = [*THREE[:1], others]
    config = custom(kind, lr=0.02, precision="float64", param_groups=groups, save_models=True)
    schedule = ScheduleConfig("linear", warmup_steps=3, total_steps=25)
    config = replace(config, optimizer=optimizer(name), schedule=schedule)
    memory, _ = trained(config)
    made = {"torch.optim.AdamW": torch.optim.AdamW} | BUILT_IN
    for key, value in torch_state(config, kind, made[name]).items():
        torch.testing.assert_close(memory.models[0, "last"][key], value, rtol=1e-9, atol=1e-12)


def test_a_group_without_factors_changes_no_bit() -> None:
    for name in ("adamw", "torch.optim.NAdam"):
        config = replace(custom("plain", lr=0.02), optimizer=optimizer(name))
        grouped = replace(config, param_groups=[{"params": "first"}])
        assert trained(grouped)[0].curves == trained(config)[0].curves


def test_regression_has_one_vector_called_weights() -> None:
    """Half the lr by its group is half the lr."""
    config = regression_trial(max_steps=30, batch_size=8, lr=0.1)
    half = [{"params": "weights", "lr_factor": 0.5}]
    together, _ = trained(*[replace(config, param_groups=half, seed=seed) for seed in range(3)])
    for seed in range(3):
        plain, _ = trained(replace(config, lr=0.05, seed=seed))
        assert together.curves[seed] == plain.curves[0]


@pytest.mark.parametrize("name", ["sgd", "adamw", "torch.optim.Adagrad"])
def test_bits_depend_neither_on_the_stack_nor_on_a_stop(name: str, tmp_path: Path) -> None:
    """Trials of 12 leave the stack at different steps."""
    base = regression_trial(max_steps=40, batch_size=8, relative_targets=[0.5], tail_factor=1.5)
    groups = [{"params": "vectors", "lr_factor": 0.7, "weight_decay_factor": 0.5}]
    base = replace(base, param_groups=groups, optimizer=optimizer(name))
    configs = [replace(base, lr=lr, seed=seed) for lr in (0.05, 0.1, 0.4) for seed in range(4)]
    together, _ = trained(*configs)
    for number in (0, 5, 11):
        alone, _ = trained(configs[number])
        assert together.curves[number] == alone.curves[0]
    assert_same(prepare(configs), 17, tmp_path)


@pytest.mark.parametrize("name", ["momentum", "adamw", "torch.optim.NAdam"])
def test_networks_are_resumed(name: str, tmp_path: Path) -> None:
    """The groups' order is not that of the parameters."""
    config = replace(custom("plain", param_groups=THREE), optimizer=optimizer(name))
    assert_same(prepare([config]), 11, tmp_path)
    pair = [replace(config, lr=lr, stack_networks="true") for lr in (0.01, 0.1)]
    assert_same(prepare(pair), 11, tmp_path)


def test_identity() -> None:
    def identity(*groups: dict[str, Any]) -> str:
        return prepare([regression_trial(param_groups=list(groups))])[0].trial_id

    half = {"params": "weights", "lr_factor": 0.5}
    assert identity() == prepare([regression_trial()])[0].trial_id
    assert identity(half) == identity(half | {"weight_decay_factor": 1})
    assert len({identity(), identity(half), identity(half | {"lr_factor": 0.25})}) == 3


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ({"params": "third"}, r"param_groups[0].params=third: holds no trained parameter that no"),
        ({"params": "("}, "param_groups[0].params=(: must be vectors, matrices or a regular expr"),
        ({"params": 3}, "param_groups[0].params=3: must be vectors, matrices or a regular expr"),
        ({"params": ""}, "param_groups[0].params=: must be given"),
        ({"lr_factor": 3}, "param_groups[0]={'lr_factor': 3}: must be {params: .., and of lr_fac"),
        ({"params": "first", "lr": 3}, "param_groups[0]={'params': 'first', 'lr': 3}: must be {pa"),
        ("vectors", "param_groups[0]=vectors: must be {params: .., and of lr_factor and weight_de"),
        (
            {"params": "first", "lr_factor": -1},
            "param_groups[0].lr_factor=-1: must be a finite n",
        ),
        (
            {"params": "first", "lr_factor": "a"},
            "param_groups[0].lr_factor=a: must be a finite nu",
        ),
    ],
)
def test_mistakes_are_one_line(group: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare([custom("plain", param_groups=[group])])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_group_that_others_empty_is_refused() -> None:
    groups = [{"params": "first"}, {"params": r"first\.bias"}]
    with pytest.raises(ConfigError, match=r"param_groups\[1\].params=first\\.bias: holds no train"):
        prepare([custom("plain", param_groups=groups)])
    with pytest.raises(ConfigError, match=r"there are first\.bias, last\.weight, last\.bias"):
        prepare([custom("frozen", param_groups=[{"params": "first.weight"}])])


def test_decay_of_an_optimizer_that_has_none() -> None:
    by_path = CustomOptimizerConfig(path="torch.optim.Rprop")
    config = replace(custom("plain", param_groups=NO_DECAY), optimizer=by_path)
    with pytest.raises(ConfigError, match=r"torch.optim.Rprop has no weight_decay; leave weight_d"):
        prepare([config])
    faster = [{"params": "vectors", "lr_factor": 2}]
    assert prepare([replace(config, param_groups=faster, budget=BudgetConfig(3))])
