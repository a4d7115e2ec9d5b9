"""Networks of several inputs that give dicts and dataclasses, alone, in stacks and by parts."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scaling.config import NoiseScaleConfig
from scaling.tasks.make import make_task
from scaling.tasks.nests import as_dtype, filled, mapped, tensors_of
from scaling.tasks.supervised import SupervisedTask
from scaling.trial import prepare
from tests.scaling import read_problems
from tests.scaling.tasks.test_read_examples import curve, reading
from tests.scaling.trials import trained

PROBLEMS = ["Keyed", "Pairs", "Sentences"]
Point = namedtuple("Point", "x y")
T = torch.tensor


def plain_loop(problem: Any, config: Any, steps: int) -> list[float]:
    """Losses of SGD in plain torch; the network is called as its user would call it."""
    torch.manual_seed(config.seed)
    model = problem.model().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    task: Any = make_task(config)
    stream = task.streams([config.seed], config.batch_size)
    losses = []
    for _ in range(steps):
        if isinstance(problem, read_problems.Sentences):
            stream.next()
            rows = stream._steps[stream._position - 1][0][0]
        else:
            rows = stream.next()[0][0]
        optimizer.zero_grad()
        match problem:
            case read_problems.Keyed():
                inputs, labels = problem.train
                out = model(inputs["input_ids"][rows], inputs["attention_mask"][rows].double())
                loss = nn.functional.cross_entropy(out.logits, labels[rows])
            case read_problems.Pairs():
                (left, right), labels = problem.train
                parts = [torch.as_tensor(one[rows.numpy()]).double() for one in (left, right)]
                loss = problem.loss(model(*parts), torch.as_tensor(labels)[rows])
            case _:
                batch = torch.utils.data.default_collate([problem.train[row] for row in rows])
                batch["attention_mask"] = batch["attention_mask"].double()
                loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("problem", PROBLEMS)
def test_equals_a_plain_loop(problem: str) -> None:
    config = reading(problem, precision="float64", seed=5, lr=0.2)
    losses = [row[2] for row in curve(config)[1:13]]
    plain = plain_loop(getattr(read_problems, problem)(), config, 12)
    assert losses == pytest.approx(plain, rel=1e-9)


def test_a_list_of_dicts_is_what_the_same_examples_in_memory_are() -> None:
    one, other = (
        [row[1:3] for row in curve(reading(problem))] for problem in ("Keyed", "Sentences")
    )
    assert one == other


@pytest.mark.parametrize(
    ("problem", "options"), [("Keyed", {}), ("Pairs", {"norm": True}), ("Sentences", {})]
)
def test_a_stack_equals_its_trials_alone(problem: str, options: dict[str, Any]) -> None:
    """With batch norm its statistics are recomputed on examples of two inputs."""
    configs = [
        reading(problem, options, seed=seed, lr=0.1, stack_networks="true", precision="float64")
        for seed in (0, 1)
    ]
    assert prepare(configs)[0].most_rows is None
    together = trained(*configs)[0].curves
    for number, config in enumerate(configs):
        alone, rows = (
            np.array(c[1:], dtype=float)[:, 1:3] for c in (curve(config), together[number])
        )
        np.testing.assert_allclose(rows, alone, rtol=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_parts_and_single_examples_have_the_gradient_of_the_batch(problem: str) -> None:
    config = reading(problem, precision="float64")
    task = make_task(config)
    assert isinstance(task, SupervisedTask)
    params, batch = task.initial_params([0]), task.streams([0], 8).next()
    whole = task.losses_and_gradients(params, batch)[1]["weights"].clone()
    for n_parts in (2, 8):
        parts = task.part_gradients(params, batch, n_parts)
        assert parts.shape[1] == n_parts
        torch.testing.assert_close(parts.mean(1), whole, rtol=1e-9, atol=1e-12)


def test_the_noise_scale_of_keyed_inputs_is_measured() -> None:
    noise = NoiseScaleConfig(measure="both", interval_steps=2, examples=8)
    metrics = trained(reading("Sentences", noise_scale=noise))[0].metrics[0]
    assert {"noise_scale/examples/simple", "noise_scale/parts/simple"} <= {
        name for measured in metrics.values() for name in measured
    }


def test_in_bf16_losses_get_outputs_in_float32() -> None:
    config = reading("Keyed", precision="bf16")
    task = make_task(config)
    assert isinstance(task, SupervisedTask)
    output = task.forward(task.new_module(0), task.examples(2)[0])
    assert output.logits.dtype == output.hidden_states[0].dtype == torch.float32
    assert curve(config)[-1][1] == pytest.approx(
        curve(replace(config, precision="float32"))[-1][1], 0.02
    )


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """A dict and a dataclass in one, as transformers has it: fields that are None are no keys."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.update({k: v for k, v in vars(self).items() if v is not None})


NESTS = [
    ModelOutput(logits=T([1.0])),
    {"b": T([1.0]), "a": (T([2.0]), [T([3]), "text", None])},
    OrderedDict(b=T([1.0]), a=T([2.0])),
    UserDict(b=T([1.0]), a=T([2.0])),
    Point(T([1.0]), {"z": T([2.0])}),
    read_problems.Output(None, T([1.0]), (T([2.0]),)),
    torch.max(torch.ones(2, 2), 0),
]


@pytest.mark.parametrize("nest", NESTS, ids=lambda nest: type(nest).__name__)
def test_nests_keep_their_kind_and_their_order(nest: Any) -> None:
    tensors = tensors_of(nest)
    doubled = mapped(lambda leaf: 2 * leaf, nest)
    assert type(doubled) is type(nest)
    assert [t.tolist() for t in tensors_of(doubled)] == [(2 * t).tolist() for t in tensors]
    again = filled(nest, tensors)
    assert all(a is b for a, b in zip(tensors_of(again), tensors, strict=True))
    assert {t.dtype for t in tensors_of(as_dtype(nest, torch.float64))} <= {
        torch.float64,
        torch.int64,
    }


def test_a_dict_that_is_a_dataclass_changes_as_both() -> None:
    changed = as_dtype(ModelOutput(logits=T([1.0])), torch.float64)
    assert changed["logits"].dtype == changed.logits.dtype == torch.float64
    assert list(changed) == ["logits"]


@pytest.mark.parametrize("nest", NESTS, ids=lambda nest: type(nest).__name__)
def test_what_does_not_change_is_not_rebuilt(nest: Any) -> None:
    assert as_dtype(nest, torch.float32) is nest


def test_the_order_of_keys_does_not_matter() -> None:
    template, other = {"a": T([0]), "b": T([1])}, {"b": T([3]), "a": T([2])}
    assert filled(template, tensors_of(other)) == {"a": T([2]), "b": T([3])}
