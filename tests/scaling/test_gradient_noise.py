"""The meter of anybody's own loop: the studies' estimator, closed forms, coverage, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from scaling.gradient_noise import GradientNoise
from scaling.noise_scale import part_moments, products

SPECTRUM = 1 / torch.arange(1, 9, dtype=torch.float64)
LABEL_NOISE = 0.5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def loss_of(model: nn.Module, inputs: Tensor) -> Tensor:
    return (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()


def inputs_of(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((*shape, 8), generator=generator, dtype=torch.float64)


def stacked_gradients(model: nn.Module, parts: Tensor | list[Tensor]) -> list[Tensor]:
    """Leaves [k, ..]"""
    leaves = list(model.parameters())
    separate = [torch.autograd.grad(loss_of(model, inputs), leaves) for inputs in parts]
    return [torch.stack(of_leaf) for of_leaf in zip(*separate, strict=True)]


def accumulate(noise: GradientNoise, model: nn.Module, parts: Tensor | list[Tensor]) -> None:
    """One step, each micro-batch's loss multiplied by its share of the examples."""
    model.zero_grad()
    n_examples = sum(map(len, parts))
    for inputs in parts:
        (loss_of(model, inputs) * len(inputs) / n_examples).backward()
        noise.after_backward(len(inputs))
    noise.step()


def same(found: dict[str, float], expected: dict[str, float], rel: float = 1e-10) -> None:
    assert found == pytest.approx(expected, rel=rel, nan_ok=True)


def test_micro_batches_and_given_gradients_are_the_studies_estimator() -> None:
    model = network()
    by_steps, by_gradients = GradientNoise(model.parameters()), GradientNoise()
    moments = []
    for parts in inputs_of(5, 4, 6):
        accumulate(by_steps, model, parts)
        leaves = stacked_gradients(model, parts)
        by_gradients.add(leaves, n_examples=6)
        flat = torch.cat([leaf.flatten(1) for leaf in leaves], 1)
        moments.append(part_moments(products(flat[None]), 6))
    trace, square = (torch.cat([of[name] for of in moments]).mean() for name in ("trace", "square"))
    found = by_steps.estimate()
    same(found, by_gradients.estimate())
    assert (found["trace"], found["square"]) == pytest.approx((trace.item(), square.item()))
    assert found["noise_scale"] == pytest.approx((trace / square).item())
    assert found["low"] < found["noise_scale"] < found["high"]
    assert (found["n_steps"], found["n_skipped"]) == (5, 0)
    assert all(type(value) is float for value in found.values())


def test_float32_gradients_are_told_apart_in_sums() -> None:
    model = network()
    exact, rounded = (
        GradientNoise(model.parameters()),
        GradientNoise((single := network().float()).parameters()),
    )
    for parts in inputs_of(5, 16, 6):
        accumulate(exact, model, parts)
        accumulate(rounded, single, parts.float())
    same(rounded.estimate(), exact.estimate(), rel=1e-4)


