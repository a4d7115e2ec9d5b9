"""The whole of the statistics on simulated studies whose answer is known."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from analysis import analyse
from analysis.errors import AnalysisError
from analysis.fit.compute_frontier import COMPUTE_COLUMNS
from analysis.fit.law_fit import LAW_COLUMNS
from analysis.measure.losses_at_examples import BUDGET_COLUMNS
from analysis.read.selection import varying_params
from analysis.theory.trials import exact_theory
from scaling.problem import RegressionProblem
from tests.analysis.conftest import Frames
from tests.analysis.simulated import simulate_study

PROBLEM = RegressionProblem.power_law(64)
TARGETS = [0.08 * PROBLEM.initial_risk, 0.06 * PROBLEM.initial_risk]
SIZES = [2**k for k in range(9)]
LRS = np.geomspace(0.01, 1.28, 15)


@pytest.fixture(scope="module")
def frames():
    """Real mini-batch SGD in numpy: 9 batch sizes, sqrt(2) lrs, 8 seeds."""
    return simulate_study(PROBLEM, SIZES, LRS, range(8), TARGETS, max_steps=1400)


@pytest.fixture(scope="module")
def result(frames):
    return analyse(*frames, n_bootstrap=400)


def test_critical_batch_size_of_real_sgd_is_near_the_exact_value(result):
    assert len(result.fits) == 2
    for fit in result.fits:
        assert fit.identified
        assert fit.exact is not None
        assert fit.critical_batch_size == pytest.approx(fit.exact["same_grid"], rel=0.2)
        assert fit.exact["continuous_lr"] == pytest.approx(fit.exact["same_grid"], rel=0.25)
        low, high = fit.ci95["critical_batch_size"]
        assert low < fit.critical_batch_size < high
        assert not fit.approximate_ci


def test_steps_are_near_the_exact_ones(result):
    theory = result.theory[result.theory["lr_choice"] == "same_grid"]
    both = result.frontier.merge(theory, on=["target_loss", "batch_size"], suffixes=("", "_exact"))
    assert len(both) == len(SIZES) * 2
    off = np.log(both["steps"] / both["steps_exact"])  # sd 0.1 with 8 seeds (100 simulations)
    assert abs(off.mean()) < 0.05
    assert off.abs().max() < 0.4
    inside = (both["steps_low"] <= both["steps_exact"]) & (
        both["steps_exact"] <= both["steps_high"]
    )
    assert inside.mean() > 0.7


def test_frames_have_the_columns_of_the_contract(result):
    assert list(result.cells.columns) == [
        "target_loss", "batch_size", "lr", "steps", "outcome", "n_seeds", "n_diverged", "last_step",
        "steps_lower", "steps_upper", "compared",
    ]  # fmt: skip
    assert list(result.frontier.columns) == [
        "target_loss", "batch_size", "steps", "examples", "lr", "outcome", "lr_at_edge", "n_seeds",
        "n_lrs", "steps_low", "steps_high", "lr_low", "lr_high", "steps_lower", "steps_upper",
        "lr_refined", "better_lrs",
    ]  # fmt: skip
    assert list(result.frames["loss_at_fixed_examples"].columns) == BUDGET_COLUMNS
    assert list(result.frames["laws"].columns) == LAW_COLUMNS
    assert list(result.frames["compute_frontier"].columns) == COMPUTE_COLUMNS
    assert result.frames["step_time"].empty
    assert result.frames["time_to_target"].empty
    assert (
        result.frames["recommendations"]["name"].tolist()
        == ["economical", "balanced", "fewest_steps"] * 2
    )
    assert len(result.frames["lr_rules"]) == 12
    assert len(result.cells) == len(SIZES) * len(LRS) * 2
    assert result.targets == TARGETS
    assert result.group_by == []


def test_the_best_lr_grows_with_the_batch_size_and_saturates(result):
    rules = result.frames["lr_rules"]
    assert "saturating" in set(rules.loc[rules["preferred"], "rule"])


def test_the_same_seed_gives_the_same_numbers(frames, result):
    again = analyse(*frames, n_bootstrap=400)
    pd.testing.assert_frame_equal(again.frontier, result.frontier)
    assert again.fits[0].summary() == result.fits[0].summary()
    other = analyse(*frames, n_bootstrap=400, seed=1, with_theory=False)
    assert other.fits[0].ci95 != result.fits[0].ci95
    assert other.theory.empty
    assert other.fits[0].exact is None


def test_the_order_of_rows_does_not_matter(frames, result):
    trials, curves = frames
    shuffled = analyse(
        trials.sample(frac=1, random_state=0), curves.sample(frac=1, random_state=0),
        n_bootstrap=400,
    )  # fmt: skip
    pd.testing.assert_frame_equal(shuffled.frontier, result.frontier)


def test_objectives(frames, result):
    plain = analyse(*frames, n_bootstrap=400, with_theory=False, fit_objective="log_steps")
    for ours, theirs in zip(result.fits, plain.fits, strict=True):
        assert (ours.objective, theirs.objective) == ("likelihood", "log_steps")
        assert ours.critical_batch_size == pytest.approx(theirs.critical_batch_size, rel=0.05)
    with pytest.raises(AnalysisError, match=r"fit.objective=huber: must be one of likelihood, log"):
        analyse(*frames, fit_objective="huber")


def test_seeds_can_be_resampled_jointly(frames, result):
    joint = analyse(*frames, n_bootstrap=400, with_theory=False, jointly=True)
    ours, theirs = joint.fits[0], result.fits[0]
    assert ours.critical_batch_size == pytest.approx(theirs.critical_batch_size, rel=1e-6)
    assert ours.ci95["critical_batch_size"] != theirs.ci95["critical_batch_size"]


def test_own_targets(frames):
    found = analyse(*frames, targets=[0.5], n_bootstrap=20, with_theory=False)
    assert found.targets == [0.5]


@pytest.mark.parametrize("target", [0.0, -1.0, 1.01 * PROBLEM.initial_risk])
def test_impossible_targets_are_refused(frames, target):
    with pytest.raises(AnalysisError, match=r"targets: .* irreducible loss 0 .* initial loss 4.74"):
        analyse(*frames, targets=[0.5, target])


def test_one_seed(frames):
    trials, curves = frames
    found = analyse(trials[trials["seed"] == 3], curves, n_bootstrap=200)
    assert all(fit.approximate_ci for fit in found.fits)
    assert found.frontier["steps_low"].isna().all()
    assert found.fits[0].ci95["critical_batch_size"][0] is not None
    assert any("one seed" in warning for warning in found.warnings)


def test_a_budget_that_is_too_short_censors(frames):
    trials, curves = frames
    found = analyse(trials, curves[curves["step"] <= 40], n_bootstrap=50)
    reached = found.frontier["outcome"] == "reached"
    assert not reached[found.frontier["batch_size"] == 1].any()
    assert any("was not reached within" in warning for warning in found.warnings)
    nothing = analyse(trials, curves[curves["step"] <= 2], n_bootstrap=50)
    assert (nothing.frontier["outcome"] != "reached").all()
    assert [fit.identified for fit in nothing.fits] == [False, False]
    assert nothing.frames["recommendations"].empty
    assert nothing.frames["lr_rules"].empty
    assert nothing.frames["loss_at_fixed_examples"].empty


def test_small_batch_sizes_only(frames):
    trials, curves = frames
    found = analyse(trials[trials["batch_size"] <= 4], curves, n_bootstrap=200)
    for fit in found.fits:
        assert not fit.identified
        assert fit.at_least is not None
    assert any("not identified: at least" in warning for warning in found.warnings)


def test_lr_edges_are_marked(frames):
    trials, curves = frames
    found = analyse(trials[trials["lr"] < 0.3], curves, n_bootstrap=50)
    large = found.frontier[found.frontier["batch_size"] >= 128]
    assert large["lr_at_edge"].all()
    assert any("smallest or largest that was tried" in warning for warning in found.warnings)
    assert max(found.fits[0].batch_sizes) < 128


def test_one_batch_size(frames):
    trials, curves = frames
    found = analyse(trials[trials["batch_size"] == 8], curves, n_bootstrap=50)
    assert any("only one batch size" in warning for warning in found.warnings)
    assert not found.fits[0].identified


def test_groups_are_found_and_kept_apart(frames, result):
    other = RegressionProblem.power_law(8, label_noise=0.5)
    targets = [0.1 * other.initial_risk]
    more = simulate_study(other, SIZES[:7], LRS, range(3), targets, max_steps=300)
    trials, curves = (pd.concat(pair, ignore_index=True) for pair in zip(frames, more, strict=True))
    found = analyse(trials, curves, n_bootstrap=400)
    assert found.group_by == ["task.dimension"]  # model_size and label_noise change along with it
    assert [fit.group["task.dimension"] for fit in found.fits] == [8, 64, 64]
    alone = result.frontier["steps"].to_numpy()
    grouped = found.frontier[found.frontier["task.dimension"] == 64]["steps"].to_numpy()
    np.testing.assert_array_equal(grouped, alone)
    for frame in (
        found.cells,
        found.theory,
        found.frames["lr_rules"],
        found.frames["loss_at_fixed_examples"],
    ):
        assert set(frame["task.dimension"]) == {8, 64}
    with pytest.raises(
        AnalysisError, match=r"group_by: trials of equal .* differ in task.dimension"
    ):
        analyse(trials, curves, group_by=[])
    with pytest.raises(AnalysisError, match="group_by: no param named depth"):
        analyse(trials, curves, group_by=["depth"])


def test_params_that_some_trials_do_not_have(frames):
    trials, curves = frames
    trials = trials.copy()
    trials["optimizer.beta"] = np.where(trials["batch_size"] > 0, np.nan, 0.9)
    twin = trials.assign(run_id="x" + trials["run_id"], **{"optimizer.beta": 0.9})
    both = pd.concat([trials, twin], ignore_index=True)
    doubled = pd.concat([curves, curves.assign(run_id="x" + curves["run_id"])])
    found = analyse(both, doubled, n_bootstrap=20, with_theory=False)
    assert found.group_by == ["optimizer.beta"]
    assert {fit.group["optimizer.beta"] for fit in found.fits} == {0.9, "none"}


def test_unfinished_and_repeated_trials(frames, result):
    trials, curves = frames
    running = trials.iloc[:5].assign(status="RUNNING", run_id="running", seed=99)
    best = trials[(trials["batch_size"] == 64) & (trials["lr"] > 0.3)]
    twin = best.iloc[:3].assign(run_id="twin", last_step=0)
    found = analyse(pd.concat([trials, running, twin], ignore_index=True), curves, n_bootstrap=400)
    assert "5 running" in found.warnings[0]
    assert "3 trials repeat" in found.warnings[1]
    pd.testing.assert_frame_equal(found.frontier, result.frontier)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "RUNNING"}, "no finished trials .*1080 running"),
        ({"outcome": "diverged"}, "all 1080 finished trials diverged; .* lr"),
    ],
)
def test_studies_without_anything_to_say(frames, change, message):
    trials, curves = frames
    with pytest.raises(AnalysisError, match=message):
        analyse(trials.assign(**change), curves)
    with pytest.raises(AnalysisError, match="no finished trials"):
        analyse(trials.iloc[:0], curves)


def test_varying_params():
    frame = pd.DataFrame(
        {
            "batch_size": [1, 2], "seed": [0, 1], "budget.max_steps": [5, 6], "model_size": [1, 2],
            "task.dimension": [1, 2], "optimizer.name": ["sgd", "adam"], "constant": [1, 1],
        }
    )  # fmt: skip
    assert varying_params(frame) == ["optimizer.name"]


@pytest.mark.long
def test_a_study_of_full_size_takes_seconds():
    problem = RegressionProblem.power_law(64)
    targets = [share * problem.initial_risk for share in (0.1, 0.03, 0.01)]
    grid = np.geomspace(0.005, 1.3, 16)
    sizes = [2**k for k in range(13)]
    frames = simulate_study(problem, sizes, grid, range(8), targets, max_steps=15_000, noise=0.05)
    start = time.process_time()
    found = analyse(*frames)
    assert time.process_time() - start < 15
    for fit in found.fits:
        assert fit.exact is not None
        assert fit.critical_batch_size == pytest.approx(fit.exact["same_grid"], rel=0.1)


def test_the_normalisation_is_said() -> None:
    import pandas as pd

    from analysis.caveats import norm_caveats

    trials = pd.DataFrame(
        {
            "model.norm": ["batch", "group", "none"],
            "model.ghost_batch_size": [None, None, None],
            "evaluation.recompute_statistics": [True, True, True],
        }
    )
    batch, group, none = norm_caveats(trials)
    assert "the loss itself depends on the batch size" in batch
    assert "recomputed on training examples" in batch
    assert (group, none) == ("Networks were normalised by group.", "Networks were not normalised.")
    trials["evaluation.recompute_statistics"] = False
    trials["model.ghost_batch_size"] = 16
    assert "ghost batches" in norm_caveats(trials)[0]
    assert "lag behind" in norm_caveats(trials)[0]
    assert norm_caveats(trials[[]]) == []


@pytest.mark.long
def test_theory_is_read_at_the_evaluations_of_the_trials(small_study: Frames) -> None:
    trials, curves = small_study
    trials = trials.assign(**{"optimizer.name": "momentum", "optimizer.momentum": 0.9})
    some = {0, 1, 2, 4, 8, 16, 33, 64, 128, 256, 512, 1024}
    sparse = curves[curves["step"].isin(some)]
    (targets,) = set(trials["targets"])
    found = analyse(trials, sparse, n_bootstrap=10).theory
    steps = sorted(set(sparse["step"]))
    expected = exact_theory(trials, targets, 20_000, steps)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert not np.allclose(found["steps"], exact_theory(trials, targets, 20_000)["steps"])
