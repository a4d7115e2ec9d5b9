"""Laws in target and model size: planted exponents come back, with honest intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.fit.fit_caveats import law_caveats
from analysis.fit.fitting import FitResult
from analysis.fit.law_fit import LAW_COLUMNS, Points, law_row, stack_draws
from analysis.fit.scaling_laws import OWN_TARGETS, law_frame
from analysis.measure.bootstrap import FrontierDraws
from analysis.measure.frontier import FRONTIER_COLUMNS
from analysis.measure.model_sizes import MeasuredGroup, families
from tests.analysis.planted import group_curves, planted_cells, planted_fit

NAME = "model.width"


def frontier_of(groups: list[MeasuredGroup], rows: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    names = list(groups[0].group)
    return pd.DataFrame(rows, columns=[*names, *FRONTIER_COLUMNS])


def sized(
    sizes: Sequence[float], targets: list[float], noise: float = 0.0, seed: int = 0
) -> tuple[list[MeasuredGroup], list[FitResult]]:
    """S_min = 3 N^0.5 L^-1 and E_min = 40 N^0.8 L^-1.6, so B_crit ~ N^0.3 L^-0.6."""
    rng = np.random.default_rng(seed)
    groups = [group_curves({NAME: size}, size, targets=targets) for size in sizes]
    fits = [
        planted_fit({NAME: n}, loss, 3 * n**0.5 / loss, 40 * n**0.8 * loss**-1.6, noise, rng)
        for n in sizes
        for loss in targets
    ]
    return groups, fits


def laws_of(groups: list[MeasuredGroup], fits: list[FitResult]) -> pd.DataFrame:
    return law_frame(fits, groups, families(groups), frontier_of(groups))[0]


def row_of(laws: pd.DataFrame, **wanted: Any) -> dict[Any, Any]:
    (row,) = [row for row in laws.to_dict("records") if all(row[k] == v for k, v in wanted.items())]
    return row


def test_exponents_in_model_size_come_back() -> None:
    laws = laws_of(*sized([8, 16, 32, 64], [0.5, 0.2], noise=0.02))
    for y, exponent in (("critical_batch_size", 0.3), ("min_steps", 0.5), ("min_examples", 0.8)):
        own = laws[(laws["x"] == "model_size") & (laws["y"] == y)]
        assert own["target_loss"].tolist() == [0.5, 0.2]
        assert own["exponent"].to_numpy() == pytest.approx(exponent, abs=0.05)
        assert (own["exponent_low"] < exponent).all()
        assert (own["exponent_high"] > exponent).all()
        assert (own["exponent_without_one_low"] <= own["exponent"]).all()
        assert own["n"].tolist() == [4, 4]
        assert own[NAME].isna().all()
    assert list(laws.columns) == [NAME, *LAW_COLUMNS]


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_the_law_in_the_target_with_each_irreducible_loss(floor: float) -> None:
    targets = [0.4, 0.5, 0.6, 0.8, 1.1, 1.5]
    groups = [group_curves({NAME: 1.0}, 1.0, floor=floor, targets=targets)]
    fits = [planted_fit({NAME: 1.0}, t, 10.0, 500 * (t - 0.3) ** -0.7) for t in targets]
    laws = laws_of(groups, fits)
    kinds = ["recorded", "zero", "free"] if floor else ["zero", "free"]
    assert laws["offset_is"].tolist() == kinds
    free = row_of(laws, offset_is="free")
    assert free["offset"] == pytest.approx(0.3, abs=1e-3)
    assert free["exponent"] == pytest.approx(-0.7, abs=1e-3)
    assert free[NAME] == 1.0
    assert row_of(laws, offset_is="zero")["exponent"] < -1.2
    if floor:
        recorded = row_of(laws, offset_is="recorded")
        assert recorded["exponent"] == pytest.approx(-0.7, abs=1e-6)
        assert recorded["coefficient"] == pytest.approx(50, rel=1e-6)


def test_three_targets_are_too_few_for_a_free_offset() -> None:
    groups, fits = sized([8], [0.5, 0.2, 0.1])
    laws = laws_of(groups, fits)
    assert laws["offset_is"].tolist() == ["zero"]
    assert laws["exponent"].iloc[0] == pytest.approx(-0.6)


def test_what_is_not_identified_is_counted_and_stays_out() -> None:
    groups, fits = sized([8, 16, 32, 64], [0.5])
    fits[1].critical_batch_size, fits[1].at_least = None, 900.0
    fits[1].min_steps = None
    laws = laws_of(groups, fits)
    law = row_of(laws, y="critical_batch_size")
    assert law["exponent"] == pytest.approx(0.3)
    assert (law["n"], law["n_left_out"]) == (3, 1)
    assert row_of(laws, y="min_steps")["n"] == 3
    assert row_of(laws, y="min_examples")["n"] == 4
    sentences = law_caveats(families(groups), laws)
    assert any("of 1 of 4 model sizes is not identified" in text for text in sentences)


def test_targets_that_are_not_identified_stay_out_of_the_law_in_the_target() -> None:
    groups, fits = sized([8], [0.5, 0.2, 0.1, 0.05])
    fits[0].critical_batch_size, fits[0].at_most = None, 3.0
    laws = laws_of(groups, fits)
    law = row_of(laws, x="target_loss", offset_is="zero")
    assert (law["n"], law["n_left_out"]) == (3, 1)
    assert law["exponent"] == pytest.approx(-0.6)


@pytest.mark.parametrize(("n", "there"), [(1, "only one value is"), (2, "only 2 values are")])
def test_few_sizes_are_no_law_and_say_how_many_it_needs(n: int, there: str) -> None:
    groups, fits = sized([8, 16, 32], [0.5])
    for fit in fits[n:]:
        fit.critical_batch_size = None
    laws = laws_of(groups, fits)
    law = row_of(laws, y="critical_batch_size")
    assert np.isnan([law["exponent"], law["coefficient"], law["exponent_low"]]).all()
    assert law["reason"] == f"{there} known; a law needs 3"
    assert row_of(laws, y="min_steps")["exponent"] == pytest.approx(0.5)


def test_sizes_that_hardly_differ_are_no_law() -> None:
    groups, fits = sized([100, 120, 140], [0.5])
    law = row_of(laws_of(groups, fits), y="min_steps")
    assert np.isnan(law["exponent"])
    assert law["reason"] == "the values span only a factor of 1.40; a law needs 1.5"


def test_nothing_is_left_of_a_law_through_two_points() -> None:
    """Also not where one of three points is left out, nor in the loss surface."""
    groups, fits = sized([8, 16, 32], [0.5, 0.2, 0.1])
    three = row_of(laws_of(groups, fits), y="min_steps", target_loss=0.5)
    assert three["exponent"] == pytest.approx(0.5)
    assert np.isnan(three["exponent_without_one_low"])
    two = laws_of(*sized([8, 64], [0.5, 0.2, 0.1]))
    in_size = two[two["x"].isin(["model_size", "min_steps"])]
    assert len(in_size)
    assert in_size["exponent"].isna().all()
    assert not (in_size["form"] == "two_powers").any()


def test_few_sizes_have_a_warning() -> None:
    for sizes, words in (([8, 64], "a law in model size needs 3"), ([8, 16, 64], "to 3 sizes")):
        groups, fits = sized(sizes, [0.5], noise=0.1)
        assert words in law_caveats(families(groups), laws_of(groups, fits))[0]
    groups, fits = sized([8, 16, 32, 64], [0.5])
    assert law_caveats(families(groups), laws_of(groups, fits)) == []


def own_targets(sizes: Sequence[float]) -> tuple[list[MeasuredGroup], list[FitResult]]:
    """Published tables: a target a size, the larger the lower; B_crit = 50 N^0.4."""
    groups = [group_curves({NAME: n}, n, targets=[4 * n**-0.1]) for n in sizes]
    rng = np.random.default_rng(0)
    return groups, [
        planted_fit({NAME: n}, 4 * n**-0.1, 100.0, 5000 * n**0.4, 0.02, rng) for n in sizes
    ]


def test_sizes_with_a_target_each_have_one_law() -> None:
    groups, fits = own_targets([8.0, 16.0, 32.0, 64.0])
    laws = laws_of(groups, fits)
    law = row_of(laws, y="critical_batch_size", x="model_size")
    assert law["definition"] == OWN_TARGETS
    assert law["exponent"] == pytest.approx(0.4, abs=0.03)
    assert law["exponent_low"] < 0.4 < law["exponent_high"]
    assert np.isnan(law["target_loss"])
    assert (law["n"], law["n_left_out"]) == (4, 0)
    assert any("different targets" in text for text in law_caveats(families(groups), laws))


def test_shared_targets_have_no_law_across_targets() -> None:
    for targets in ([0.5], [0.5, 0.2]):
        laws = laws_of(*sized([8, 16, 32, 64], targets))
        assert OWN_TARGETS not in set(laws["definition"])


def test_losses_below_zero_have_no_power_law_and_no_warning() -> None:
    groups = [group_curves({NAME: 1.0}, 1.0, targets=[-1.0, -2.0, -2.5, 0.0])]
    fits = [planted_fit({NAME: 1.0}, t, 10.0, 500 - 50 * t) for t in (0.0, -1.0, -2.0, -2.5)]
    (law,) = laws_of(groups, fits).to_dict("records")
    assert np.isnan(law["exponent"])
    assert "above 0" in law["reason"]


def test_one_size_or_equal_sizes_make_no_law_in_size() -> None:
    groups, fits = sized([8], [0.5, 0.2])
    assert set(laws_of(groups, fits)["x"]) == {"target_loss"}
    same = [group_curves({NAME: i}, 8.0, targets=[0.5]) for i in (1, 2)]
    both = [planted_fit(group.group, 0.5, 10, 100) for group in same]
    assert laws_of(same, both).empty
    assert len(families(same)) == 2  # changing NAME does not change the size: no measure of it


def test_params_that_are_no_size_stay_apart() -> None:
    groups, fits = [], []
    for optimizer, exponent in (("sgd", 0.5), ("adam", 1.0)):
        for n in (4.0, 8.0, 16.0):
            group = {"optimizer.name": optimizer, "model.width": n, "task.noise": 1}
            groups.append(group_curves(group, n, targets=[0.5]))
            fits.append(planted_fit(group, 0.5, 5 * n**exponent, 300 * n**exponent))
    laws = laws_of(groups, fits)
    steps = laws[laws["y"] == "min_steps"].set_index("optimizer.name")["exponent"]
    assert steps["sgd"] == pytest.approx(0.5)
    assert steps["adam"] == pytest.approx(1.0)


def test_sizes_of_two_params_make_one_family() -> None:
    groups = [
        group_curves({"model.depth": d, "model.width": w, "beta": b}, float(d * w * w))
        for d in (2, 4) for w in (8, 16) for b in (0.9, 0.99)
    ]  # fmt: skip
    found = families(groups)
    assert [family.others for family in found] == [{"beta": 0.9}, {"beta": 0.99}]
    assert found[0].sizes.tolist() == [128, 256, 512, 1024]


def test_architectures_of_different_size_are_no_family() -> None:
    groups = [
        group_curves({"model.name": name, NAME: w}, float(w * times))
        for name, times in (("unet", 3), ("mlp", 1)) for w in (8, 16)
    ]  # fmt: skip
    assert [f.others for f in families(groups)] == [{"model.name": "unet"}, {"model.name": "mlp"}]


def test_groups_without_a_size_are_families_of_one() -> None:
    groups = [group_curves({NAME: name}, None) for name in ("a", "b")]
    assert [family.others for family in families(groups)] == [{NAME: "a"}, {NAME: "b"}]
    assert families([]) == []


def test_steps_at_each_batch_size() -> None:
    targets, rows = [0.5], []
    groups = []
    rng = np.random.default_rng(0)
    for n in (2.0, 4.0, 8.0, 16.0):
        draws = {}
        for b in (1, 16):
            steps = 100 * n**0.7 / b
            drawn = steps * np.exp(0.05 * rng.standard_normal((1, 300)))
            draws[b] = FrontierDraws(drawn, np.zeros((1, 300), int))
            row = dict.fromkeys(FRONTIER_COLUMNS, np.nan) | {
                NAME: n, "target_loss": 0.5, "batch_size": b, "steps": steps,
                "examples": steps * b, "outcome": "reached", "n_seeds": 3,
                "lr_at_edge": n == 16 and b == 16,
            }  # fmt: skip
            rows.append(row)
        groups.append(group_curves({NAME: n}, n, targets=targets, draws=draws))
    frontier = frontier_of(groups, rows)
    laws = law_frame([], groups, families(groups), frontier)[0]
    laws = laws[laws["y"] == "steps"].set_index("batch_size")
    assert laws["exponent"].to_numpy() == pytest.approx(0.7)
    assert laws["n"].to_dict() == {1: 4, 16: 3}  # a best lr at the edge stays out
    assert (laws["exponent_low"] < 0.7).all()
    one_seed = law_frame([], groups, families(groups), frontier.assign(n_seeds=1))[0]
    assert one_seed.loc[one_seed["y"] == "steps", "exponent_low"].isna().all()


def test_loss_against_model_size_at_equal_examples() -> None:
    at = np.arange(1.0, 400.0)
    groups = []
    for n in (4.0, 8.0, 16.0, 32.0):
        cells = planted_cells(
            lambda b, s, n=n: n**-0.4 * (b * s) ** -0.5, [1, 2, 4], at, noise=0.02,
            rng=np.random.default_rng(int(n)),
        )  # fmt: skip
        groups.append(group_curves({NAME: n}, n, targets=[0.1], cells=cells, floor=1.0))
    rows = [
        dict.fromkeys(FRONTIER_COLUMNS, np.nan)
        | {NAME: 4.0, "target_loss": 0.1, "outcome": "reached", "examples": 100.0,
           "lr_at_edge": True}
    ]  # fmt: skip
    laws, points = law_frame(
        [], groups, families(groups), frontier_of(groups, rows), n_bootstrap=200
    )
    laws = laws[laws["y"] == "loss"]
    assert len(laws) == 6
    assert laws["exponent"].to_numpy() == pytest.approx(-0.4, abs=0.05)
    assert (laws["exponent_high"] > laws["exponent_low"]).all()
    assert set(laws["offset"]) == {1.0}
    assert points["loss"].min() > 1.0


def test_the_loss_surface_comes_back() -> None:
    sizes, groups, fits = [8.0, 16.0, 32.0, 64.0], [], []
    rng = np.random.default_rng(0)
    for n in sizes:
        groups.append(group_curves({NAME: n}, n))
        for loss in (1.2, 1.0, 0.8, 0.7):
            steps = 50 * (loss - (2 / n) ** 0.5) ** (-1 / 0.8)
            fits.append(planted_fit({NAME: n}, loss, steps, 30 * steps, 0.01, rng, 100))
    laws = laws_of(groups, fits)
    surface = laws[laws["form"] == "two_powers"].set_index("x")
    assert surface["exponent"].to_dict() == pytest.approx(
        {"model_size": -0.5, "min_steps": -0.8}, abs=0.05
    )
    assert surface["coefficient"].to_dict() == pytest.approx(
        {"model_size": 2, "min_steps": 50}, rel=0.1
    )
    assert (surface["exponent_low"] <= surface["exponent"]).all()


@pytest.mark.parametrize("n_sizes", [3, 4, 7])
def test_intervals_cover_the_truth(n_sizes: int) -> None:
    sizes, rng = np.geomspace(8, 256, n_sizes), np.random.default_rng(n_sizes)
    n_repeats, hits = 400, 0
    for _ in range(n_repeats):
        estimate = 5 * sizes**0.3 * np.exp(0.1 * rng.standard_normal(n_sizes))
        draws = estimate * np.exp(0.1 * rng.standard_normal((400, n_sizes)))
        law = law_row("power", Points(sizes, estimate, list(draws.T)))
        hits += law["exponent_low"] <= 0.3 <= law["exponent_high"]
    assert 0.92 <= hits / n_repeats <= 0.98


def test_draws_of_one_group_stay_together() -> None:
    shared = np.random.default_rng(0).standard_normal(500)
    together = stack_draws([np.exp(shared), 2 * np.exp(shared)], 2)
    assert together is not None
    np.testing.assert_allclose(together[:, 1] / together[:, 0], 2)
    apart = stack_draws([np.exp(shared), 2 * np.exp(shared[:-1])], 2)
    assert apart is not None
    assert np.std(apart[:, 1] / apart[:, 0]) > 0.1
    assert stack_draws([np.exp(shared), np.array([1.0])], 2) is None
    some = np.where(np.arange(500) % 2, np.nan, np.exp(shared))
    mixed = stack_draws([np.exp(shared), some], 2)
    assert mixed is not None
    assert np.isfinite(mixed).all()


def test_laws_of_nothing_say_why() -> None:
    row = law_row("power", Points(np.empty(0), np.empty(0)))
    assert row["reason"] == "no value is known; a law needs 3"
    row = law_row("shifted", Points(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])))
    assert row["reason"] == "only 3 values are known; a law needs 4"
