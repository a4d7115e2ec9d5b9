"""Targets chosen from curves, and curves that stop at first touch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import analyse
from analysis.early_stop import early_stop_caveats
from analysis.errors import AnalysisError
from analysis.measure.cells import read_cells
from analysis.measure.targets import choose_targets
from analysis.read.curves import tidy_curves

SIZES = [8, 32, 128, 512]


def study(tail: float, noise: float = 0.0, slow: float = 1.0) -> pd.DataFrame:
    """Power laws that end at `tail` times the step at which they first touch a loss of 0.1."""
    rows = []
    for size in SIZES:
        for seed in range(2):
            to_target = (100 + 8000 / size) * (slow if size == 8 else 1)
            steps = np.unique(np.geomspace(1, 4 * to_target, 120).astype(int))
            rng = np.random.default_rng([size, seed])
            loss = 0.1 * (to_target / steps) ** 0.5 * np.exp(rng.normal(0, noise, len(steps)))
            end = tail * steps[np.argmax(loss <= 0.1)]
            rows += [
                {"batch_size": size, "lr": 0.1, "seed": seed, "step": step, "loss": value}
                for step, value in zip(steps, loss, strict=True)
                if step <= end
            ]
    return pd.DataFrame(rows)


def test_chosen_levels_are_reached_by_most_with_room_beyond() -> None:
    trials, curves = tidy_curves(study(tail=2.0))
    chosen = choose_targets(read_cells(trials, curves, []))
    assert chosen == sorted(chosen, reverse=True)
    # at half of its curve a run is where it touches 0.1
    assert chosen[-1] == pytest.approx(0.1, rel=0.05)
    # the loss falls by sqrt(2) from a half of the steps on: 0.1 * sqrt(2), 0.1 * 2
    assert chosen[1] == pytest.approx(chosen[-1] * 2**0.5, rel=0.05)
    assert chosen[0] == pytest.approx(chosen[-1] * 2, rel=0.05)
    result = analyse(trials, curves, n_bootstrap=5)
    assert result.targets == chosen
    assert any(text.startswith("No target was named, so") for text in result.warnings)
    assert not any("touch the target" in text for text in result.warnings)
    assert (result.frontier["outcome"] == "reached").all()


def test_one_slow_batch_size_does_not_decide() -> None:
    table = study(tail=2.0)
    cut = table[(table["batch_size"] > 8) | (table["step"] <= 20)]
    (hardest, *_) = choose_targets(read_cells(*tidy_curves(cut), []))[::-1]
    assert hardest == pytest.approx(0.1, rel=0.05)


def test_curves_that_do_not_fall_have_no_targets() -> None:
    flat = study(tail=2.0)
    flat = flat[flat["step"] == 1]
    with pytest.raises(AnalysisError, match="every run has a single evaluation of column loss"):
        tidy_curves(flat)
    still = study(tail=2.0).assign(loss=1.0)
    with pytest.raises(AnalysisError, match="targets: the curves reach no common level"):
        analyse(*tidy_curves(still))


@pytest.mark.parametrize(("tail", "flagged"), [(1.0, True), (1.3, True), (2.0, False)])
def test_curves_that_stop_at_first_touch_are_used_and_flagged(tail: float, flagged: bool) -> None:
    trials, curves = tidy_curves(study(tail))
    result = analyse(trials, curves, targets=[0.1], n_bootstrap=5)
    told = [text for text in result.warnings if "stop where they touch the target" in text]
    assert bool(told) == flagged
    if flagged:
        assert "the single runs' crossings" in told[0]
        assert "at target loss 0.1" in told[0]
        assert (result.frontier["outcome"] == "reached").all()


def test_a_share_below_one_in_ten_is_not_worth_a_sentence() -> None:
    same = {"batch_size": 8, "lr": 0.1}
    best = pd.DataFrame({"target_loss": [0.5], "outcome": ["reached"]}).assign(**same)
    trials = pd.DataFrame({"run_id": [str(i) for i in range(20)], "seed": range(20), **same})
    rows = [
        {"run_id": str(i), "step": step, "loss": 1.0 / step}
        for i in range(20)
        for step in ((1, 2, 4, 8) if i else (1, 2))
    ]
    assert early_stop_caveats(trials, pd.DataFrame(rows), best) == []
    assert len(early_stop_caveats(trials.head(5), pd.DataFrame(rows), best)) == 1


def test_only_the_best_lrs_need_a_tail() -> None:
    """Trials of a search end early where another lr is better."""
    trials = pd.DataFrame({"run_id": ["a", "b"], "batch_size": 8, "lr": [0.1, 0.2]})
    rows = [
        {"run_id": run, "step": step, "loss": 1.0 / step}
        for run, end in (("a", 8), ("b", 2))
        for step in (1, 2, 4, 8)
        if step <= end
    ]
    best = pd.DataFrame({"target_loss": [0.5], "outcome": "reached", "batch_size": 8, "lr": 0.1})
    assert early_stop_caveats(trials, pd.DataFrame(rows), best) == []
    assert len(early_stop_caveats(trials, pd.DataFrame(rows), best.assign(lr=0.2))) == 1


@pytest.mark.parametrize("last", [1.9, 1.99, 1.999])
@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_chosen_targets_lie_inside_what_shallow_curves_cover(last: float, offset: float) -> None:
    """Three digits would lie at or above the initial loss of 2."""
    rows = [
        {"batch_size": size, "lr": 0.1, "step": step, "loss": offset + 2 - (2 - last) * step / 100}
        for size in SIZES
        for step in range(0, 101, 2)
    ]
    result = analyse(*tidy_curves(pd.DataFrame(rows)), n_bootstrap=5)
    assert result.targets
    assert all(offset + last < target < offset + 2 for target in result.targets)
    assert (result.frontier["outcome"] == "reached").all()


def test_a_target_outside_is_refused_without_what_is_not_known() -> None:
    trials, curves = tidy_curves(study(tail=2.0).assign(initial_loss=3.0))
    with pytest.raises(AnalysisError, match=r"targets: 4 must lie below the initial loss 3$"):
        analyse(trials, curves, targets=[4.0])
