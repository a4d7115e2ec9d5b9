"""Noise scale: estimators against their definitions, closed forms over whole runs, and refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scaling import schema
from scaling.config import BudgetConfig, EvaluationConfig, NoiseScaleConfig, TrialConfig
from scaling.limits import ConfigError
from scaling.noise_scale import (
    as_if_replaced,
    example_moments,
    jackknife_error,
    part_moments,
    products,
    ratio_error,
)
from scaling.tasks.config import LinearRegressionConfig
from scaling.tasks.make import make_task
from scaling.tasks.task import NoiseTask, noise_task
from scaling.trial import prepare
from tests.scaling.record.test_checkpoint import go_on, stop_at
from tests.scaling.tasks.test_supervised import blobs, run
from tests.scaling.trials import Memory, finite_task, regression_trial, trained

NOISE = NoiseScaleConfig("both", interval_steps=1, parts=4, window_steps=16, examples=32)


def gradients(n_trials: int, k: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n_trials, k, 5), generator=generator, dtype=torch.float64) + 0.7


def test_parts_give_the_nested_two_batch_estimator() -> None:
    parts = gradients(3, 6)
    b, k = 8, 6
    found = part_moments(products(parts), b)
    small = parts.square().sum(-1).mean(1)  # g_b
    large = parts.mean(1).square().sum(-1)  # g_B, B = k b
    torch.testing.assert_close(found["square"], (k * b * large - b * small) / (k * b - b))
    torch.testing.assert_close(found["trace"], (small - large) / (1 / b - 1 / (k * b)))
    every = torch.einsum("rip,rjp->rij", parts, parts)
    pairs = (every.sum((1, 2)) - every.diagonal(dim1=1, dim2=2).sum(1)) / (k * (k - 1))
    torch.testing.assert_close(found["square"], pairs)


def test_a_weak_signal_is_reported_negative() -> None:
    opposed = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    found = part_moments(products(opposed), 3)
    assert found["square"].item() == -1.0
    assert found["trace"].item() == 6.0


def test_examples_are_parts_of_one_and_each_can_be_left_out() -> None:
    single = gradients(2, 7)
    found, without = example_moments(single)
    for name, value in part_moments(products(single), 1).items():
        torch.testing.assert_close(found[name], value)
    for j in range(7):
        rest = part_moments(products(torch.cat([single[:, :j], single[:, j + 1 :]], 1)), 1)
        for name, value in rest.items():
            torch.testing.assert_close(without[name][j], value)


def test_standard_errors_are_the_spread_of_repetitions() -> None:
    single = gradients(4000, 24)
    found, without = example_moments(single)
    ratios = found["trace"] / found["square"]
    errors = jackknife_error(without["trace"] / without["square"])
    assert errors.mean().item() == pytest.approx(ratios.std().item(), rel=0.15)
    steps = gradients(4000 * 20, 4, seed=1).unflatten(0, (20, 4000)).flatten(0, 1)
    moments = {k: v.view(20, 4000) for k, v in part_moments(products(steps), 8).items()}
    pooled = moments["trace"].mean(0) / moments["square"].mean(0)
    of_windows = ratio_error(moments["trace"], moments["square"])
    assert of_windows.mean().item() == pytest.approx(pooled.std().item(), rel=0.15)


@pytest.mark.parametrize(
    "task",
    [LinearRegressionConfig(dimension=5, label_noise=0.5), finite_task(loss_scale=0.5)],
    ids=["streaming", "finite"],
)
def test_part_gradients_and_moments_of_regression(task) -> None:
    made = make_task(regression_trial(task=task, precision="float64"))
    of = noise_task(made, regression_trial(task=task))
    generator = torch.Generator().manual_seed(1)
    params = of.initial_params([0] * 32)
    params["weights"] += torch.randn(params["weights"].shape, generator=generator).double()
    inputs, labels = of.streams([3, 4], 7).next()
    parts = of.part_gradients(params, (inputs, labels), 3)
    for part in range(3):
        rows = slice(2 * part, 2 * part + 2)
        _, expected = of.losses_and_gradients(params, (inputs[:, rows], labels[:, rows]))
        torch.testing.assert_close(parts[:, part], expected["weights"])
    assert_moments_of_many(of, params)


def assert_moments_of_many(of: NoiseTask, params: dict[str, torch.Tensor]) -> None:
    """Closed forms against 200,000 examples' gradients, of the first row."""
    examples = of.fresh_examples(torch.Generator().manual_seed(0), 200_000)
    one_tile = {"weights": params["weights"][: of.tile_width]}
    single = of.part_gradients(one_tile, tuple(leaf[None] for leaf in examples), 200_000)[:1]
    exact = of.exact_moments(one_tile)
    assert exact is not None
    curved = of.curvature_root(single)
    assert curved is not None
    for kind, vectors in (("simple", single), ("noise", curved)):
        found, without = example_moments(vectors)
        for name, value in found.items():
            z = (value - exact[kind][name][0]) / jackknife_error(without[name])
            assert abs(z.item()) < 4.5


