"""Fieller's interval of a ratio of means: it covers, and says where it cannot."""

from __future__ import annotations

import doctest

import numpy as np

from scaling import ratio as module
from scaling.ratio import ratio_of_means


def test_fieller_covers_and_knows_when_it_cannot() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        noise = random.standard_normal((2, 20))
        ratio = ratio_of_means(30 + 5 * noise[0] + 5 * noise[1], 3 + 2 * noise[1])
        covered += ratio.low <= 10 <= ratio.high
    assert 0.92 < covered / 600 < 0.98
    weak = ratio_of_means(30 + random.standard_normal(20), random.standard_normal(20))
    assert np.isnan(weak.low)
    assert weak.at_least > 10
    nothing = ratio_of_means(random.standard_normal(20), random.standard_normal(20))
    assert np.isnan([nothing.low, nothing.high, nothing.at_least]).all()
    assert ratio_of_means(np.array([-2.0, -2.0]), np.array([1.0, 1.0])).value == -2.0
    assert np.isnan(ratio_of_means(np.array([2.0]), np.array([1.0])).low)


def test_the_docstring_is_true() -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
