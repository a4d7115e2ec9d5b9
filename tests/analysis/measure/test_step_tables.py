"""Tables of steps: cells of several seeds, their bootstrap, and the fit as one function."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.fit.forms import hyperbola
from analysis.fit.step_fits import fit_critical_batch_size, fit_critical_batch_sizes
from analysis.measure.bootstrap import stack_draws
from analysis.measure.frontier import frontier_is_given
from analysis.measure.step_tables import complete_table, draw_table, table_cells
from analysis.step_study import analyse_steps

SIZES = 4 ** np.arange(1, 9)
PLANTED = np.log([40.0, 3360.0])


def table_of(noise=0.05, n_seeds=5, lrs=(), seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for size in SIZES:
        for lr in lrs or [np.nan]:
            detour = 1.0 if np.isnan(lr) else np.exp(np.log(lr / 0.1) ** 2)
            for i in range(n_seeds):
                steps = hyperbola(size, *PLANTED) * detour * np.exp(noise * rng.standard_normal())
                rows.append((size, lr, i, float(steps)))
    table = pd.DataFrame(rows, columns=["batch_size", "lr", "seed", "steps"])
    return table if lrs else table.drop(columns="lr")


def cell(steps, outcomes, **more):
    frame = {"batch_size": 8, "seed": range(len(steps)), "steps": steps, "outcome": outcomes}
    return complete_table(pd.DataFrame(frame | more))


def test_a_cell_is_the_geometric_mean_of_its_seeds():
    row = table_cells(
        cell([10.0, 40.0], ["reached"] * 2, steps_lower=[8.0, 32], steps_upper=[12.0, 48])
    ).iloc[0]
    assert (row["outcome"], row["n_seeds"]) == ("reached", 2)
    assert row["steps"] == pytest.approx(20)
    assert row["steps_lower"] == pytest.approx(16)
    assert row["steps_upper"] == pytest.approx(24)


def test_a_censored_seed_makes_the_cell_a_lower_bound():
    row = table_cells(cell([10.0, 40.0], ["reached", "censored"])).iloc[0]
    assert row["outcome"] == "censored"
    assert np.isnan(row["steps"])
    assert row["steps_lower"] == pytest.approx(20)
    assert np.isnan(row["steps_upper"])
    assert row["last_step"] == 40


def test_a_diverged_seed_makes_the_cell_diverged():
    row = table_cells(cell([10.0, np.nan], ["reached", "diverged"])).iloc[0]
    assert (row["outcome"], row["n_diverged"]) == ("diverged", 1)
    assert np.isnan([row["steps"], row["steps_lower"]]).all()


def test_draws_are_the_geometric_means_of_resampled_seeds():
    draws = draw_table(cell([10.0, 40.0], ["reached"] * 2), [np.nan], 200, np.random.default_rng(0))
    assert set(draws[8].steps[0].round(6)) == {10.0, 20.0, 40.0}
    assert (draws[8].best == 0).all()


def test_draws_with_a_censored_seed_are_bounds():
    table = cell([10.0, 40.0], ["reached", "censored"])
    drawn = stack_draws(draw_table(table, [np.nan], 300, np.random.default_rng(0)), [8], 0)
    without = ~np.isnan(drawn.steps)
    assert without.mean() == pytest.approx(0.25, abs=0.08)  # only seed 0, twice
    assert set(drawn.steps[without].round(6)) == {10.0}
    assert set(drawn.steps_lower[~without].round(6)) == {20.0, 40.0}


def test_draws_choose_the_lr_and_leave_out_diverged_ones():
    table = cell([10.0, 40.0, 20.0, 22.0, 1.0, 1.0], ["reached"] * 5 + ["diverged"])
    table["lr"], table["seed"] = np.repeat([0.1, 0.2, 0.4], 2), [0, 1] * 3
    draws = draw_table(table, [np.nan], 300, np.random.default_rng(0))[8]
    assert set(draws.best[0]) == {0, 1}
    # the seeds are shared: seed 1 twice is 40 at lr .1 and 22 at .2
    assert set(draws.steps[0].round(6)) == {10.0, 20.0, 22.0}


def test_an_lr_with_one_seed_among_several_is_not_compared() -> None:
    table = cell([10.0, 12.0, 11.0, 13.0, 5.0], ["reached"] * 5)
    table["lr"], table["seed"] = [0.1, 0.1, 0.2, 0.2, 0.4], [0, 1, 0, 1, 0]
    assert table_cells(table)["compared"].tolist() == [True, True, False]
    drawn = draw_table(table, [np.nan], 50, np.random.default_rng(0))[8]
    assert set(drawn.best[0]) == {0}
    found = analyse_steps(table.assign(target_loss=1.0), n_bootstrap=20).frontier.iloc[0]
    assert (found["lr"], found["lr_at_edge"]) == (0.1, True)


def test_seeds_are_resampled_for_each_batch_size_or_jointly():
    table = complete_table(table_of(n_seeds=3))
    for jointly in (False, True):
        draws = draw_table(table, [np.nan], 500, np.random.default_rng(0), jointly=jointly)
        picks = [draws[size].steps[0] for size in (4, 16)]
        own = [
            np.log(table.loc[table["batch_size"] == size, "steps"].to_numpy()) for size in (4, 16)
        ]
        high = [np.isclose(p, np.exp(o[0])) for p, o in zip(picks, own, strict=True)]
        together = np.mean(high[0] & high[1])
        assert together == pytest.approx(1 / 27 if jointly else 1 / 27**2, abs=0.02)
        assert (together > 0.01) == jointly


def test_the_planted_answer_with_lrs_and_without():
    for lrs in ((), (0.05, 0.1, 0.2)):
        fit = fit_critical_batch_size(table_of(lrs=lrs), n_bootstrap=200)
        low, high = fit.ci95["critical_batch_size"]
        assert fit.identified
        assert not fit.approximate_ci
        assert low is not None
        assert high is not None
        assert low < 84 < high < 1.3 * low
        assert fit.critical_batch_size == pytest.approx(84, rel=0.08)


def test_published_tables_have_no_edge_but_grids_do():
    table = table_of(n_seeds=1, lrs=(0.05, 0.1))
    assert not frontier_is_given(table_cells(complete_table(table)))
    fit = fit_critical_batch_size(table, n_bootstrap=50)
    assert fit.batch_sizes == ()
    assert "none of the 8 batch sizes" in fit.reason
    chosen = table[table["lr"] == 0.1]
    assert frontier_is_given(table_cells(complete_table(chosen)))
    assert len(fit_critical_batch_size(chosen, n_bootstrap=50).batch_sizes) == 8


def test_targets_and_groups_each_have_their_fit():
    parts = [
        table_of().assign(target_loss=loss, model=model, steps=lambda t, f=factor: t["steps"] * f)
        for loss, model, factor in ((0.5, "b", 1.0), (0.1, "b", 3.0), (0.1, "a", 2.0))
    ]
    fits = fit_critical_batch_sizes(pd.concat(parts), group_by=["model"], n_bootstrap=50)
    found = [
        (fit.group["model"], fit.target_loss, round((fit.min_steps or 0) / 40)) for fit in fits
    ]
    assert found == [("a", 0.1, 2), ("b", 0.5, 1), ("b", 0.1, 3)]
    assert repr(fits).count("Fit of") == fits._repr_html_().count("<table>") == 3
    with pytest.raises(AnalysisError, match="target_loss: the table has 2 targets"):
        fit_critical_batch_size(pd.concat(parts[:2]))


def test_censored_tables_are_bounded():
    table = table_of()
    cap = 880.0  # around the true steps at the smallest batch size
    table["outcome"] = np.where(table["steps"] > cap, "censored", "reached")
    table["steps"] = table["steps"].clip(upper=cap)
    fit = fit_critical_batch_size(table, n_bootstrap=200)
    assert fit.bounded_batch_sizes == (4,)
    assert fit.n_censored == 1
    assert fit.critical_batch_size == pytest.approx(84, rel=0.1)


def test_all_censored_or_one_batch_size_is_said():
    none = fit_critical_batch_size(table_of().assign(outcome="censored"), n_bootstrap=20)
    assert not none.identified
    assert "none of the 8 batch sizes" in none.reason
    one = fit_critical_batch_size(table_of().query("batch_size == 16"), n_bootstrap=20)
    assert "only one batch size" in one.reason
    assert "there is only one batch size; a fit needs 3" in repr(one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.rename(columns={"batch_size": "batchsize"}),
            "column batch_size is missing.*did you mean batchsize",
        ),
        (
            lambda t: t.assign(steps=t["steps"].where(t.index != 3, -1.0)),
            "column steps is -1 in row 3",
        ),
        (
            lambda t: t.assign(batch_size=t["batch_size"] + 0.5),
            "column batch_size is 4.5 in row 0; it must be a whole number",
        ),
        (
            lambda t: t.assign(steps=t["steps"].astype(object).where(t.index != 2, "abc")),
            "column steps is 'abc' in row 2; it must be a number",
        ),
        (
            lambda t: t.assign(outcome="finished"),
            "column outcome is 'finished' in row 0; it must be reached, censored",
        ),
        (lambda t: t.drop(columns="seed"), "two rows for batch_size=4; .*seed"),
        (lambda t: t.iloc[:0], "table is empty"),
        (
            lambda t: t.assign(target_loss=np.nan),
            "column target_loss is '' in row 0; every row needs one",
        ),
    ],
)
def test_tables_that_cannot_be_read_so(change, message):
    with pytest.raises(AnalysisError, match=message):
        fit_critical_batch_size(change(table_of()))


def test_the_objective_is_one_of_two():
    with pytest.raises(AnalysisError, match="objective=huber: must be one of likelihood"):
        fit_critical_batch_size(table_of(), objective="huber")


@pytest.mark.parametrize(
    "name",
    [
        "measure.best_lr",
        "fit.fit_result",
        "fit.step_fits",
        "fit.fitting",
        "fit.lr_rules",
        "fit.readings",
    ],
)
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"analysis.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
