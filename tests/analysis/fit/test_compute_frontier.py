"""Compute frontier: the allocation of a planted loss L(N, B, S) comes back; edges are flagged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.fit.compute_frontier import COMPUTE_COLUMNS, LOSS_COLUMNS, compute_frontier, valley
from analysis.measure.model_sizes import families, flops_per_example
from tests.analysis.planted import group_curves, planted_cells

NAME = "model.width"
STEPS = np.unique(np.geomspace(1, 3e5, 140).astype(int)).astype(float)


def planted(
    sizes: list[float], batch_sizes: list[int], noise: float = 0.0, last: float = 3e5, seed: int = 0
) -> list:
    groups = []
    for n in sizes:
        cells = planted_cells(
            lambda b, s, n=n: curved(n, b, s), batch_sizes, STEPS[last >= STEPS], noise=noise,
            rng=np.random.default_rng([seed, int(n)]),
        )  # fmt: skip
        groups.append(group_curves({NAME: n}, n, cells=cells, flops=6 * n, floor=0.5))
    return groups


def curved(n: float, b: float, s: np.ndarray) -> np.ndarray:
    """n^-1/2 + s^-1/2 + 0.2 b^-1/2: with C = 6 n b s the least has all three terms in proportion,
    so n, b and s each grow as C^(1/3)."""
    return n**-0.5 + s**-0.5 + 0.2 * b**-0.5


SIZES = [2.0**k for k in range(1, 11)]
BATCHES = [2**k for k in range(9)]


@pytest.fixture(scope="module")
def found():
    return compute_frontier(families(planted(SIZES, BATCHES, noise=0.01)), n_bootstrap=60)


def test_the_planted_allocation_comes_back(found) -> None:
    frontier = found.frontier
    inside = frontier[~frontier["model_size_at_edge"] & ~frontier["batch_size_at_edge"]]
    assert len(inside) > 8
    compute = inside["compute"].to_numpy()
    # Lagrange: n^-1/2 = s^-1/2 = 0.2 b^-1/2, so n = s = 25 b, and C = 6 n s b
    best = (compute * 25 / 6) ** (1 / 3)
    assert np.median(np.abs(np.log(inside["best_model_size"].to_numpy() / best))) < 0.35
    for law in found.laws:
        if law["y"] != "loss":
            assert law["exponent"] == pytest.approx(1 / 3, abs=0.06), law["y"]
            assert law["exponent_low"] < law["exponent"] < law["exponent_high"]
    steps, size, batch = (
        next(law["exponent"] for law in found.laws if law["y"] == y)
        for y in ("steps", "model_size", "batch_size")
    )
    assert steps + size + batch == pytest.approx(1, abs=0.05)


def test_the_envelope_is_the_least_of_all(found) -> None:
    losses, frontier = found.losses, found.frontier
    least = losses.groupby("compute")["loss"].min()
    assert frontier["loss"].to_numpy() == pytest.approx(least.to_numpy())
    assert losses.groupby("compute")["best"].sum().eq(1).all()
    spent = 6 * frontier["model_size"] * frontier["batch_size"] * frontier["steps"]
    assert spent.to_numpy() == pytest.approx(frontier["compute"].to_numpy())
    optimum = 6 * frontier["best_model_size"] * frontier["best_batch_size"] * frontier["best_steps"]
    assert optimum.to_numpy() == pytest.approx(frontier["compute"].to_numpy())
    assert list(frontier.columns) == COMPUTE_COLUMNS
    assert list(losses.columns) == LOSS_COLUMNS
    assert (frontier["loss"] > 0.5).all()


def test_edges_of_the_grid_are_flagged_and_left_out() -> None:
    found = compute_frontier(families(planted([2.0, 4.0, 8.0], [1, 2, 4])))
    late = found.frontier[found.frontier["compute"] > 1e5]
    assert late["model_size_at_edge"].all()
    assert set(late["model_size"]) == {8.0}
    law = next(law for law in found.laws if law["y"] == "model_size")
    assert "exponent" not in law or law["n"] < len(found.frontier)
    steps = next(law for law in found.laws if law["y"] == "steps")
    assert steps["n_left_out"] > 0


def test_one_size_has_a_frontier_in_batch_size() -> None:
    found = compute_frontier(families(planted([64.0], BATCHES)))
    assert set(found.frontier["model_size"]) == {64.0}
    growth = {law["y"]: law["exponent"] for law in found.laws if "exponent" in law}
    assert growth["batch_size"] == pytest.approx(0.5, abs=0.08)
    assert growth["steps"] == pytest.approx(0.5, abs=0.08)
    assert "model_size" not in growth


def test_budgets_that_a_stopped_trial_could_have_won_are_left_out() -> None:
    small, large = planted([8.0], [4])[0], planted([32.0], [4], last=200)[0]
    # 32 stopped lower than 8 ever gets: from there on nobody knows what would have been best
    stop = 6 * 32 * 4 * 200
    found = compute_frontier(families([small, large]))
    assert 0.5 * stop < found.frontier["compute"].max() <= stop
    whole = compute_frontier(families(planted([8.0, 32.0], [4])))
    assert whole.frontier["compute"].max() > 5 * stop


def test_a_worse_trial_that_stopped_decides_nothing() -> None:
    small, large = planted([8.0], [4, 16], last=200)[0], planted([32.0], [4, 16])[0]
    found = compute_frontier(families([small, large]))
    late = found.frontier[found.frontier["compute"] > 10 * 6 * 8 * 16 * 200]
    assert len(late)
    assert (late["n_not_trained"] >= 2).all()
    assert (late["model_size"] == 32).all()


def test_the_bottom_of_an_exact_valley_is_found() -> None:
    log_x = np.log([1.0, 3.0, 4.0, 20.0, 50.0])
    for bottom in (2.5, 3.3, 6.0):
        excess = 0.7 * np.exp(0.2 * (log_x - np.log(bottom)) ** 2)
        at, found, edge = valley(log_x, excess)
        assert at == np.argmin(excess)
        assert np.exp(found) == pytest.approx(bottom)
        assert not edge
    at, found, edge = valley(log_x, np.array([np.inf, 0.1, 0.2, 0.3, np.inf]))
    assert edge
    assert found == log_x[1]


@pytest.mark.parametrize("change", ["no flops", "two floors", "nothing trained", "no groups"])
def test_without_what_it_needs_there_is_none(change: str) -> None:
    groups = planted([8.0, 32.0], [4, 16])
    if change == "no flops":
        groups = [group_curves({NAME: 8.0}, 8.0, cells=groups[0].cells)]
    if change == "two floors":
        groups[0] = group_curves({NAME: 8.0}, 8.0, cells=groups[0].cells, flops=48.0, floor=0.1)
    if change == "nothing trained":
        groups = [group_curves({NAME: 8.0}, 8.0, flops=48.0)]
    found = compute_frontier(families([] if change == "no groups" else groups))
    assert found.frontier.empty
    assert found.losses.empty
    assert found.laws == []


def test_flops_are_counted_from_the_best_that_all_have() -> None:
    trials = pd.DataFrame({"model_size": [8.0, 16.0], "parameters": [100, 300]})
    flops, words = flops_per_example(trials)
    assert flops.tolist() == [600, 1800]
    assert "parameters" in words
    trials["connections"] = [1000, np.nan]
    assert flops_per_example(trials)[0].tolist() == [600, 1800]
    trials["connections"] = [1000, 2000]
    assert flops_per_example(trials)[0].tolist() == [6000, 12000]
    trials["flops_per_example"] = ["7", "9"]
    assert flops_per_example(trials)[0].tolist() == [7, 9]
    flops, words = flops_per_example(trials[["model_size"]])
    assert flops.tolist() == [48, 96]
    assert "model size" in words
    assert flops_per_example(pd.DataFrame({"model_size": [np.nan]}))[1] == "not known"
