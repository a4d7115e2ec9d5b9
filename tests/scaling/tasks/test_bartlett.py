"""Batches that are drawn as their triangular factors have the distribution of drawn examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import scaling.trial
from scaling.config import BudgetConfig
from scaling.noise_scale import NoiseMeter
from scaling.tasks.bartlett import parts_with_sums_of, triangular_factors
from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.linear_regression import LinearRegression
from scaling.trial import prepare
from tests.scaling.trials import regression_trial

CONFIG = LinearRegressionConfig(
    dimension=5, spectrum_exponent=1.5, label_noise=0.7, true_weight=2.0
)
N = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def p_value(result: Any) -> float:
    return float(result.pvalue)


@pytest.mark.parametrize("batch_size", [6, 11, 40])
def test_products_are_wishart(batch_size: int) -> None:
    """Mean B I and variance B (1 + delta_ij) of T'T, each within 4.5 standard errors."""
    first, last = triangular_factors(generator(), N, batch_size, 5, torch.float64)
    factor = torch.cat([first, last[..., None]], -1)
    assert torch.equal(factor, factor.triu())
    assert (factor.diagonal(dim1=1, dim2=2) > 0).all()
    products = (factor.mT @ factor).numpy()
    off = products - batch_size * np.eye(6)
    for moment, expected in ((off, np.zeros((6, 6))), (off**2, batch_size * (1 + np.eye(6)))):
        error = moment.std(axis=0) / np.sqrt(N)
        assert (np.abs(moment.mean(axis=0) - expected) < 4.5 * error).all()


@pytest.mark.parametrize("batch_size", [10, 64])
def test_losses_and_gradients_are_distributed_as_of_examples(batch_size: int) -> None:
    """Kolmogorov-Smirnov tests of the loss and of gradients along all axes and at random."""
    task = LinearRegression(CONFIG, torch.float64)
    assert task.factored(batch_size)
    assert not task.factored(9)
    weights = torch.randn(task.tile_width, 5, generator=generator(), dtype=torch.float64)
    ours = task._draw_factors(generator(1), 4000, batch_size)
    plain = task._draw(generator(2), (4000, batch_size))
    assert ours[0].shape == (4000, 6, 5)
    directions = torch.cat([torch.eye(5), torch.randn(3, 5, generator=generator(3))]).double()

    def observed(batch: tuple[Tensor, ...]) -> np.ndarray:
        params = {"weights": weights.repeat(4000, 1)}
        losses, gradients = task.losses_and_gradients(params, batch)
        first_rows = gradients["weights"][:: task.tile_width]
        return torch.cat([losses[:: task.tile_width, None], first_rows @ directions.T], 1).numpy()

    for found, expected in zip(observed(ours).T, observed(plain).T, strict=True):
        assert p_value(stats.ks_2samp(found, expected)) > 1e-3


def test_parts_of_one_are_orthonormal_and_uniform() -> None:
    """An entry squared of a uniform direction in n dimensions is beta(1/2, (n - 1)/2)."""
    drawn = generator()
    entries = []
    for _ in range(3000):
        basis = parts_with_sums_of(torch.eye(3, dtype=torch.float64), 7, 7, drawn)
        torch.testing.assert_close(basis.mT @ basis, torch.eye(3, dtype=torch.float64))
        entries.append([basis[0, 0].item(), basis[6, 2].item()])
    for column in np.array(entries).T:
        assert p_value(stats.kstest(column**2, stats.beta(0.5, 3).cdf)) > 1e-3
        assert abs(np.sign(column).mean()) < 4.5 / np.sqrt(3000)


def test_examples_behind_a_factor() -> None:
    """They have its sums, and are as any examples: normal with the spectrum's variances."""
    task = LinearRegression(CONFIG, torch.float64)
    batch = task.streams(list(range(200)), 64).next()
    generators = [generator(seed) for seed in range(200)]
    inputs, labels = task.parts_of(batch, 64, 64, generators)
    assert inputs.shape == (200, 64, 5)
    assert labels.shape == (200, 64)
    torch.testing.assert_close(sums(inputs, labels) / 64, sums(*batch) / 6)
    noise = (labels - 2 * inputs.sum(-1)) / 0.7
    standard = inputs / task.eigenvalues.sqrt()
    for values in (noise, standard[..., 0], standard[..., 4]):
        assert p_value(stats.kstest(values.flatten().numpy(), "norm")) > 1e-3


