"""Seconds per step, time to target, and half or twice the batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from analysis.fit.fitting import FitResult
from analysis.measure.bootstrap import FrontierDraws
from analysis.measure.step_time import (
    StepTime,
    fit_step_time,
    of_group,
    probe_frame,
    read_step_time,
    trial_step_seconds,
)
from analysis.topics.halve_double import TRADE_COLUMNS, halve_double_frame
from analysis.topics.step_time import STEP_TIME_COLUMNS, step_time_caveats, step_time_frame
from analysis.topics.time_to_target import (
    CHOICE_COLUMNS,
    TIME_COLUMNS,
    time_to_target_frames,
)
from tests.analysis.planted import planted_fit

SIZES = np.array([1.0, 4.0, 16.0, 64.0, 256.0])
OVERHEAD, PER_EXAMPLE = 2e-3, 1e-4


def timed(noise: float = 0.0, shape: str = "linear", n_trials: int = 6) -> StepTime:
    rng = np.random.default_rng(0)
    seconds = OVERHEAD + PER_EXAMPLE * SIZES
    if shape == "flat, then linear":
        seconds = np.maximum(OVERHEAD, 4 * PER_EXAMPLE * SIZES)
    rows = [
        {"batch_size": int(size), "step_seconds": t * np.exp(noise * rng.standard_normal())}
        for size, t in zip(SIZES, seconds, strict=True)
        for _ in range(n_trials)
    ]
    trials = pd.DataFrame(rows)
    time = read_step_time(trials, {}, 8.0, n_bootstrap=300)
    assert time is not None
    return time


def frontier_of(fit: FitResult, n_seeds: int = 3) -> tuple[pd.DataFrame, dict[int, FrontierDraws]]:
    steps = fit.predict(SIZES)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "target_loss": fit.target_loss, "batch_size": SIZES.astype(int), "steps": steps,
            "examples": steps * SIZES, "outcome": "reached", "lr_at_edge": False,
            "n_seeds": n_seeds, "lr": 0.1,
        }
    )  # fmt: skip
    best = np.zeros((1, 300), int)
    draws = {
        int(b): FrontierDraws(s * np.exp(0.03 * rng.standard_normal((1, 300))), best)
        for b, s in zip(SIZES, steps, strict=True)
    }  # fmt: skip
    return frame, draws


def by_name(choices: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    return {row["name"]: row for row in choices.to_dict("records")}


def test_overhead_and_cost_come_back() -> None:
    time = timed(noise=0.05)
    assert time.overhead == pytest.approx(OVERHEAD, rel=0.06)
    assert time.per_example == pytest.approx(PER_EXAMPLE, rel=0.06)
    assert time.fits
    frame = step_time_frame([time], [])
    assert list(frame.columns) == STEP_TIME_COLUMNS
    assert (frame["step_seconds_low"] <= frame["step_seconds"]).all()
    assert (frame["step_seconds"] <= frame["step_seconds_high"]).all()
    assert frame["n_trials"].tolist() == [6] * 5
    assert step_time_caveats(time) == []


def test_a_device_that_is_flat_and_then_linear_is_told() -> None:
    time = timed(shape="flat, then linear")
    assert not time.fits
    assert "not an overhead plus a cost per example: at batch size" in step_time_caveats(time)[0]
    assert not step_time_frame([time], [])["fits"].any()


@given(
    st.lists(st.floats(1e-5, 10), min_size=2, max_size=6),
    st.integers(0, 1000),
)
def test_the_fit_is_non_negative_least_squares(seconds: list[float], seed: int) -> None:
    chosen = np.random.default_rng(seed).permutation(1000)[: len(seconds)]
    sizes = np.sort(chosen).astype(np.float64) + 1.0
    t = np.array(seconds)
    _, residual = nnls(np.stack([1 / t, sizes / t], axis=1), np.ones(len(t)))
    found = fit_step_time(sizes, t)
    assert (found >= 0).all()
    misfit = np.sqrt(np.sum(((found[0] + found[1] * sizes) / t - 1) ** 2))
    assert misfit == pytest.approx(residual, rel=1e-6, abs=1e-9)


def test_one_batch_size_has_a_time_and_no_fit() -> None:
    trials = pd.DataFrame({"batch_size": [8, 8], "step_seconds": [0.1, 0.3]})
    time = read_step_time(trials, {"a": 1}, None, n_bootstrap=50)
    assert time is not None
    assert time.seconds.tolist() == [0.2]
    assert np.isnan(time.overhead)
    assert not time.fits
    assert step_time_caveats(time) == []
    frame = step_time_frame([time], ["a"])
    assert frame["a"].tolist() == [1]
    assert np.isnan(frame["fitted_seconds"].iloc[0])


def test_where_seconds_come_from() -> None:
    trials = pd.DataFrame({"run_id": ["a", "b", "c"], "batch_size": 1})
    curves = pd.DataFrame({"run_id": ["a", "a", "a", "b"], "step_seconds": [1.0, 2.0, 9.0, np.nan]})
    found = trial_step_seconds(trials, curves)
    assert found.tolist()[0] == 2
    assert found.isna().tolist() == [False, True, True]
    own = trials.assign(step_seconds=[0.5, -1.0, 0.0])
    assert trial_step_seconds(own, curves).tolist()[0] == 0.5
    assert trial_step_seconds(own, curves).isna().tolist() == [False, True, True]
    nothing = trial_step_seconds(trials, curves[["run_id"]])
    assert nothing.isna().all()
    assert read_step_time(trials.assign(step_seconds=nothing), {}, None) is None
    assert list(step_time_frame([], ["a"]).columns) == ["a", *STEP_TIME_COLUMNS]


def test_probes_count_before_trials() -> None:
    trials = pd.DataFrame({"batch_size": [8], "step_seconds": [0.5]})
    probes = probe_frame(
        [
            {"batch_size": 8, "width": 16, "step_seconds": (0.1, 0.2)},
            {"batch_size": 4, "width": 32, "step_seconds": (0.3,)},
        ]
    )
    assert of_group(trials, probes, {"width": 16})["step_seconds"].tolist() == [0.1, 0.2]
    assert of_group(trials, probes, {"width": 64})["step_seconds"].tolist() == [0.5]
    assert of_group(trials, probes, {"width": 16, "beta": "none"})["batch_size"].tolist() == [8, 8]
    assert of_group(trials, probes, {"width": 16, "beta": 1})["step_seconds"].tolist() == [0.5]
    assert of_group(trials, probe_frame([]), {})["step_seconds"].tolist() == [0.5]


def test_the_fastest_and_the_cheapest_are_different_answers() -> None:
    fit = planted_fit({}, 0.1, 50, 800, noise=0.02)
    frontier, draws = frontier_of(fit)
    frame, choices = time_to_target_frames(frontier, draws, [0.1], timed(0.02), [fit], {})
    assert list(frame.columns) == TIME_COLUMNS
    assert list(choices.columns) == CHOICE_COLUMNS
    assert frame["seconds"].to_numpy() == pytest.approx(
        (frame["steps"] * frame["step_seconds"]).to_numpy()
    )
    assert (frame["seconds_low"] < frame["seconds"]).all()
    assert (frame["seconds_high"] > frame["seconds"]).all()
    named = by_name(choices)
    assert named["cheapest"]["batch_size"] == 1
    assert named["cheapest"]["batch_size_at_edge"]
    assert named["fastest"]["batch_size"] == 16
    # sqrt(B_crit o/p) = sqrt(16 * 20) = 17.9
    assert named["fastest_fitted"]["batch_size"] == pytest.approx(17.9, rel=0.08)
    low, high = (named["fastest_fitted"][f"batch_size_{end}"] for end in ("low", "high"))
    assert low < named["fastest_fitted"]["batch_size"] < high
    assert named["fastest_fitted"]["seconds"] == pytest.approx(
        named["fastest"]["seconds"], rel=0.05
    )


def test_the_fitted_time_is_least_where_it_says() -> None:
    fit, time = planted_fit({}, 0.1, 50, 800), timed()
    frontier, draws = frontier_of(fit)
    choices = time_to_target_frames(frontier, draws, [0.1], time, [fit], {})[1]
    found = by_name(choices)["fastest_fitted"]
    dense = np.geomspace(1, 256, 20_001)
    seconds = fit.predict(dense) * time.fitted(dense)
    assert found["batch_size"] == pytest.approx(dense[seconds.argmin()], rel=1e-3)
    assert found["seconds"] == pytest.approx(seconds.min(), rel=1e-7)


@pytest.mark.parametrize("lacking", ["seconds", "targets reached", "seeds", "bend", "straight t"])
def test_what_is_not_known_is_not_said(lacking: str) -> None:
    fit = planted_fit({}, 0.1, 50, 800)
    frontier, draws = frontier_of(fit, n_seeds=1 if lacking == "seeds" else 3)
    time = None if lacking == "seconds" else timed()
    if lacking == "straight t":
        time = timed(shape="flat, then linear")
    if lacking == "targets reached":
        frontier["outcome"] = "censored"
    if lacking == "bend":
        fit.critical_batch_size = None
    frame, choices = time_to_target_frames(frontier, draws, [0.1], time, [fit], {})
    if lacking in ("seconds", "targets reached"):
        assert frame.empty
        assert choices.empty
        return
    assert len(frame) == 5
    if lacking == "seeds":
        assert frame["seconds_low"].isna().all()
        assert np.isnan(by_name(choices)["fastest"]["batch_size_low"])
    else:
        assert "fastest_fitted" not in set(choices["name"])


def trades(time: StepTime | None = None, **changes: Any) -> pd.DataFrame:
    fit = planted_fit({}, 0.1, 50, 800, noise=changes.pop("noise", 0.0))
    for name, value in changes.items():
        setattr(fit, name, value)
    return halve_double_frame([fit], [] if time is None else [time], [])


def test_half_and_twice_the_balanced_batch_size() -> None:
    frame = trades(timed())
    assert list(frame.columns) == TRADE_COLUMNS
    half, twice = frame[frame["start"] == "balanced"].to_dict("records")
    assert (half["batch_size"], half["to_batch_size"], twice["to_batch_size"]) == (16, 8, 32)
    # S = S_min (1 + B_crit/B): 3/2 of twice at half, 3/4 at twice
    assert half["steps_percent"] == pytest.approx(50)
    assert half["examples_percent"] == pytest.approx(-25)
    assert twice["steps_percent"] == pytest.approx(-25)
    assert twice["examples_percent"] == pytest.approx(50)
    t = OVERHEAD + PER_EXAMPLE * np.array([8, 16, 32])
    assert half["seconds_percent"] == pytest.approx(100 * (1.5 * t[0] / t[1] - 1))
    assert twice["seconds_percent"] == pytest.approx(100 * (0.75 * t[2] / t[1] - 1))


def test_trades_hold_their_noise_and_their_reach() -> None:
    frame = trades(noise=0.05)
    assert (frame["steps_percent_low"] < frame["steps_percent"]).all()
    assert (frame["steps_percent_high"] > frame["steps_percent"]).all()
    assert frame["seconds_percent"].isna().all()
    measured = frame[frame["start"] == "measured"]
    assert measured["to_batch_size"].min() == 2  # half an example is no batch
    assert measured.loc[measured["extrapolated"], "to_batch_size"].tolist() == [512]
    unbent = trades(critical_batch_size=None)
    assert set(unbent["start"]) == {"measured"}
    assert trades(log_parameters=None).empty


def test_a_crooked_step_time_is_used_between_measured_batch_sizes_alone() -> None:
    frame = trades(timed(shape="flat, then linear"), batch_sizes=(1, 2, 4))
    assert frame["seconds_percent"].isna().all()  # 2 and 8 were not timed