def test_batches_without_replacement_are_put_right() -> None:
    """Over all pairs of 24 examples; at the whole data |G|^2 is that of the mean exactly."""
    task = finite_task(sampling="without_replacement")
    of = noise_task(make_task(regression_trial(task=task)), regression_trial(task=task))
    params = of.initial_params([0] * 32)
    exact = of.exact_moments(params)
    assert exact is not None
    whole = of.part_gradients(params, of.streams([0, 1], 24).next(), 24)
    found = as_if_replaced(part_moments(products(whole), 1), of.distinct_examples)
    for name in ("trace", "square"):
        torch.testing.assert_close(found[name], exact["simple"][name], rtol=1e-5, atol=1e-6)
    raw = part_moments(products(whole), 1)
    assert raw["square"][0] < exact["simple"]["square"][0]


def records(memory: Memory, estimator: str) -> list[tuple[int, dict[str, float]]]:
    """(step, quantity -> value) of all trials where this estimator was recorded."""
    prefix = schema.noise_metric(estimator, "")
    found = []
    for of_trial in memory.metrics.values():
        for step, metrics in of_trial.items():
            own = {key[len(prefix) :]: v for key, v in metrics.items() if key.startswith(prefix)}
            if own:
                found.append((step, own))
    return found


@pytest.mark.parametrize("estimator", ["parts", "examples"])
@pytest.mark.parametrize(
    ("batch_size", "lr"), [(8, 0.1), pytest.param(64, 0.3, marks=pytest.mark.long)]
)
def test_closed_forms_hold_over_the_whole_run(estimator: str, batch_size: int, lr: float) -> None:
    """z of every estimate at every record of 16 seeds, from the first steps to the noise floor."""
    noise = replace(NOISE, window_steps=64, examples=256)
    config = regression_trial(max_steps=1200, batch_size=batch_size, lr=lr, noise_scale=noise)
    memory, _ = trained(*[replace(config, seed=seed) for seed in range(16)])
    found = records(memory, estimator)
    assert max(step for step, _ in found) > 900
    if estimator == "examples":
        assert min(step for step, _ in found) == 0
    assert len(found) >= 16 * 15
    for kind in ("simple", "noise"):
        for name in ("trace", "square"):
            z = np.array(
                [
                    (of[f"{kind}_{name}"] - of[f"exact_{kind}_{name}"]) / of[f"{kind}_{name}_se"]
                    for _, of in found
                ]
            )
            # weak signals are skewed, and a low estimate has a low error; pooled ones below are not
            assert (np.abs(z) < 2).mean() > 0.83, (kind, name)
            assert (np.abs(z) < 6).mean() > 0.98, (kind, name)
        strong = [of for _, of in found if of[f"{kind}_square"] > 6 * of[f"{kind}_square_se"]]
        z = np.array([(of[kind] - of[f"exact_{kind}"]) / of[f"{kind}_se"] for of in strong])
        if len(z) > 30:
            assert (np.abs(z) < 2.5).mean() > 0.85, kind


@pytest.mark.parametrize("batch_size", [8, pytest.param(64, marks=pytest.mark.long)])
def test_all_estimators_agree_when_averaged_over_seeds(batch_size: int) -> None:
    """Means over 64 seeds at every record: tr Sigma, |G|^2, and the ratio of both, N - r D = 0."""
    config = regression_trial(max_steps=600, batch_size=batch_size, lr=0.1, noise_scale=NOISE)
    memory, _ = trained(*[replace(config, seed=seed) for seed in range(64)])
    for estimator, kind in itertools.product(("parts", "examples"), ("simple", "noise")):
        found = records(memory, estimator)
        steps = sorted({step for step, _ in found})
        assert len(steps) > 10
        z = np.array([z_of_means([of for at, of in found if at == step], kind) for step in steps])
        assert (np.abs(z) < 2).mean() > 0.85, (estimator, kind)
        assert np.abs(z).max() < 5, (estimator, kind)


def z_of_means(own: list[dict[str, float]], kind: str) -> list[float]:
    trace, square, exact_trace, exact_square = (
        np.array([of[f"{name}_{part}"] for of in own])
        for name in (kind, f"exact_{kind}")
        for part in ("trace", "square")
    )
    off_trace, off_square = trace - exact_trace, square - exact_square
    off_ratio = off_trace - exact_trace.mean() / exact_square.mean() * off_square
    return [
        float(off.mean() / (off.std(ddof=1) / len(own) ** 0.5))
        for off in (off_trace, off_square, off_ratio)
    ]


