"""What a network draws is its trial's own: on any worker, in any order, after any interruption."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scaling import draws
from scaling.config import EvaluationConfig, NoiseScaleConfig
from scaling.limits import ConfigError
from scaling.stack import group_into_stacks
from scaling.tasks.make import make_task
from scaling.trial import prepare
from tests.scaling.record.test_checkpoint import assert_same
from tests.scaling.trials import custom, trained

DRAWING = ["dropout", "dropout_norm", "augmented", "always", "numpy", "python"]


def disturb() -> None:
    """What another trial, or anything else in this process, does to the global generators."""
    torch.rand(3)
    np.random.normal(size=3)  # noqa: NPY002
    random.random()


@pytest.mark.parametrize("kind", DRAWING)
def test_the_same_bits_whatever_was_drawn_before(kind: str) -> None:
    config = custom(kind)
    first, _ = trained(config)
    disturb()
    trained(custom("dropout", seed=5))
    before = draws.position()
    again, _ = trained(config)
    assert again.curves == first.curves
    assert draws.position() == before
    assert trained(replace(config, seed=1))[0].curves[0][1:] != first.curves[0][1:]


@pytest.mark.parametrize("kind", DRAWING)
@pytest.mark.parametrize("step", [1, 13])
def test_stopped_and_gone_on_with(kind: str, step: int, tmp_path: Path) -> None:
    disturb()
    assert_same(prepare([custom(kind, "adam")]), step, tmp_path)


@pytest.mark.parametrize("kind", DRAWING)
def test_asked_to_stack_it_trains_alone(kind: str) -> None:
    configs = [custom(kind, stack_networks="true", lr=lr) for lr in (0.01, 0.1, 0.2)]
    assert len(group_into_stacks(prepare(configs), 1024)) == 3
    assert trained(configs[1])[0].curves == trained(custom(kind, lr=0.1))[0].curves
    others = [replace(config, task=custom("mask").task) for config in configs]
    assert len(group_into_stacks(prepare(others), 1024)) == 1


@pytest.mark.parametrize("kind", DRAWING)
def test_evaluating_does_not_disturb_training(kind: str) -> None:
    """With batch norm's statistics recomputed too, which draws in training mode."""
    often, seldom = (
        custom(kind, evaluation=EvaluationConfig(every, ratio))
        for every, ratio in ((30, 2), (1, 30))
    )
    ends = [trained(config)[0].curves[0][-1][1] for config in (often, seldom)]
    assert ends[0] == ends[1]
    measured = NoiseScaleConfig("parts", interval_steps=3, window_steps=2)
    assert trained(replace(often, noise_scale=measured))[0].curves == trained(often)[0].curves


def test_measuring_repeats() -> None:
    measure = NoiseScaleConfig("both", interval_steps=3, window_steps=2, examples=8)
    config = custom("dropout", noise_scale=measure)
    first = trained(config)[0].metrics
    disturb()
    assert trained(config)[0].metrics == first
    assert any("parts" in key for found in first[0].values() for key in found)


def test_an_evaluation_that_draws_draws_the_same_every_time() -> None:
    """At lr next to nothing the curve is flat, although every input is scaled at random."""
    losses = [row[1] for row in trained(custom("always", lr=1e-30))[0].curves[0]]
    assert len(set(losses)) == 1


def test_dropout_is_dropout() -> None:
    """Masks differ between steps, and are those of torch."""
    task = make_task(custom("dropout"))
    params, batch = task.initial_params([0]), (torch.arange(8)[None],)
    losses = []
    for step in range(200):
        draws.seed_draws(draws.TRAINING, 0, 8, step)
        own_params = {key: leaf.clone() for key, leaf in params.items()}
        losses.append(task.losses_and_gradients(own_params, batch)[0].item())
    assert len(set(losses)) == 200
    torch.manual_seed(0)
    plain = [task.losses_and_gradients(params, batch)[0].item() for _ in range(200)]
    error = np.hypot(np.std(losses), np.std(plain)) / 200**0.5
    assert abs(np.mean(losses) - np.mean(plain)) < 4 * error


def test_a_loss_that_draws() -> None:
    config = custom("plain", options={"noisy_loss": True})
    first = trained(config)[0].curves
    disturb()
    assert trained(config)[0].curves == first


def test_data_drawn_when_the_task_is_made_are_the_same_in_every_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [first] = prepare([custom(problem="Drawn")])
    monkeypatch.setattr("scaling.tasks.custom._problems", {})  # as in another process
    disturb()
    [second] = prepare([custom(problem="Drawn")])
    assert first.trial_id == second.trial_id


def test_identity_tells_what_drew_without_a_seed_from_what_never_drew() -> None:
    plain, dropout = (prepare([custom(kind)])[0] for kind in ("plain", "dropout"))
    assert plain.most_rows == dropout.most_rows == 1
    task = make_task(plain.config)
    assert not task.seen_to_draw  # pyright: ignore[reportAttributeAccessIssue]
    assert make_task(dropout.config).seen_to_draw  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("kind", ["generator", "counter"])
def test_what_no_seed_repeats_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="Net: gives a different gradient for the same") as caught:
        prepare([custom(kind)])
    assert "\n" not in str(caught.value)


def test_every_generator_follows_the_key_and_goes_on_outside() -> None:
    disturb()
    before = draws.position()
    drawn = []
    for key in ((draws.TRAINING, 1), (draws.TRAINING, 1), (draws.TRAINING, 2)):
        with draws.drawing(*key):
            numbers = torch.rand(2).tolist(), np.random.rand(), random.random()  # noqa: NPY002
            drawn.append(numbers)
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[1], drawn[2], strict=True))
    assert draws.position() == before
