"""Trained final losses against the exact ones: lr decays linearly to 0 at the end of each run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult
from analysis.final_loss_study import analyse_final_losses
from scaling.config import BudgetConfig, EvaluationConfig
from scaling.problem import RegressionProblem
from tests.exact_final_losses import exact_final_losses
from tests.scaling.test_final_losses import final_trial
from tests.scaling.trials import trained

PROBLEM = RegressionProblem.power_law(16)
SIZES, LENGTHS, SEEDS = (2, 4, 8, 16, 32, 64, 128), (256, 512, 1024, 2048, 4096), 24
LRS = [float(lr) for lr in 0.1 * 2 ** (np.arange(-7.0, 10.0) / 2)]
TARGETS = [share * PROBLEM.initial_risk for share in (0.01, 0.005)]


def train_all() -> pd.DataFrame:
    rows = []
    for size in SIZES:
        for length in LENGTHS:
            configs = [
                final_trial(
                    batch_size=size, lr=lr, seed=seed, budget=BudgetConfig(None, length),
                    relative_targets=[], evaluation=EvaluationConfig(1, 2.0),
                )
                for lr in LRS
                for seed in range(SEEDS)
            ]  # fmt: skip
            results = trained(*configs)[1]
            rows += [
                (size, config.lr, config.seed, length // size, result.main_loss)
                for config, result in zip(configs, results, strict=True)
            ]
    return pd.DataFrame(rows, columns=pd.Index(["batch_size", "lr", "seed", "steps", "loss"]))


@pytest.fixture(scope="module")
def measured() -> StudyResult:
    return analyse_final_losses(train_all(), targets=TARGETS, n_bootstrap=200)


@pytest.fixture(scope="module")
def exact() -> StudyResult:
    fine = [float(lr) for lr in 0.1 * 1.09 ** np.arange(-28.0, 37.0)]
    table = exact_final_losses(PROBLEM, SIZES, LENGTHS, fine)
    return analyse_final_losses(table, targets=TARGETS, n_bootstrap=2)


def both(measured: StudyResult, exact: StudyResult, frame: str, on: list[str]) -> pd.DataFrame:
    frames = [
        result.frontier if frame == "frontier" else result.frames[frame]
        for result in (measured, exact)
    ]
    return frames[0].merge(frames[1], on=on, suffixes=("", "_exact"))


@pytest.mark.long
def test_the_best_batch_size_of_each_length(measured: StudyResult, exact: StudyResult) -> None:
    """Small batches end alike, so that seeds leave the best one open; its interval holds it."""
    best = both(measured, exact, "best_batch_size", ["examples"])
    assert len(best) == len(LENGTHS)
    assert (best["batch_size_low"] <= best["batch_size_refined_exact"]).all()
    assert (best["batch_size_high"] >= best["batch_size_refined_exact"]).all()
    assert (best["batch_size_high"].iloc[0]) < 32


@pytest.mark.long
def test_losses_and_best_lrs(measured: StudyResult, exact: StudyResult) -> None:
    """At every batch size and length; the least loss is that of a continuous lr."""
    at = both(measured, exact, "loss_by_length", ["examples", "batch_size"])
    assert len(at) == len(SIZES) * len(LENGTHS)
    inside = at["loss_exact"].between(at["loss_low"], at["loss_high"])
    assert inside.mean() > 0.8
    assert np.abs(np.log(at["loss"] / at["loss_exact"])).max() < 0.35
    off = np.log(at["lr_refined"] / at["lr_refined_exact"])[~at["lr_at_edge"].astype(bool)]
    assert float(np.median(np.abs(off))) < np.log(2**0.5)
    assert np.abs(off).max() < np.log(2.9)


@pytest.mark.long
def test_steps_to_final_losses(measured: StudyResult, exact: StudyResult) -> None:
    """S(B) of runs that end at the target."""
    at = both(measured, exact, "frontier", ["target_loss", "batch_size"])
    at = at.dropna(subset=["steps", "steps_exact"])
    assert len(at) >= 10
    assert at["steps_exact"].between(at["steps_low"], at["steps_high"]).mean() > 0.8
    assert np.abs(np.log(at["steps"] / at["steps_exact"])).max() < 0.25
