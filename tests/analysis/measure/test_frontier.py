"""Cells to frontier: the raw minimum over lr, marks, intervals, and fixed example budgets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.measure.bootstrap import FrontierDraws, StepDraws, widening
from analysis.measure.cells import Cell
from analysis.measure.frontier import frontier_frame, lower_bounds, lr_draws, upper_bounds, usable
from analysis.measure.losses_at_examples import example_budgets, fixed_budget_frame

LRS = [0.1, 0.2, 0.4]


def cells_of(steps, outcomes, n_seeds: int | list[int] = 8):
    return pd.DataFrame(
        {
            "target_loss": 0.5,
            "batch_size": 4,
            "lr": LRS,
            "steps": steps,
            "outcome": outcomes,
            "n_seeds": n_seeds,
            "n_diverged": 0,
            "last_step": 100,
            "compared": True,
        }
    )


def row_of(cells, draws=None):
    if draws is None:
        draws = FrontierDraws(np.array([[18.0, 20.0, 22.0]]), np.array([[1, 1, 1]]))
    return frontier_frame(cells, {4: draws}, [0.5], {"model_size": 64}).iloc[0]


def test_minimum_over_lr():
    row = row_of(cells_of([30.0, 20.0, 25.0], ["reached"] * 3))
    assert (row["steps"], row["examples"], row["lr"], row["outcome"]) == (20, 80, 0.2, "reached")
    wide = float(widening(8, 7))  # around the median, 20
    fall, rise = np.log(30 / 20), np.log(25 / 20)
    meets = (fall - rise) / 2  # a fall of log 1.5 and a rise as steep, between 0.2 and 0.4
    ends = [20 * (18 / 20) ** wide * np.exp(-meets), 20 * (22 / 20) ** wide]
    assert [row["steps_low"], row["steps_high"]] == pytest.approx(ends)
    assert (row["n_seeds"], row["n_lrs"], row["model_size"]) == (8, 3, 64)
    assert not row["lr_at_edge"]
    assert row["lr_low"] < 0.2 < row["lr_high"]


def test_edges_are_marked_and_not_usable():
    at_end = row_of(cells_of([30.0, 25.0, 20.0], ["reached"] * 3))
    assert at_end["lr_at_edge"]
    stable = row_of(cells_of([30.0, 20.0, np.nan], ["reached", "reached", "diverged"]))
    assert not stable["lr_at_edge"]
    frame = pd.DataFrame([at_end, stable])
    assert usable(frame)["steps"].tolist() == [20.0]
    assert len(usable(frame)) == 1


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [(["censored", "censored", "diverged"], "censored"), (["diverged"] * 3, "diverged")],
)
def test_batch_sizes_that_never_reach_the_target(outcomes, outcome):
    row = row_of(cells_of([np.nan] * 3, outcomes))
    assert row["outcome"] == outcome
    assert np.isnan(row["steps"])
    assert np.isnan(row["lr"])
    assert not row["lr_at_edge"]
    assert usable(pd.DataFrame([row])).empty


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_interval(n_seeds):
    row = row_of(cells_of([30.0, 20.0, 25.0], ["reached"] * 3, n_seeds=n_seeds))
    assert np.isnan(row["steps_low"])
    assert np.isnan(row["steps_high"])


def test_resamples_that_do_not_reach_open_the_interval():
    draws = FrontierDraws(np.r_[[np.nan] * 10, np.full(90, 20.0)][None, :], np.ones((1, 100), int))
    row = row_of(cells_of([30.0, 20.0, 25.0], ["reached"] * 3), draws)
    assert row["steps_low"] == pytest.approx(20 * np.sqrt(25 / 30))  # down to between the lrs
    assert np.isnan(row["steps_high"])


def test_censored_rows_carry_the_least_of_their_budgets():
    cells = cells_of([np.nan] * 3, ["censored", "diverged", "censored"])
    row = row_of(cells.assign(steps_lower=[90.0, np.nan, 70.0]))
    assert row["steps_lower"] == 70
    assert lower_bounds(pd.DataFrame([row])).index.tolist() == [0]
    assert lower_bounds(pd.DataFrame([row]).assign(lr_at_edge=True)).empty
    assert lower_bounds(pd.DataFrame([row]).drop(columns="steps_lower")).empty


@pytest.mark.parametrize(
    ("best", "edge"), [([30.0, 20.0, 25.0], False), ([20.0, 25.0, 30.0], True)]
)
def test_censored_rows_count_only_if_the_best_lr_was_among_those_tried(best, edge):
    """At batch size 8 only lrs around .2 were tried; the best lr at 4 is .2 or (lrs/4) below."""
    reached = cells_of(best, ["reached"] * 3)
    if edge:
        reached = pd.concat([reached.assign(lr=[0.02, 0.04, 0.08]), reached.iloc[:1]])
        reached["steps"] = [30.0, 20.0, 25.0, 40.0]
    censored = cells_of([np.nan] * 3, ["censored"] * 3).assign(batch_size=8, steps_lower=90.0)
    cells = pd.concat([reached.assign(steps_lower=np.nan), censored], ignore_index=True)
    draws = FrontierDraws(np.full((1, 3), 20.0), np.ones((1, 3), int))
    frontier = frontier_frame(cells, {4: draws, 8: draws}, [0.5], {})
    assert frontier["lr_at_edge"].tolist() == [False, edge]
    assert len(lower_bounds(frontier)) == (not edge)


def test_a_given_frontier_has_no_edge():
    cells = cells_of([20.0, 30.0, 35.0], ["reached"] * 3)
    draws = FrontierDraws(np.full((1, 3), 20.0), np.zeros((1, 3), int))
    for given in (False, True):
        frontier = frontier_frame(cells, {4: draws}, [0.5], {}, given=given)
        assert frontier["lr_at_edge"].tolist() == [not given]


def test_the_lr_is_refined_and_drawn():
    row = row_of(cells_of([30.0, 20.0, 25.0], ["reached"] * 3))
    assert 0.2 < row["lr_refined"] < 0.2 * 2**0.5
    frame = pd.DataFrame([row], index=[0])
    nothing = np.full((3, 1), np.nan)
    drawn = StepDraws(nothing, nothing, nothing, np.array([[0.1], [0.2], [0.4]]))
    wide = lr_draws(frame, drawn)
    assert wide is not None
    assert wide[:, 0] == pytest.approx(0.2 * 2.0 ** (np.array([-1, 0, 1]) * (8 / 7) ** 0.5))
    assert lr_draws(frame.assign(n_seeds=2), drawn) is None


def cell(batch_size, lr, last, power, n_diverged=0):
    steps = np.arange(last + 1.0)
    excess = 10 / np.maximum(steps, 0.5) ** power
    return Cell((), batch_size, lr, np.array([0]), steps, excess[None, :],
                np.array([last + 1]), n_diverged, last)  # fmt: skip


def test_loss_at_a_fixed_number_of_examples():
    cells = [cell(4, 0.1, 100, 0.5), cell(4, 0.2, 60, 1.0), cell(4, 0.4, 5, 2.0, n_diverged=1)]
    frame = fixed_budget_frame(cells, 3.0, [2.0, 10.0, 100.0, 300.0], {})
    # 2 examples are half a step, and at 300 (75 steps) the better lr has no curve
    assert frame["examples"].tolist() == [10.0, 100.0]
    assert frame["lr"].tolist() == [0.2, 0.2]
    assert frame["loss"].tolist() == pytest.approx([3 + 10 / 2.5, 3 + 10 / 25], rel=1e-9)


def test_budgets_span_what_the_targets_cost():
    frontier = pd.DataFrame(
        {
            "target_loss": [0.5, 0.5, 0.1, 0.1],
            "outcome": ["reached", "reached", "reached", "censored"],
            "examples": [100.0, 180.0, 2000.0, np.nan],
        }
    )
    budgets = example_budgets(frontier)
    assert (budgets[0], budgets[-1], len(budgets)) == (50, 3000, 6)
    assert example_budgets(frontier.iloc[3:]) == []


def test_a_lucky_seed_of_a_search_is_not_the_best() -> None:
    """Most lrs of a search have one seed: only those with all seeds compete, all tell of edges."""
    cells = cells_of([18.0, 20.0, 25.0], ["reached"] * 3, n_seeds=[1, 8, 8])
    row = row_of(cells.assign(compared=[False, True, True]))
    assert (row["lr"], row["steps"], row["n_seeds"], row["n_lrs"]) == (0.2, 20.0, 8, 3)
    assert not row["lr_at_edge"]  # the first of those compared; a smaller one was tried
    assert row_of(cells.iloc[1:])["lr_at_edge"]


def test_next_to_a_cliff_the_best_lr_may_lie_up_to_it():
    """S falls by 1.2 a spacing of the lrs, and the next lr does not reach the target at all."""
    row = row_of(cells_of([24.0, 20.0, np.nan], ["reached", "reached", "censored"]))
    plain = row_of(cells_of([20.0, 20.0, 20.0], ["reached"] * 3))
    assert row["steps_low"] == pytest.approx(plain["steps_low"] / 1.2)
    assert row["lr_high"] == pytest.approx(0.4)
    steep = row_of(cells_of([24.0, 20.0, 200.0], ["reached"] * 3))
    assert row["steps_low"] < steep["steps_low"] < plain["steps_low"]
    smooth = row_of(cells_of([24.0, 20.0, 24.0], ["reached"] * 3))
    assert smooth["steps_low"] == plain["steps_low"]


def test_a_left_censored_lr_bounds_the_frontier():
    cells = cells_of([np.nan, 20.0, 25.0], ["left_censored", "reached", "reached"])
    row = row_of(cells.assign(steps_lower=np.nan, steps_upper=[30.0, 21.0, 26.0]))
    assert (row["outcome"], row["steps_upper"]) == ("left_censored", 20)
    assert np.isnan(row["steps"])
    assert usable(pd.DataFrame([row])).empty
    assert upper_bounds(pd.DataFrame([row]))["steps_upper"].tolist() == [20]


def test_an_edge_is_an_upper_bound():
    row = row_of(cells_of([30.0, 25.0, 20.0], ["reached"] * 3))
    assert row["better_lrs"] == "above"
    assert upper_bounds(pd.DataFrame([row]))["steps_upper"].tolist() == [20]
    below = row_of(cells_of([20.0, 25.0, 30.0], ["reached"] * 3))
    assert below["better_lrs"] == "below"


def test_a_batch_size_with_one_lr_has_no_grid_that_could_end():
    cells = pd.concat([cells_of([30.0, 20.0, 25.0], ["reached"] * 3)] * 2, ignore_index=True)
    cells["batch_size"] = [4, 4, 4, 8, 8, 8]
    draws = FrontierDraws(np.array([[18.0, 20.0, 22.0]]), np.array([[0, 0, 0]]))
    frame = frontier_frame(cells.head(4), {4: draws, 8: draws}, [0.5], {})
    assert frame["lr_at_edge"].tolist() == [False, False]
    assert usable(frame)["batch_size"].tolist() == [4, 8]
