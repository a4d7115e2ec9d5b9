"""The best batch size of a training length."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.measure.best_batch_size import best_batch_sizes, length_frame
from analysis.measure.final_losses import size_losses

RNG = np.random.default_rng(0)
SIZES = (8, 16, 32, 64, 128)


def sizes_of(loss, n_seeds: int = 1, n_bootstrap: int = 0):
    sizes = []
    for size in SIZES:
        rows = [
            (size, 0.1, seed, length / size, loss(size, length, seed), "")
            for length in (1280, 5120)
            for seed in range(n_seeds)
        ]
        columns = ["batch_size", "lr", "seed", "steps", "loss", "outcome"]
        runs = pd.DataFrame(rows, columns=pd.Index(columns))
        losses = size_losses(runs, n_bootstrap, RNG)
        assert losses is not None
        sizes.append(losses)
    return sizes


def bowl(size, length, seed):
    """Best at 20 and 40; a factor e costs 0.4 %."""
    return (1 + 100 / length) * np.exp(0.004 * np.log(size * 64 / length) ** 2)


def test_the_vertex_is_the_planted_batch_size_and_the_flat_range_is_exact() -> None:
    best = best_batch_sizes(sizes_of(bowl), {"net": "a"})
    assert best["net"].tolist() == ["a", "a"]
    assert best["examples"].tolist() == [1280, 5120]
    assert best["batch_size_refined"].to_numpy() == pytest.approx([20, 80], rel=1e-6)
    assert not best["batch_size_at_edge"].any()
    half = np.exp(np.sqrt(np.log(1.005) / 0.004))
    # read log-linear between the sizes tried, which lies inside of the bowl
    assert best["half_percent_high"].iloc[0] == pytest.approx(20 * half, rel=0.08)
    assert best["half_percent_high"].iloc[0] < 20 * half
    assert np.isnan(best["one_percent_low"].iloc[0])  # 8 is within 1 % as well


def test_the_smallest_or_largest_batch_size_is_at_the_edge() -> None:
    best = best_batch_sizes(sizes_of(lambda size, length, seed: 1 + size / length), {})
    assert best["batch_size"].tolist() == [8, 8]
    assert best["batch_size_at_edge"].all()


def test_intervals_come_from_seeds() -> None:
    rng = np.random.default_rng(1)

    def noisy(size, length, seed):
        return bowl(size, length, seed) * (1 + 1e-4 * rng.standard_normal())

    best = best_batch_sizes(sizes_of(noisy, 5, 200), {})
    assert (best["batch_size_low"] < [20, 80]).all()
    assert (best["batch_size_high"] > [20, 80]).all()
    assert (best["batch_size_high"] / best["batch_size_low"] < 1.2).all()
    frame = length_frame(sizes_of(noisy, 5, 200), {})
    assert ((frame["loss_low"] < frame["loss"]) & (frame["loss"] < frame["loss_high"])).all()
    few = length_frame(sizes_of(noisy, 2, 200), {})
    assert few["loss_low"].isna().all()


def test_lengths_of_other_roundings_are_compared() -> None:
    """1,280 examples in steps of 96: 13 steps, 1,248 of them."""
    sizes = sizes_of(bowl)
    odd = pd.DataFrame(
        {"batch_size": 96, "lr": 0.1, "seed": 0, "steps": [13.0, 54.0], "loss": 9.0, "outcome": ""}
    )
    more = size_losses(odd, 0, RNG)
    assert more is not None
    frame = length_frame([*sizes, more], {})
    assert frame.groupby("examples").size().tolist() == [1, 5, 6]


def test_the_interval_of_a_flat_optimum_has_all_that_may_be_best() -> None:
    """Four alike and one that is worse: noise alone says which of the four ends lowest. In 40
    repeats the interval must hold all of them nearly always, and never the worst."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(40):
        offset = {(s, n, k): 0.05 * rng.standard_normal() for s in SIZES for n in (1280, 5120)
                  for k in range(8)}  # fmt: skip

        def flat(size, length, seed, offset=offset):
            return (1.0 if size < 128 else 1.5) * np.exp(offset[size, length, seed])

        best = best_batch_sizes(sizes_of(flat, 8, 100), {})
        held += [(row["batch_size_low"], row["batch_size_high"]) for _, row in best.iterrows()]
    low, high = np.array(held).T
    assert (high < 128).all()
    for true in (8, 16, 32, 64):
        assert ((low <= true) & (true <= high)).mean() > 0.93