def test_measuring_changes_nothing_that_is_trained() -> None:
    for config in (regression_trial(max_steps=60), blobs(options={"norm": "none"})):
        measured = replace(config, noise_scale=replace(NOISE, window_steps=2, examples=8))
        (plain, _), (with_noise, _) = trained(config), trained(measured)
        assert plain.curves == with_noise.curves
        assert records(with_noise, "parts")
        assert records(with_noise, "examples")
    batch_norm = blobs()
    measured = replace(batch_norm, noise_scale=replace(NOISE, measure="parts"))
    assert run(batch_norm)[0].curves == run(measured)[0].curves


@pytest.mark.parametrize("step", [7, 21])
def test_what_was_measured_survives_an_interruption(step: int, tmp_path: Path) -> None:
    config = regression_trial(max_steps=50, batch_size=8, noise_scale=replace(NOISE, ratio=1.5))
    trials = prepare([replace(config, seed=seed) for seed in (0, 1)])
    whole, _ = trained(*[trial.config for trial in trials])
    stopped = stop_at(step, trials, tmp_path)
    merged, _ = go_on(trials, stopped)
    for number in (0, 1):
        again = stopped.metrics[number] | merged.metrics[number]
        assert again == whole.metrics[number]


def test_gradients_of_parts_of_a_network() -> None:
    config = blobs(options={"norm": "none"}, precision="float64")
    of = noise_task(make_task(config), config)
    params = of.initial_params([1])
    batch = of.streams([1], 12).next()
    in_turn = of.part_gradients(params, batch, 3)
    for part in range(3):
        rows = (batch[0][:, 4 * part : 4 * part + 4],)
        _, expected = of.losses_and_gradients(params, rows)
        torch.testing.assert_close(in_turn[:, part], expected["weights"])
    single = of.part_gradients(params, batch, 12)
    torch.testing.assert_close(single.unflatten(1, (3, 4)).mean(2), in_turn)
    two = {key: leaf.repeat(2, 1) for key, leaf in params.items()}
    together = of.part_gradients(two, (batch[0].repeat(2, 1),), 3)
    torch.testing.assert_close(together, in_turn.repeat(2, 1, 1))


def test_micro_batches_are_the_parts() -> None:
    noise = NoiseScaleConfig("parts", interval_steps=1, window_steps=2)
    config = blobs(options={"norm": "none"}, micro_batch_size=4, noise_scale=noise)
    four = replace(config, micro_batch_size=None, noise_scale=replace(noise, parts=4))
    (micro, _), (parts, _) = run(config), run(four)
    first, second = records(micro, "parts")[0][1], records(parts, "parts")[0][1]
    assert first["simple"] == pytest.approx(second["simple"], rel=1e-3)
    assert "noise" not in first
    assert "exact_simple" not in first


def test_a_batch_of_one_has_no_parts() -> None:
    memory, _ = trained(regression_trial(batch_size=1, noise_scale=NOISE))
    assert not records(memory, "parts")
    assert records(memory, "examples")


def test_noise_scale_is_a_part_of_a_trial_only_where_it_is_measured() -> None:
    config = regression_trial()
    other = replace(config, noise_scale=NoiseScaleConfig("none", parts=7))
    measured = replace(config, noise_scale=NoiseScaleConfig("parts"))
    first, second, third = (trial.trial_id for trial in prepare([config, other, measured]))
    assert first == second != third


def test_single_examples_under_batch_norm_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"noise_scale.measure=both: with batch normal.*use parts"
    ):
        prepare([blobs(noise_scale=NOISE)])


@pytest.mark.parametrize(
    ("change", "key"),
    [({"measure": "all"}, "measure"), ({"parts": 1}, "parts"), ({"examples": 2}, "examples"),
     ({"interval_steps": 0}, "interval_steps"), ({"ratio": 1.0}, "ratio")],
)  # fmt: skip
def test_bad_values_are_named(change: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=f"noise_scale.{key}="):
        prepare([regression_trial(noise_scale=replace(NOISE, **change))])


def test_by_default_every_256th_step_of_regression_is_measured() -> None:
    noise = NoiseScaleConfig("parts")
    trial: TrialConfig = regression_trial(
        noise_scale=noise, budget=BudgetConfig(2100), evaluation=EvaluationConfig(1, 1.01)
    )
    memory, _ = trained(trial)
    steps = [step for step, _ in records(memory, "parts")]
    assert len(steps) == 2
    assert 1024 <= steps[0] < 1040
    assert 2048 <= steps[1] < 2090
