"""Any torch.optim class in the training loop: as torch has it, saved whole, refused in time."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from scaling import schema
from scaling.config import BudgetConfig, ScheduleConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.optimizers.config import CustomOptimizerConfig
from scaling.store.read_back import RunError, StoredRun
from scaling.store.recorded_trial import trial_of
from scaling.tasks.config import CustomTaskConfig, LinearRegressionConfig
from scaling.trial import prepare
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import finite_task, optimizer_config, regression_trial, trained

MINE = "tests.scaling.optimizers.test_custom_optimizer"


class Lines:
    """A problem with a weight matrix alone, which Muon takes."""

    def __init__(self, bias: bool = False, **_: Any) -> None:
        generator = torch.Generator().manual_seed(3)
        inputs = torch.randn(64, 6, generator=generator)
        labels = inputs @ torch.randn(6, 4, generator=generator)
        self.train = self.held_out = (inputs, labels)
        self.bias = bias

    def model(self) -> nn.Module:
        return nn.Linear(6, 4, bias=self.bias)

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (outputs - labels).square().mean()


class Kernels(Lines):
    """A convolution with its kernel, its bias and batch norm's buffers."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        images = torch.randn(32, 2, 5, 5, generator=generator)
        self.train = self.held_out = (images, images.sum(1, keepdim=True).roll(1, 2))

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 1, 3, padding=1),
        )


class Forgetful(torch.optim.SGD):
    """Keeps its momentum where no state_dict has it."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr)
        self.steps = 0

    def step(self, closure: Any = None) -> None:  # pyright: ignore
        self.steps += 1
        for param in self.param_groups[0]["params"]:
            param.data.sub_(param.grad * self.param_groups[0]["lr"] / self.steps)


class Noisy(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # pyright: ignore
        for param in self.param_groups[0]["params"]:
            param.data.sub_((param.grad + torch.randn(())) * 0)


class Unsaveable(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # pyright: ignore
        self.param_groups[0]["path"] = Path("x")


class TwoModes(torch.optim.SGD):
    def eval(self) -> None: ...


class Halved(torch.optim.SGD):
    """A third party's: passes its arguments on."""

    def __init__(self, params: Any, factor: float = 0.5, **others: Any) -> None:
        super().__init__(params, **others)
        self.param_groups[0]["factor"] = factor

    def step(self, closure: Any = None) -> None:  # pyright: ignore
        group = self.param_groups[0]
        for param in group["params"]:
            param.data.sub_(param.grad * (group["factor"] * group["lr"]))


def custom(path: str, **options: Any) -> CustomOptimizerConfig:
    return CustomOptimizerConfig(path=path, options=options)


def custom_trial(path: str, problem: str = "", max_steps: int = 25, **options: Any) -> TrialConfig:
    task = (
        CustomTaskConfig(path=f"{MINE}.{problem}")
        if problem
        else LinearRegressionConfig(dimension=16)
    )
    return TrialConfig(
        task=task,
        optimizer=custom(path, **options),
        lr=0.01,
        batch_size=8,
        budget=BudgetConfig(max_steps=max_steps),
        device="cpu",
    )