@pytest.mark.parametrize("feed", ["micro_batches", "examples"])
def test_closed_form_of_linear_regression(feed: str) -> None:
    """|G|^2 = 4 |L D|^2 and tr Sigma = 4 [(D'LD + sigma^2) tr L + |L D|^2], x ~ N(0, L)."""
    model = nn.Linear(8, 1, bias=False).double()
    nn.init.constant_(model.weight, 0.7)  # = D: the labels are noise alone

    def loss(params: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return (functional_call(model, params, (inputs,)) - labels).square().mean()

    noise = GradientNoise(model.parameters(), window=None)
    params: dict[str, Tensor] = dict(model.named_parameters())
    inputs = inputs_of(400, 4, 8) * SPECTRUM.sqrt()
    labels = LABEL_NOISE * inputs_of(400, 4, 8, seed=2)[..., :1]
    of_examples = vmap(grad(loss), in_dims=(None, 0, 0))
    for x, y in zip(inputs, labels, strict=True):
        if feed == "examples":
            noise.add(of_examples(params, x.flatten(0, 1), y.flatten(0, 1)))
            continue
        model.zero_grad()
        for part, target in zip(x, y, strict=True):
            (loss(params, part, target) / 4).backward()
            noise.after_backward(8)
        noise.step()
    pull = (SPECTRUM * 0.7).square().sum()
    risk = (SPECTRUM * 0.7**2).sum()
    trace = 4 * ((risk + LABEL_NOISE**2) * SPECTRUM.sum() + pull)
    found = noise.estimate()
    assert found["trace"] == pytest.approx(trace.item(), rel=0.05)
    assert found["square"] == pytest.approx(4 * pull.item(), rel=0.05)
    assert found["low"] < (trace / (4 * pull)).item() < found["high"]
    assert found["high"] / found["low"] < 1.2


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(0, 99), st.floats(0.1, 1e4))
@settings(deadline=None, max_examples=30)
def test_parts_of_unequal_sizes(sizes: list[int], seed: int, scale: float) -> None:
    """sum_j b_j |g_j - gbar|^2 / (k - 1), and |gbar|^2 less the share of that in it."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn((len(sizes), 5), generator=generator, dtype=torch.float64)
    noise, leaf = GradientNoise(), nn.Parameter(torch.zeros(5, dtype=torch.float64))
    noise.add({"weight": gradients, "none": None}, sizes)
    weights = torch.tensor(sizes, dtype=torch.float64)[:, None]
    mean = (weights * gradients).sum(0) / weights.sum()
    trace = (weights * (gradients - mean).square()).sum() / (len(sizes) - 1)
    found = noise.estimate()
    assert found["trace"] == pytest.approx(trace.item(), abs=1e-9)
    assert found["square"] == pytest.approx(
        (mean.square().sum() - trace / sum(sizes)).item(), abs=1e-9
    )
    in_sums = GradientNoise([leaf], weighted=True)
    for part, size in zip(gradients, sizes, strict=True):
        (scale * size / sum(sizes) * (leaf @ part)).backward()
        in_sums.after_backward(size)
    in_sums.step(loss_scale=scale)
    same(in_sums.estimate(), found, rel=1e-6)


def test_unequal_sizes_are_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([2.0, 5.0, 11.0], dtype=torch.float64)
    noise = GradientNoise(window=None)
    for _ in range(2000):
        drawn = torch.randn((3, 10), generator=generator, dtype=torch.float64)
        noise.add([0.5 + drawn / sizes.sqrt()[:, None]], sizes.tolist())
    found = noise.estimate()
    assert found["trace"] == pytest.approx(10, rel=0.02)
    assert found["square"] == pytest.approx(2.5, rel=0.05)


def coverage(n_simulations: int, n_steps: int, signal: float, decay: float = 0.0) -> float:
    """Share of intervals of 3 planted Gaussian parts of 8 with the ratio of the true means.

    |G|^2 falls to exp(-2 decay) of its start along the window. Where nothing is known, the interval
    is the whole line."""
    random = np.random.default_rng(7)
    spread = np.linspace(0.5, 1.5, 30)
    path = signal * np.exp(-decay * np.linspace(0, 1, n_steps))
    true = (spread**2).sum() / (30 * path**2).mean()
    covered = 0
    for _ in range(n_simulations):
        noise = GradientNoise()
        for level in path:
            parts = level + spread * random.standard_normal((3, 30)) / 8**0.5
            noise.add([torch.from_numpy(parts)], n_examples=8)
        found = noise.estimate()
        least = found["low"] if found["low"] == found["low"] else found["at_least"]
        covered += not (true < least or true > found["high"])
    return covered / n_simulations


def test_intervals_cover_about_95_of_100() -> None:
    assert 0.89 <= coverage(100, n_steps=16, signal=0.2) <= 0.99


@pytest.mark.long
@pytest.mark.parametrize(
    ("n_steps", "signal"), [(12, 0.2), (64, 0.2), (24, 1.0), (64, 0.05)],
    ids=["few steps", "a full window", "strong", "too weak to see"],
)  # fmt: skip
def test_intervals_cover_95_percent(n_steps: int, signal: float) -> None:
    assert 0.93 <= coverage(600, n_steps, signal) <= 0.97


@pytest.mark.long
def test_a_drift_only_widens_the_interval() -> None:
    assert coverage(600, n_steps=64, signal=0.4, decay=1.0) >= 0.94


def test_an_interval_without_upper_end_and_nothing_known() -> None:
    noise = GradientNoise()
    unknown = noise.estimate()
    assert unknown["n_steps"] == 0
    assert math.isnan(unknown["noise_scale"])
    drawn = inputs_of(20, 3)
    for parts in drawn:
        noise.add([parts + 0.05])
    found = noise.estimate()
    assert math.isnan(found["high"])
    assert found["at_least"] > 0
    one = GradientNoise()
    one.add([torch.tensor([[1.0, 0.0], [-1.0, 0.0]])], n_examples=3)
    assert one.estimate()["noise_scale"] == -6.0
    assert math.isnan(one.estimate()["low"])


def test_the_window_forgets() -> None:
    short, whole = GradientNoise(window=4), GradientNoise(window=None)
    steps = inputs_of(10, 3)
    for number, parts in enumerate(steps):
        short.add([parts + 1])
        if number >= 6:
            whole.add([parts + 1])
    same(short.estimate(), whole.estimate())


def test_training_stays_the_same_and_clipping_comes_after() -> None:
    weights = []
    for measured in (False, True):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        noise = GradientNoise(model.parameters())
        for parts in inputs_of(6, 2, 4):
            optimizer.zero_grad()
            for inputs in parts:
                (loss_of(model, inputs) / 2).backward()
                if measured:
                    noise.after_backward(4)
            if measured:
                noise.step()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
        weights.append(torch.cat([leaf.detach().flatten() for leaf in model.parameters()]))
    assert torch.equal(*weights)


def test_frozen_and_unused_parameters_do_not_count() -> None:
    model = network()
    of_last = GradientNoise(model[2].parameters())
    model[0].requires_grad_(False)
    unused = nn.Parameter(torch.zeros(3))
    frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
    frozen.grad = torch.ones(3)  # of before it was frozen
    of_all = GradientNoise([unused, frozen, *model.parameters()])
    for parts in inputs_of(3, 2, 4):
        for noise in (of_last, of_all):
            accumulate(noise, model, parts)
    same(of_all.estimate(), of_last.estimate())


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_a_step_that_is_not_finite_is_skipped_and_counted(wrong: float) -> None:
    model = network()
    noise, expected = GradientNoise(model.parameters()), GradientNoise(model.parameters())
    steps = inputs_of(4, 3, 4)
    for number, parts in enumerate(steps):
        if number == 1:
            broken = parts.clone()
            broken[1, 0, 0] = wrong
            accumulate(noise, model, broken)
        accumulate(noise, model, parts)
        accumulate(expected, model, parts)
    same(noise.estimate(), expected.estimate() | {"n_skipped": 1.0})


def test_batches_without_replacement_are_put_right() -> None:
    """Of the whole data |G|^2 is that of its mean, and tr Sigma the mean squared distance to it."""
    single = inputs_of(24) + 0.3
    noise = GradientNoise(distinct_examples=24)
    noise.add([single])
    found = noise.estimate()
    mean = single.mean(0)
    assert found["square"] == pytest.approx(mean.square().sum().item())
    assert found["trace"] == pytest.approx((single - mean).square().sum(1).mean().item())


def test_misuse_is_said_in_a_line() -> None:
    model = network()
    halves = list(inputs_of(2, 4))

    def refused(pattern: str, call) -> None:
        with pytest.raises(ValueError, match=pattern) as error:
            call()
        assert "\n" not in str(error.value)

    noise = GradientNoise(model.parameters())
    refused("no gradients: give parameters .* after loss.backward", lambda: noise.after_backward(4))
    refused("no gradients: call after_backward", noise.step)
    refused("one part only", lambda: accumulate(noise, model, halves[:1]))
    unequal = [halves[0], halves[1][:3]]
    refused("parts of 3 to 4 examples: make them equal", lambda: accumulate(noise, model, unequal))
    accumulate(noise, model, halves)  # and goes on
    refused("n_examples=0: must be above 0", lambda: noise.after_backward(0))
    noise.after_backward(4)
    refused("loss_scale=0.0", lambda: noise.step(loss_scale=0.0))
    refused("no gradients", lambda: GradientNoise().after_backward(4))
    refused("gradients of no parts", lambda: noise.add([]))
    refused(r"gradients of \[2, 3\] parts", lambda: noise.add([torch.ones(2, 1), torch.ones(3, 1)]))
    refused("one part only", lambda: noise.add([torch.ones(1, 5)]))
    refused("n_examples=.* or 2", lambda: noise.add([torch.ones(2, 5)], [1, 2, 3]))
    refused("window=1", lambda: GradientNoise(window=1))
    refused("distinct_examples=1", lambda: GradientNoise(distinct_examples=1))
    table = nn.Embedding(5, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    refused("sparse gradients", lambda: GradientNoise(table.parameters()).after_backward(1))
    assert noise.estimate()["n_steps"] == 1
