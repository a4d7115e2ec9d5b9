"""A user's network keeps what it is: frozen, tied, complex and integer tensors, masks, counters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scaling.config import EvaluationConfig
from scaling.limits import ConfigError
from scaling.optimizers.config import OPTIMIZERS, CustomOptimizerConfig
from scaling.tasks.make import make_task
from scaling.tasks.supervised import SupervisedTask
from scaling.trial import prepare
from tests.scaling.custom_networks import Custom, Shared
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import custom, optimizer_config, trained

MOVING = EvaluationConfig(recompute_statistics=False)
CUSTOM = ["torch.optim.AdamW", "torch.optim.Adagrad"]
BUILT_IN = [name for name in OPTIMIZERS if name not in ("custom", "preconditioned")]
KINDS = ["frozen", "tied", "idle", "complex", "mask", "integers", "replaced", "norm"]
ALONE = {"replaced", "norm"}  # and its momentum=None, which reads a number out of a tensor


def initial(kind: str, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Custom(kind).model().state_dict()


def final(config) -> dict[str, Tensor]:
    memory, _ = trained(replace(config, save_models=True))
    return memory.models[0, "last"]


def plain_pytorch(problem, config, optimizer: torch.optim.Optimizer, model, n_steps: int) -> None:
    """The loop that everybody writes, on the trial's own data."""
    stream = SupervisedTask(problem, config).streams([config.seed], config.batch_size)
    inputs, labels = (torch.from_numpy(leaf) for leaf in problem.train)
    for _ in range(n_steps):
        rows = stream.next()[0][0]
        optimizer.zero_grad()
        problem.loss(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_equals_a_plain_pytorch_loop(kind: str) -> None:
    config = custom(kind, "momentum", evaluation=MOVING, lr=0.02)
    torch.manual_seed(0)
    problem = Custom(kind)
    model = problem.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    plain_pytorch(problem, config, optimizer, model, 30)
    found, expected = final(config), model.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(value, initial(kind)[key]) for key, value in expected.items())


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_as_alone(kind: str) -> None:
    configs = [custom(kind, "adam", lr=lr, evaluation=MOVING) for lr in (0.01, 0.05)]
    together = [replace(config, stack_networks="true", save_models=True) for config in configs]
    if kind in ALONE:
        assert [trial.most_rows for trial in prepare(together)] == [1, 1]
        return
    assert [trial.most_rows for trial in prepare(together)] == [None, None]
    stacked, _ = trained(*together)
    for number, config in enumerate(configs):
        for key, value in final(config).items():
            found = stacked.models[number, "last"][key]
            assert found.dtype == value.dtype
            torch.testing.assert_close(found, value, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_gone_on_with(kind: str, tmp_path: Path) -> None:
    assert_same(prepare([custom(kind, "adamw", evaluation=MOVING)]), 11, tmp_path)
    if kind not in ALONE:
        pair = [custom(kind, lr=lr, stack_networks="true", evaluation=MOVING) for lr in (0.01, 0.1)]
        assert_same(prepare(pair), 11, tmp_path)


@pytest.mark.parametrize("name", [*BUILT_IN, *CUSTOM])
def test_frozen_parameters_stay_frozen(name: str) -> None:
    """To the bit, under a decay that would halve them, alone and in a stack."""
    if name in CUSTOM:
        optimizer = CustomOptimizerConfig(path=name, options={"weight_decay": 0.5})
    else:
        optimizer = optimizer_config(name, weight_decay=0.5)
    config = replace(custom("frozen"), optimizer=optimizer, save_models=True)
    weight = initial("frozen")["first.weight"]
    assert torch.equal(final(config)["first.weight"], weight)
    stacked, _ = trained(*[replace(config, lr=lr, stack_networks="true") for lr in (0.05, 0.1)])
    assert torch.equal(stacked.models[1, "last"]["first.weight"], weight)
    assert not torch.equal(
        stacked.models[1, "last"]["last.weight"], initial("frozen")["last.weight"]
    )


@pytest.mark.parametrize("name", ["adamw", "sgdw", "momentum", "torch.optim.AdamW"])
def test_parameters_without_gradient_stay_as_in_torch(name: str) -> None:
    """No decay either, alone and in a stack."""
    if "." in name:
        optimizer = CustomOptimizerConfig(path=name, options={"weight_decay": 0.5})
    else:
        optimizer = optimizer_config(name, weight_decay=0.5)
    config = replace(custom("idle"), optimizer=optimizer, save_models=True)
    stacked, _ = trained(*[replace(config, lr=lr, stack_networks="true") for lr in (0.05, 0.1)])
    for state in (final(config), stacked.models[1, "last"]):
        assert torch.equal(state["idle.weight"], initial("idle")["idle.weight"])
        assert not torch.equal(state["last.weight"], initial("idle")["last.weight"])


def test_frozen_parameters_are_counted_as_such() -> None:
    frozen, plain = prepare([custom("frozen"), custom("plain")])
    total = 4 * 8 + 8 + 8 * 3 + 3
    assert plain.facts == {"parameters": total}
    assert plain.model_size == total
    assert frozen.facts == {"parameters": total, "trained_parameters": total - 32}
    assert frozen.model_size == total - 32


def test_identity_changes_only_where_frozen_parameters_moved() -> None:
    ids = {}
    for decay in (0.0, 0.1):
        config = replace(custom("frozen"), optimizer=optimizer_config("adamw", weight_decay=decay))
        task = make_task(config)
        assert task.frozen  # pyright: ignore[reportAttributeAccessIssue]
        ids[decay] = prepare([config])[0]
    assert ids[0.0].trial_id != ids[0.1].trial_id


def test_nothing_to_train_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Custom.model
    monkeypatch.setattr(Custom, "model", lambda self: model(self).requires_grad_(False))
    with pytest.raises(ConfigError, match="Net: has no parameter that requires a gradient"):
        prepare([custom("plain")])


def test_a_tied_weight_is_one_weight() -> None:
    [trial] = prepare([custom("tied")])
    assert trial.facts["parameters"] == 4 * 8 + 8 + 64 + 8 + 8 + 24 + 3
    state = final(custom("tied", "adam"))
    assert torch.equal(state["middle.weight"], state["again.weight"])


def test_a_mask_of_minus_infinity_trains() -> None:
    memory, [result] = trained(custom("mask"))
    assert result.diverged_step is None
    assert memory.curves[0][-1][1] < 0.9 * memory.curves[0][0][1]


def test_integers_are_exact() -> None:
    """2^24 + 1 is not a float32; the counter goes on from it, alone, stacked and resumed."""
    state = final(custom("integers"))
    assert state["large"].dtype == torch.int64
    assert state["large"] > 2**24 + 30
    assert state["used"].dtype == torch.bool
    assert torch.equal(state["order"].sort().values, torch.arange(8))


def test_batch_norm_counts_its_batches() -> None:
    """With momentum=None the running mean is that of all batches: the counter decides it."""
    state = final(custom("norm", evaluation=MOVING))
    assert state["norm.num_batches_tracked"] == 30
    assert state["norm.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_complex_numbers_keep_their_kind(precision: str) -> None:
    task = make_task(custom("complex", precision=precision))
    params = task.initial_params([0])
    kind = {"float64": torch.complex128, "bf16": torch.complex64}[precision]
    assert task.shaped(params | {"weights": params["weights"][0]})["wave"].dtype == kind  # pyright: ignore
    assert any(leaf.dtype == kind for leaf in params.values())
    assert trained(custom("complex", precision=precision, lr=0.02))[1][0].diverged_step is None


def test_one_backbone_for_all_networks() -> None:
    """Trials start from it as it was loaded, whatever trials before have trained."""
    config = custom(problem="Shared", lr=0.1)
    first = trained(config)[0].curves[0]
    assert first[-1][1] < first[0][1]
    assert trained(replace(config, seed=1))[0].curves[0][0] == first[0]
    assert trained(config)[0].curves[0] == first
    assert Shared().model() is not None


@pytest.mark.parametrize(
    ("kind", "what"),
    [("bad_loss", "training loss"), ("bad_gradient", "gradient of first.weight")],
)
def test_what_is_not_finite_is_named(kind: str, what: str) -> None:
    memory, [result] = trained(custom(kind))
    assert result.diverged_step == 1
    assert result.not_finite == what
    assert memory.outcomes[0].not_finite == what


def test_a_parameter_that_is_not_finite_is_named() -> None:
    config = custom("plain", lr=1e38, divergence_factor=1e300)
    _, [result] = trained(config)
    assert result.not_finite in ("first.weight", "training loss", "held-out loss")
    assert trained(custom("plain"))[1][0].not_finite is None
