"""Public MLPerf results: runs that all stop at the target, tuned by hand for each batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.options import shipped_table
from analysis.read.curves import read_curves_csv

CURVES = Path(__file__).parents[3] / "shared/data/mlperf/llama2_70b_lora_curves.csv"
NAMES = {"run_id": "run", "batch_size": "global_batch_size", "examples": "samples"}


def published_curves() -> pd.DataFrame:
    if not CURVES.exists():
        pytest.skip(f"the public curves are not beside the checkout: {CURVES.name}")
    return pd.read_csv(CURVES)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    published_curves()  # or skipped
    frames = read_curves_csv(CURVES, NAMES)
    return analyse(*frames, targets=[0.925], group_by=[], n_bootstrap=200)


def test_every_batch_size_has_reached_the_target_at_which_its_runs_stop(
    result: StudyResult,
) -> None:
    assert result.frontier["batch_size"].tolist() == [8, 32, 48, 64, 128]
    assert set(result.frontier["outcome"]) == {"reached"}
    assert (result.frontier["steps_low"] < result.frontier["steps"]).all()
    assert any("the single runs' crossings" in text for text in result.warnings)


def test_steps_are_near_those_at_which_the_runs_stopped(result: StudyResult) -> None:
    """A run ends at the first evaluation below the target: its crossing is less than one before."""
    runs = published_curves().groupby(["global_batch_size", "lr", "run"])["samples"].max()
    last = runs.groupby(["global_batch_size", "lr"]).mean()
    for row in result.frontier.to_dict("records"):
        stopped = last[row["batch_size"], row["lr"]] / row["batch_size"]
        assert 0.8 * stopped < row["steps"] < 1.01 * stopped


def test_a_batch_size_that_was_not_tuned_is_not_taken_for_seed_noise(result: StudyResult) -> None:
    """At 32 one small lr was run: 50 % more steps than the others suggest."""
    (fit,) = result.fits
    assert not fit.identified
    assert any("which their seeds" in note for note in fit.notes)
    assert fit.at_least is not None
    assert fit.at_least < 47  # what the hyperbola gives, with 44 to 50 by the seeds alone
    assert 64 not in fit.batch_sizes  # its best lr is the largest tried: an upper bound
    assert fit.upper_bounded_batch_sizes == (64,)


@pytest.mark.parametrize(("size", "lr", "reference_lr"), [(8, 4e-4, 4e-4), (128, 6e-4, 1e-3)])
def test_these_runs_took_the_steps_of_the_reference_points(
    size: int, lr: float, reference_lr: float
) -> None:
    """The batch sizes that both have, with equal or similar lrs: means within two standard errors.

    At 32 the curves have a smaller lr alone, and took longer.
    """
    curves = published_curves()
    curves = curves[(curves["global_batch_size"] == size) & (curves["lr"] == lr)]
    stopped = curves.groupby("run")["samples"].max() / size
    points = pd.read_csv(shipped_table("mlperf.csv"))
    points = points[(points["benchmark"] == "llama2_70b_lora") & (points["batch_size"] == size)]
    assert set(points["lr"]) == {reference_lr}
    both = [stopped.to_numpy(float), points["steps"].to_numpy(float)]
    error = np.sqrt(sum(steps.var(ddof=1) / len(steps) for steps in both))
    assert abs(both[0].mean() - both[1].mean()) < 2 * error
    # both evaluate every 384 sequences
    assert (stopped * size % 384 == 0).all()
    assert (points["steps"] * size % 384 == 0).all()