def sums(inputs: Tensor, labels: Tensor) -> Tensor:
    """[x t]'[x t] of each tile."""
    whole = torch.cat([inputs, labels[..., None]], -1)
    return whole.mT @ whole


@pytest.mark.parametrize("n_parts", [2, 4, 16])
def test_parts_behind_a_factor(n_parts: int) -> None:
    """Parts larger and smaller than the factor: their sums make the whole, and those of one are
    distributed as those of drawn examples."""
    task = LinearRegression(CONFIG, torch.float64)
    batch = task.streams(list(range(2000)), 64).next()
    generators = [generator(10_000 + seed) for seed in range(2000)]
    inputs, labels = task.parts_of(batch, 64, n_parts, generators)
    n_rows = min(6, 64 // n_parts)
    assert inputs.shape == (2000, n_parts * n_rows, 5)
    torch.testing.assert_close(sums(inputs, labels) / (n_parts * n_rows), sums(*batch) / 6)
    first = sums(inputs[:, :n_rows], labels[:, :n_rows]) / n_rows
    plain = sums(*task._draw(generator(1), (2000, 64 // n_parts))) / (64 // n_parts)
    for i, j in ((0, 0), (0, 4), (4, 4), (2, 5), (5, 5)):
        assert p_value(stats.ks_2samp(first[:, i, j].numpy(), plain[:, i, j].numpy())) > 1e-3


def test_a_rest_of_the_batch_is_in_no_part() -> None:
    """Of 67 examples in 4 parts of 16: their sums are at most those of the batch."""
    rows = torch.eye(5, dtype=torch.float64)
    parts = parts_with_sums_of(rows, 67, 4, generator())
    assert parts.shape == (20, 5)
    within = torch.linalg.eigvalsh(parts.mT @ parts * 16 / 5)
    assert within.min() > 0
    assert within.max() < 1 + 1e-9
    means = [
        (lambda p: (p.mT @ p).trace() * 16 / 5 / 5)(parts_with_sums_of(rows, 67, 4, generator(s)))
        for s in range(2000)
    ]
    error = np.std(means) / np.sqrt(2000)
    assert abs(np.mean(means) - 64 / 67) < 4.5 * error


def test_parts_of_a_factored_batch_have_its_mean_gradient() -> None:
    config = regression_trial(batch_size=64, task=CONFIG, precision="float64")
    config = replace(config, noise_scale=replace(config.noise_scale, measure="parts", parts=4))
    task = LinearRegression(CONFIG, torch.float64)
    meter = NoiseMeter(task, prepare([config, replace(config, seed=1)]))
    members = np.repeat([0, 1], task.tile_width)
    batch = task.streams([0, 1], 64).next()
    params = task.initial_params([0] * len(members))
    parts = meter.observe(params, batch, members, 256)["simple"]  # g_i . g_j, [R, 4, 4]
    again = meter.observe(params, batch, members, 256)["simple"]
    alone = meter.observe(
        {"weights": params["weights"][:16]}, tuple(leaf[1:] for leaf in batch), members[16:], 256
    )["simple"]
    assert torch.equal(parts, again)
    assert torch.equal(parts[16:], alone)
    _, gradients = task.losses_and_gradients(params, batch)
    torch.testing.assert_close(parts.mean((1, 2)), gradients["weights"].square().sum(1))


def test_only_trials_with_factored_batches_have_a_new_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def identities() -> list[str]:
        configs = [
            regression_trial(batch_size=size, task=CONFIG, budget=BudgetConfig(5))
            for size in (9, 10, 64)
        ]
        return [trial.trial_id for trial in prepare(configs)]

    before = identities()
    monkeypatch.setattr(scaling.trial, "FACTORS_FORMAT", 2)
    assert [a == b for a, b in zip(before, identities(), strict=True)] == [True, False, False]
