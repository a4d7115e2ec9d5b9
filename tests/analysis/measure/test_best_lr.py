"""Best lr: its mark at the edge, its interval, and lrs between batch sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.measure.best_lr import best_lr, lr_at, lr_interval, refined_lr

LRS = np.array([0.1, 0.2, 0.4, 0.8])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([9, 5, 6, 8], (1, False)),
        ([4, 5, 6, 8], (0, True)),
        ([9, 8, 6, 5], (3, True)),
        ([9, 8, 6, np.nan], (2, False)),  # the larger neighbour diverged: a stability edge
        ([np.nan, 8, 9, np.nan], (1, False)),
        ([np.nan] * 4, (-1, False)),
    ],
)
def test_best_lr_and_its_edge_mark(steps, expected):
    assert best_lr(LRS, np.array(steps, float)) == expected


def test_a_single_lr_is_an_edge():
    assert best_lr(LRS[:1], np.array([3.0])) == (0, True)


def test_interval_is_never_below_half_a_spacing():
    low, high = lr_interval(LRS, 1, np.full(100, 1))
    assert (low, high) == pytest.approx((0.2 / 2**0.5, 0.2 * 2**0.5))
    assert lr_interval(LRS, 1, np.full(100, -1)) == (low, high)  # no resample reached the target
    low, high = lr_interval(LRS, 3, np.full(100, -1))
    assert (low, high) == pytest.approx((0.8 / 2**0.5, 0.8 * 2**0.5))


def test_interval_follows_the_bootstrap():
    assert lr_interval(LRS, 1, np.repeat([1, 2, 3], 50))[1] == 0.8
    assert lr_interval(LRS, 1, np.repeat([0, 1], 50))[0] == 0.1


def test_lr_between_batch_sizes_is_log_log():
    frontier = pd.DataFrame(
        {"batch_size": [64, 4], "lr": [0.8, 0.2], "lr_low": [0.4, 0.1], "lr_high": [1.6, 0.4]}
    )
    assert lr_at(frontier, 16) == pytest.approx((0.4, 0.2, 0.8, False))
    assert lr_at(frontier, 1) == pytest.approx((0.2, 0.1, 0.4, True))
    assert lr_at(frontier, 1000) == pytest.approx((0.8, 0.4, 1.6, True))


def test_refined_lr_is_the_vertex_of_a_parabola_in_logs():
    lrs = np.array([0.1, 0.2, 0.5, 1.0])  # unequal spacing
    steps = 10 * np.exp(0.3 * np.log(lrs / 0.23) ** 2)
    assert refined_lr(lrs, steps, np.array(1)) == pytest.approx(0.23)
    open_above = np.where(lrs > 0.3, np.inf, steps)
    assert refined_lr(lrs, open_above, np.array(1)) == 0.2  # a cliff
    assert refined_lr(lrs, steps, np.array(0)) == 0.1
    flat = np.array([10.0, 9.999, 9.999, 12.0])
    assert refined_lr(lrs, flat, np.array(1)) <= 0.2 * np.sqrt(0.5 / 0.2)
    assert np.isnan(refined_lr(lrs, np.full(4, np.inf), np.array(-1)))
    several = refined_lr(lrs, np.stack([steps, open_above]), np.array([1, 1]))
    assert several == pytest.approx([0.23, 0.2])