BUILT_IN = [
    ("sgd", {"weight_decay": 0.01}, "SGD", {"weight_decay": 0.01}),
    ("momentum", {"momentum": 0.8}, "SGD", {"momentum": 0.8}),
    ("nesterov", {}, "SGD", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {"alpha": 0.9}, "RMSprop", {"alpha": 0.9}),
    ("adam", {"beta1": 0.8}, "Adam", {"betas": [0.8, 0.999]}),
    ("adamw", {"weight_decay": 0.1}, "AdamW", {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "fields", "path", "options"), BUILT_IN)
@pytest.mark.parametrize("schedule", ["constant", "warmup"])
def test_torch_by_path_is_the_built_in(
    name: str, fields: dict[str, Any], path: str, options: dict[str, Any], schedule: str
) -> None:
    base = regression_trial(max_steps=40, batch_size=8, precision="float64")
    base = replace(base, lr=0.03, schedule=ScheduleConfig(schedule, warmup_steps=9))
    built_in, _ = trained(replace(base, optimizer=optimizer_config(name, **fields)))
    by_path, _ = trained(replace(base, optimizer=custom(f"torch.optim.{path}", **options)))
    assert len(by_path.curves[0]) > 20
    for expected, found in zip(built_in.curves[0], by_path.curves[0], strict=True):
        assert found[0] == expected[0]
        assert found[1] == pytest.approx(expected[1], rel=1e-12)


def test_built_in_on_kernels() -> None:
    """Views of one vector, channels last: equal parameters whatever their layout."""
    config = custom_trial("torch.optim.Adam", "Kernels")
    by_path, _ = trained(replace(config, save_models=True))
    built_in, _ = trained(replace(config, save_models=True, optimizer=optimizer_config("adam")))
    for key, value in built_in.models[0, "last"].items():
        torch.testing.assert_close(by_path.models[0, "last"][key], value, rtol=1e-4, atol=1e-6)
    assert by_path.curves[0][-1][1] < 0.9 * by_path.curves[0][0][1]


CLASSES = ["Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "Rprop", "ASGD", "Adafactor"]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("problem", ["", "Kernels"])
def test_classes_of_torch_train(name: str, problem: str, tmp_path: Path) -> None:
    """They lower the loss; stacked = alone, and interrupted = not, bit for bit."""
    if not hasattr(torch.optim, name):
        pytest.skip(f"torch {torch.__version__} has no {name}")
    config = custom_trial(f"torch.optim.{name}", problem)
    config.lr = 0.5 if name == "Adadelta" else 0.02
    alone, _ = trained(config)
    assert alone.curves[0][-1][1] < alone.curves[0][0][1]
    others = [replace(config, lr=config.lr / 2), config, replace(config, seed=1)]
    if not problem:
        stacked, _ = trained(*others)
        assert stacked.curves[1] == alone.curves[0]
        assert_same(prepare(others), 13, tmp_path)
    else:
        assert_same(prepare([config]), 13, tmp_path)


def test_options_differ_within_a_stack() -> None:
    one, two = (custom_trial("torch.optim.SGD", momentum=mu) for mu in (0.5, 0.9))
    assert prepare([one])[0].stack_key == prepare([two])[0].stack_key
    assert prepare([one])[0].trial_id != prepare([two])[0].trial_id
    both, _ = trained(one, two)
    assert both.curves[0] == trained(one)[0].curves[0]
    assert both.curves[1] == trained(two)[0].curves[0]
    other = prepare([custom_trial("torch.optim.Adagrad")])[0]
    assert other.stack_key != prepare([one])[0].stack_key


def test_a_diverging_trial_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    grid = [custom_trial("torch.optim.SGD", momentum=0.9) for _ in range(3)]
    for seed, lr in enumerate((0.01, 1e4, 0.02)):
        grid[seed].lr, grid[seed].seed = lr, seed
    memory, results = trained(*grid)
    assert [result.diverged_step is not None for result in results] == [False, True, False]
    assert memory.curves[2] == trained(grid[2])[0].curves[0]
    assert_same(prepare(grid), 15, tmp_path)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"pip install 'batch-scaling\[optimizers\]'"):
        prepare([custom_trial("pytorch_optimizer.SOAP")])


def test_muon_takes_matrices() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip(f"torch {torch.__version__} has no Muon")
    memory, _ = trained(custom_trial("torch.optim.Muon", "Lines"))
    assert memory.curves[0][-1][1] < memory.curves[0][0][1]
    with pytest.raises(ConfigError, match=r"optim.Muon: raised ValueError.*2D"):
        prepare([custom_trial("torch.optim.Muon", "Kernels")])


def test_soap_preconditions_kernels(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_optimizer", reason="the extra `optimizers` is not installed")
    options = {"merge_dims": False, "weight_decay": 0.0, "precondition_frequency": 3}
    config = custom_trial("pytorch_optimizer.SOAP", "Kernels", **options)
    memory, _ = trained(config)
    assert memory.curves[0][-1][1] < 0.9 * memory.curves[0][0][1]
    assert_same(prepare([config]), 13, tmp_path)


def test_a_class_of_ones_own() -> None:
    base = custom_trial(f"{MINE}.Halved", factor=0.25)
    plain = trained(replace(base, optimizer=optimizer_config("sgd"), lr=base.lr / 4))[0].curves[0]
    for expected, found in zip(plain, trained(base)[0].curves[0], strict=True):
        assert found[1] == pytest.approx(expected[1], rel=1e-5)
    given = custom_trial(f"{MINE}.Halved", factor=0.25, momentum=0.5)  # the parent's argument
    assert prepare([given])[0].trial_id != prepare([base])[0].trial_id


REFUSED = [
    ("torch.optim.Nothing", {}, "no such class"),
    ("torch.optim.lr_scheduler", {}, "is not a class"),
    ("torch.nn.Linear", {}, "not a subclass of torch.optim.Optimizer"),
    ("nowhere.Adam", {}, "raised ModuleNotFoundError"),
    ("Adam", {}, "must be module.Class"),
    ("torch.optim.Optimizer", {}, "does not take lr"),
    ("torch.optim.LBFGS", {}, "requires a closure"),
    ("torch.optim.SparseAdam", {}, "sparse|dense"),
    ("torch.optim.Adagrad", {"lr_decays": 1.0}, "torch.optim.Adagrad takes .*lr_decay"),
    ("torch.optim.Adagrad", {"lr": 1.0}, "leave lr and params out"),
    ("torch.optim.Adagrad", {"lr_decay": -1.0}, "raised ValueError"),
    ("torch.optim.SGD", {"momentum": "much"}, "raised TypeError"),
    (f"{MINE}.Halved", {"typo": 1}, "optimizer.options=typo"),
    (f"{MINE}.Forgetful", {}, "does not hold all its state"),
    (f"{MINE}.Noisy", {}, "draws random numbers"),
    (f"{MINE}.Unsaveable", {}, "cannot be saved"),
    (f"{MINE}.TwoModes", {}, "eval mode"),
]


@pytest.mark.parametrize(("path", "options", "said"), REFUSED)
def test_refused_before_training(path: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        prepare([custom_trial(path, **options)])
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("optimizer.")


def test_newtons_step_solves_a_finite_regression() -> None:
    """lr = 1 on all examples: at the least-squares solution after one step."""
    task = finite_task(data_examples=24, sampling="without_replacement")
    config = regression_trial("preconditioned", max_steps=1, task=task, batch_size=24, lr=1.0)
    memory, _ = trained(replace(config, precision="float64"))
    [trial] = prepare([config])
    assert memory.curves[0][-1][1] == pytest.approx(trial.irreducible_loss, rel=1e-10)


def test_preconditioned_stacked_is_alone_and_goes_on(tmp_path: Path) -> None:
    base = regression_trial("preconditioned", max_steps=30, task=finite_task(), batch_size=4)
    powers = (0.5, 1.0, 0.25)
    grid = [
        replace(base, lr=0.02, optimizer=optimizer_config("preconditioned", power=power))
        for power in powers
    ]
    stacked, _ = trained(*grid)
    for number, config in enumerate(grid):
        assert stacked.curves[number] == trained(config)[0].curves[0]
    assert_same(prepare(grid), 13, tmp_path)


def test_curvature_that_is_not_there() -> None:
    config = custom_trial("torch.optim.SGD", "Kernels")
    with pytest.raises(ConfigError, match="requires a task that knows its curvature, and custom"):
        prepare([replace(config, optimizer=optimizer_config("preconditioned"))])
    fewer = regression_trial("preconditioned", task=finite_task(data_examples=4), batch_size=4)
    with pytest.raises(ConfigError, match="must be > 0: the curvature is singular"):
        prepare([fewer])
    prepare([replace(fewer, optimizer=optimizer_config("preconditioned", damping=0.1))])


def test_what_a_store_names_is_imported_only_by_name() -> None:
    """A class in the user's folder needs to be named again; torch's own go without saying."""

    def stored(config: TrialConfig) -> StoredRun:
        [trial] = prepare([config])
        text = yaml.safe_dump(asdict(config))
        return StoredRun("1", "a", {schema.TRIAL_ID: trial.trial_id}, {}, {}, text)

    mine = stored(custom_trial(f"{MINE}.Halved"))
    for wrong in (None, "another.Class"):
        with pytest.raises(RunError, match=r"if you trust that code .* optimizer.path=tests.scal"):
            trial_of(mine, None, None, wrong)
    assert trial_of(mine, None, None, f"{MINE}.Halved").trial_id == mine.tags[schema.TRIAL_ID]
    torchs = stored(custom_trial("torch.optim.Adagrad"))
    assert trial_of(torchs, None, None).trial_id == torchs.tags[schema.TRIAL_ID]
