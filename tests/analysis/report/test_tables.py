"""Tables and summary.json: the public contract, and numbers that agree with each other."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.fit.lr_rules import predict_lr
from analysis.groups import file_name, group_label
from analysis.report.summary import plain, summary
from analysis.topics.best_lr import best_lr_frame
from scaling.problem import RegressionProblem
from tests.analysis.conftest import Frames
from tests.analysis.simulated import simulate_study

FIT = {
    "group": dict, "target_loss": float, "form": str, "min_steps": float, "min_examples": float,
    "critical_batch_size": float, "critical_batch_size_overhead": dict,
    "critical_batch_size_half_elasticity": float, "ci95": dict, "approximate_ci": bool,
    "identified": bool, "at_least": float, "at_most": float, "preferred_form": str,
    "rmse_log_steps": float, "n_batch_sizes": int, "n_censored": int, "exact": dict,
}  # fmt: skip
FRONTIER = {
    "group": dict, "target_loss": float, "batch_size": int, "steps": float, "examples": float,
    "lr": float, "outcome": str, "lr_at_edge": bool, "ci95_steps": list, "n_seeds": int,
    "n_lrs": int,
}  # fmt: skip


@pytest.fixture(scope="module")
def hard_result() -> StudyResult:
    """Two groups of equal targets; the second is out of reach, and nothing bends the curve."""
    frames = []
    for dimension in (4, 16):
        problem = RegressionProblem.power_law(dimension)
        targets = [0.3, 1e-6]
        frames.append(
            simulate_study(
                problem, [1, 2, 4], [0.02, 0.05, 0.1], [0, 1], targets, max_steps=400, noise=0.1
            )
        )
    trials, curves = (pd.concat(parts, ignore_index=True) for parts in zip(*frames, strict=True))
    return analyse(trials, curves, n_bootstrap=20)


def _strict(result: StudyResult) -> dict:
    return json.loads(json.dumps(summary(result), allow_nan=False))


def _check(entry: dict, contract: dict[str, type]) -> None:
    assert list(entry) == list(contract)
    for key, kind in contract.items():
        if entry[key] is not None:
            allowed = (int, float) if kind is float else kind
            assert isinstance(entry[key], allowed), key
            assert isinstance(entry[key], bool) == (kind is bool), key


@pytest.mark.parametrize("which", ["small_result", "hard_result"])
def test_summary_keeps_the_contract(which: str, request: pytest.FixtureRequest) -> None:
    result: StudyResult = request.getfixturevalue(which)
    summary = _strict(result)
    units = ["example", "unit", "units_per_example"]
    answers = ["fits", "frontier", "laws", "rule_regret", "warnings"]
    assert list(summary) == ["format", "study", *units, *answers]
    assert summary["format"] == 1
    assert summary["study"] == "simulated"
    assert len(summary["fits"]) == len(result.fits)
    for fit in summary["fits"]:
        _check(fit, FIT)
        assert {"overhead", "reference_batch_size", "value"} <= set(
            fit["critical_batch_size_overhead"]
        ) or not fit["critical_batch_size_overhead"]
        assert all(len(pair) == 2 for pair in fit["ci95"].values())
        if not fit["identified"]:
            assert fit["critical_batch_size"] is None
    for point in summary["frontier"]:
        _check(point, FRONTIER)
        assert len(point["ci95_steps"]) == 2
        assert (point["steps"] is not None) == (point["outcome"] == "reached")


def test_summary_says_the_groups(hard_result: StudyResult) -> None:
    summary = _strict(hard_result)
    assert {fit["group"]["task.dimension"] for fit in summary["fits"]} == {4, 16}
    assert {point["group"]["task.dimension"] for point in summary["frontier"]} == {4, 16}
    assert hard_result.groups == [{"task.dimension": 4}, {"task.dimension": 16}]
    assert group_label({"task.dimension": 4, "a": "b"}) == "dimension = 4, a = b"


def test_plain_has_only_json_types() -> None:
    value = {"a": np.float64("nan"), "b": (np.int64(3), math.inf), "c": np.array([1.0, np.nan])}
    assert plain(value) == {"a": None, "b": [3, None], "c": [1.0, None]}
    assert plain(np.bool_(True)) is True


def test_loss_curves_are_the_seeds_mean(small_result: StudyResult, small_study: Frames) -> None:
    trials, curves = small_study
    table = small_result.frames["loss_curves"]
    assert sorted(table["batch_size"].unique()) == [1, 4, 16, 64, 256, 1024]
    some = table[(table["batch_size"] == 16) & (table["step"] == 10)].iloc[0]
    runs = trials.loc[(trials["batch_size"] == 16) & (trials["lr"] == some["lr"]), "run_id"]
    losses = curves.loc[curves["run_id"].isin(runs) & (curves["step"] == 10), "loss"]
    assert len(losses) == some["n_seeds"] == 2
    assert some["loss"] == pytest.approx(losses.mean())
    assert (some["loss_low"], some["loss_high"]) == (losses.min(), losses.max())
    assert some["examples"] == 160
    hardest = small_result.frontier.query("target_loss == @small_result.targets[-1]")
    best = hardest.set_index("batch_size")["lr"]
    assert (table["lr"] == table["batch_size"].map(best)).all()


def test_steps_by_batch_size_has_fit_and_theory(small_result: StudyResult) -> None:
    table = small_result.frames["steps_by_batch_size"]
    assert len(table) == len(small_result.frontier)
    ratio = table["steps"] / table["exact_steps_same_grid"]
    assert ratio.between(0.8, 1.25).all()
    assert (table["steps"] / table["fitted_steps"]).between(0.7, 1.4).all()
    assert (table["fitted_steps_low"] <= table["fitted_steps_high"]).all()
    assert (table["exact_steps_continuous_lr"] <= table["exact_steps_same_grid"] * 1.001).all()


def test_residuals_are_the_logs_of_steps_over_fit(small_result: StudyResult) -> None:
    table = small_result.frames["residuals"]
    both = table.merge(small_result.frames["steps_by_batch_size"], on=["target_loss", "batch_size"])
    ratio = np.log(both["steps"] / both["fitted_steps"])
    assert len(table) == len(small_result.frontier)
    np.testing.assert_allclose(both["log_residual"], ratio)
    for fit in small_result.fits:
        own = table[(table["target_loss"] == fit.target_loss) & table["used"]]
        assert own["batch_size"].tolist() == list(fit.batch_sizes)
        rmse = float(np.sqrt((own["log_residual"] ** 2).mean()))
        assert rmse == pytest.approx(fit.rmse_log_steps)


def test_forms_say_what_each_makes_of_the_critical_batch_size(small_result: StudyResult) -> None:
    table = small_result.frames["forms"]
    assert table["form"].tolist() == ["hyperbola", "knee", "power"] * 2
    assert (table.groupby("target_loss")["preferred"].sum() == 1).all()
    hyperbola = table[table["form"] == "hyperbola"]
    fitted = [fit.critical_batch_size or 0.0 for fit in small_result.fits]
    np.testing.assert_allclose(hyperbola["critical_batch_size"], fitted, rtol=1e-4)
    assert table.loc[table["form"] == "power", "critical_batch_size"].isna().all()


def test_rules_give_their_lr() -> None:
    sizes = np.array([1.0, 4.0])
    linear = {"rule": "linear", "coefficient": 0.5, "exponent": 1.0}
    root = {"rule": "square_root", "coefficient": 0.5, "exponent": 0.5}
    saturating = {"rule": "saturating", "lr_max": 1.0, "batch_scale": 4.0, "exponent": 1.0}
    np.testing.assert_allclose(predict_lr(linear, sizes), [0.5, 2.0])
    np.testing.assert_allclose(predict_lr(root, sizes), [0.5, 1.0])
    np.testing.assert_allclose(predict_lr(saturating, sizes), [0.2, 0.5])


def test_best_lr_rules_belong_to_their_group(hard_result: StudyResult) -> None:
    slopes = {4: 0.5, 16: 2.0}
    rules = pd.DataFrame(
        [
            {"task.dimension": d, "target_loss": 0.3, "rule": "linear", "coefficient": c}
            for d, c in slopes.items()
        ]
    ).assign(exponent=1.0)
    table = best_lr_frame(hard_result, rules)
    assert len(table) == len(hard_result.frontier)
    expected = table["task.dimension"].map(slopes) * table["batch_size"]
    expected[table["target_loss"] != 0.3] = np.nan
    np.testing.assert_allclose(table["lr_linear"], expected)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a b/c", "a_b_c"),
        ("../x", "x"),
        ("<b>", "b"),
        ("..", "unnamed_5ec1f7e7"),
        ("ok-1.5_x", "ok-1.5_x"),
    ],
)
def test_file_names_stay_in_their_folder(name: str, safe: str) -> None:
    assert file_name(name).strip("_") == safe
