"""Quantities of studies that compare optimizers: critical batch sizes and best learning rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.errors import AnalysisError
from analysis.groups import group_label
from analysis.topics import QUANTITIES
from analysis.topics.optimizers import ORDER, critical_batch_size_ratio
from scaling import schema
from scaling.optimizers.config import OPTIMIZERS
from tests.analysis.topics.quantities import find, part_of

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LRS = np.geomspace(0.001, 4.0, 48)


def study(**critical: float) -> StudyResult:
    """Optimizers with S(B) = 10 (1 + B_crit/B) at lr(B) = 0.5/(1 + B_crit/B), a parabola around."""
    rows, points = [], []
    for name, scale in critical.items():
        for size in SIZES:
            best = 0.5 / (1 + scale / size)
            for lr in LRS[np.abs(np.log(LRS / best)) < 0.9]:
                run = f"{name}-{size}-{lr:.6g}"
                factor = 1 + np.log(lr / best) ** 2
                rows.append(
                    {
                        "run_id": run,
                        "study": "planted",
                        "batch_size": size,
                        "lr": lr,
                        "seed": 0,
                        "optimizer.name": name,
                        "model_size": 8,
                        "initial_loss": 1.0,
                        "irreducible_loss": 0.0,
                        "targets": (0.1,),
                    }
                )
                for step in np.unique(np.geomspace(1, 60 * (1 + scale / size), 60).astype(int)):
                    loss = (10 * (1 + scale / size) * factor / step) * 0.1
                    points.append({"run_id": run, "step": step, "loss": min(loss, 1.0)})
    trials = pd.DataFrame(rows).assign(
        status="FINISHED", outcome="reached", max_steps=100_000, last_step=100_000
    )
    return analyse(trials, pd.DataFrame(points), n_bootstrap=20, with_theory=False)


@pytest.fixture(scope="module")
def planted() -> StudyResult:
    return study(sgd=8.0, momentum=40.0)


def test_names_are_those_of_the_schema() -> None:
    assert set(QUANTITIES) == set(schema.QUANTITIES)


def test_ratio_of_critical_batch_sizes(planted: StudyResult) -> None:
    [found] = find("critical_batch_size_ratio", planted)
    assert found.what.startswith("momentum / sgd")
    assert found.value == pytest.approx(5.0, rel=0.05)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 5.0 < found.high
    assert found.predicted is None


def test_every_optimizer_has_its_place_in_the_order() -> None:
    assert set(ORDER) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", ["sgdw", "momentumw", "rmspropw", "lion"])
def test_a_ratio_of_any_optimizer(planted: StudyResult, name: str) -> None:
    """Also of those that only other people's tables name, which come last."""
    fits = [
        replace(fit, group={"optimizer.name": name})
        if fit.group["optimizer.name"] == "momentum"
        else fit
        for fit in planted.fits
    ]
    [found] = critical_batch_size_ratio(replace(planted, fits=fits), {})
    assert found.what.startswith(f"{name} / sgd")
    [other] = find("critical_batch_size_ratio", planted)
    assert found.value == other.value


def test_ratio_of_the_exact_values(planted: StudyResult) -> None:
    exact = {"sgd": 10.0, "momentum": 25.0}
    fits = [
        replace(fit, exact={"continuous_lr": exact[fit.group["optimizer.name"]]})
        for fit in planted.fits
    ]
    [found] = critical_batch_size_ratio(replace(planted, fits=fits), {})
    assert found.predicted == pytest.approx(2.5)


def test_a_ratio_to_what_is_not_identified_is_none(planted: StudyResult) -> None:
    momentum, sgd = planted.fits
    unknown = replace(momentum, critical_batch_size=None, at_least=512.0, reason="it never bends")
    [found] = critical_batch_size_ratio(replace(planted, fits=[sgd, unknown]), {})
    assert found.value is None
    assert "it never bends" in found.reason
    assert sgd.critical_batch_size is not None
    assert found.low == pytest.approx(512.0 / sgd.critical_batch_size)


def test_a_ratio_needs_two_optimizers(planted: StudyResult) -> None:
    alone = part_of(planted, {"optimizer.name": "sgd"})
    with pytest.raises(AnalysisError, match="several optimizers"):
        find("critical_batch_size_ratio", alone)


def test_best_lrs_and_how_they_rise(planted: StudyResult) -> None:
    sgd = part_of(planted, {"optimizer.name": "sgd"})
    lrs = find("best_lr", sgd)
    assert len(lrs) == len(SIZES)
    for size, found in zip(SIZES, lrs, strict=True):
        assert f"batch size {size}," in found.what
        assert found.value == pytest.approx(0.5 / (1 + 8 / size), rel=0.05)
        assert found.standard_error is not None
    [small] = find("lr_slope_small_batches", sgd)
    [large] = find("lr_slope_large_batches", sgd)
    assert small.value == pytest.approx(np.log(9 / 3) / np.log(4), abs=0.05)
    assert large.value == pytest.approx(0.0, abs=0.1)
    [gain] = find("lr_saturation", sgd)
    assert gain.value is not None
    assert gain.value > 10


def test_slopes_of_the_exact_optima(planted: StudyResult) -> None:
    """Predicted: the slope of the lrs of theory at the same batch sizes, here lr = B / 1000."""
    sgd = part_of(planted, {"optimizer.name": "sgd"})
    theory = pd.DataFrame(
        {
            "optimizer.name": "sgd",
            "target_loss": 0.1,
            "batch_size": SIZES,
            "lr_choice": "continuous_lr",
            "steps": 1.0,
            "lr": np.array(SIZES) / 1000,
        }
    )
    [small] = find("lr_slope_small_batches", replace(sgd, theory=theory))
    assert small.predicted == pytest.approx(1.0)
    assert find("best_lr", replace(sgd, theory=theory))[1].predicted == pytest.approx(0.002)


def test_groups_of_optimizers_with_a_param_of_their_own(planted: StudyResult) -> None:
    """A param that one optimizer alone has is "none" in the others, in every table."""
    trials = planted.trials.copy()
    alone = trials["optimizer.name"] == "momentum"
    trials["optimizer.power"] = np.where(alone, 1.0, np.nan)
    half = trials[alone].assign(**{"optimizer.power": 0.5})
    half["run_id"] += "-half"
    again = planted.curves[planted.curves["run_id"].isin(trials.loc[alone, "run_id"])]
    curves = pd.concat([planted.curves, again.assign(run_id=again["run_id"] + "-half")])
    result = analyse(
        pd.concat([trials, half], ignore_index=True), curves, n_bootstrap=5, with_theory=False
    )
    names = ["optimizer.name", "optimizer.power"]
    assert result.group_by == names
    assert len(result.frames["loss_curves"][names].drop_duplicates()) == 3
    labels = [group_label(fit.group) for fit in result.fits]
    assert labels == ["momentum, power = 0.5", "momentum, power = 1", "sgd"]
    part = part_of(result, {"optimizer.name": ["sgd", "momentum"], "optimizer.power": [None, 1.0]})
    assert len(part.fits) == 2
    [found] = find("critical_batch_size_ratio", part)
    assert found.what.startswith("momentum, power = 1 / sgd")
    assert found.value == pytest.approx(5.0, rel=0.05)
