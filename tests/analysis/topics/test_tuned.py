"""More than lr is tuned: the best momentum moves with the batch size, as planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse, analyse_frame
from analysis.report.answers import answer_lines
from analysis.report.summary import summary
from analysis.topics.lr_grid import at_best_values_of_sizes
from analysis.topics.tuned import best_tuned, plot_best_tuned, section, tuned_sentence

SIZES, LRS, MOMENTA = (2, 8, 32, 128, 512, 2048), (0.25, 0.5, 1.0, 2.0, 4.0), (0.0, 0.5, 0.9)
BEST = dict(zip(SIZES, (0.9, 0.9, 0.5, 0.5, 0.5, 0.0), strict=True))
MIN_STEPS, MIN_EXAMPLES, TARGET = 40.0, 4000.0, 0.1
KEY = "params.momentum"


def planted(n_seeds: int = 3, searched: bool = False) -> pd.DataFrame:
    """S(B) = 40 + 4000/B at lr = 1 - momentum of the best momentum; the others take longer.

    searched: all seeds only at the best momentum, and beside its best lr.
    """
    rng, rows = np.random.default_rng(0), []
    for size in SIZES:
        for momentum in MOMENTA:
            away = abs(MOMENTA.index(momentum) - MOMENTA.index(BEST[size]))
            for factor in LRS:
                all_seeds = away == 0 and factor in (0.5, 1.0, 2.0)
                slower = (1 + np.log(factor) ** 2 / 4) * 1.3**away
                to_target = (MIN_STEPS + MIN_EXAMPLES / size) * slower
                steps = np.unique(np.geomspace(1, 3 * to_target, 60).astype(int))
                for seed in range(n_seeds if all_seeds or not searched else 1):
                    noise = np.exp(0.005 * rng.standard_normal())
                    row = {"batch_size": size, "momentum": momentum, "lr": factor * (1 - momentum)}
                    row |= {"seed": seed}
                    rows += [
                        row | {"step": step, "loss": noise * TARGET * (to_target / step) ** 0.5}
                        for step in steps
                    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module", params=[False, True], ids=["grid", "search"])
def found(request: pytest.FixtureRequest) -> StudyResult:
    frame = planted(searched=request.param)
    return analyse_frame(frame, targets=[TARGET], tuned=["lr", "momentum"], n_bootstrap=60)


def test_the_frontier_is_the_least_over_both(found: StudyResult) -> None:
    assert found.group_by == []
    frontier = found.frontier.set_index("batch_size")
    assert frontier[KEY].to_dict() == BEST
    expected = MIN_STEPS + MIN_EXAMPLES / frontier.index.to_numpy(float)
    assert frontier["steps"].to_numpy(float) == pytest.approx(expected, rel=0.02)
    assert not frontier["lr_at_edge"].any()
    lrs = [1 - BEST[size] for size in SIZES]
    assert frontier["lr"].tolist() == pytest.approx(lrs)
    assert frontier["lr_refined"].tolist() == pytest.approx(lrs, rel=0.05)
    assert found.fits[0].critical_batch_size == pytest.approx(100, rel=0.05)


def test_edges_are_of_all_values_that_were_tried(found: StudyResult) -> None:
    frontier = found.frontier.set_index("batch_size")
    at_edge = {size: best in (0.0, 0.9) for size, best in BEST.items()}
    assert frontier[f"{KEY}_at_edge"].to_dict() == at_edge
    assert any("best momentum is the smallest or largest" in line for line in found.warnings)


def test_a_table_and_a_sentence_say_how_it_moves(found: StudyResult) -> None:
    best = best_tuned(found)
    assert dict(zip(best["batch_size"], best["value"], strict=True)) == BEST
    assert set(best["hyperparameter"]) == {"momentum"}
    inside = (best["value_low"] <= best["value"]) & (best["value"] <= best["value_high"])
    assert inside.all()
    told = section(found, found.frames)
    assert told is not None
    assert (
        "The best momentum falls from 0.9 at batch size 2 to 0 at 2,048 (target loss 0.1); at "
        "batch size 2, 8, 2,048 it is at an end of the values that were tried."
    ) in told.sentences


def test_the_figure_has_the_values_as_rows(found: StudyResult) -> None:
    axes = plot_best_tuned(best_tuned(found), MOMENTA, "momentum").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.5", "0.9"]
    (line,) = (line for line in axes.lines if np.size(line.get_xdata()) == len(SIZES))
    assert [MOMENTA[int(y)] for y in np.asarray(line.get_ydata())] == list(BEST.values())
    names = [name for name in found.figures if "momentum" in name]
    assert names == ["best_momentum_against_batch_size"]


def test_the_lr_curve_of_a_batch_size_is_the_one_at_its_best_momentum(found: StudyResult) -> None:
    shown = at_best_values_of_sizes(found.cells, found.frontier, [KEY])
    assert len(shown) == len(SIZES) * len(LRS)
    assert all(BEST[size] == of for size, of in zip(shown["batch_size"], shown[KEY], strict=True))
    everything = at_best_values_of_sizes(found.cells, found.frontier.iloc[:0], [KEY])
    assert len(everything) == len(found.cells)


def test_the_answer_names_the_value(found: StudyResult) -> None:
    balanced = next(line for line in answer_lines(found) if line.startswith("balanced"))
    assert "lr 0.5, momentum 0.5: " in balanced
    rows = {row["batch_size"]: row for row in summary(found)["frontier"]}
    assert rows[2048]["tuned"] == {"momentum": 0.0}
    assert rows[2048]["tuned_at_edge"] == ["momentum"]
    assert rows[32]["tuned_at_edge"] == []


def test_what_a_search_tuned_is_no_group_and_may_be_made_one() -> None:
    """As trials of this project's own studies are read: their attributes say it."""
    alone = analyse_frame(planted(1), targets=[TARGET], tuned=["lr", "momentum"], n_bootstrap=5)
    trials, curves = alone.trials.rename(columns={KEY: "momentum"}), alone.curves
    trials.attrs |= {"tuned": ["momentum", "gone"], "sweeps": [], "left_out": []}
    trials.attrs.pop("group_by", None)
    given: dict[str, Any] = {"targets": [TARGET], "n_bootstrap": 5}
    found = analyse(trials, curves, **given)
    assert (found.tuned, found.group_by) == (["lr", "momentum"], [])
    assert found.frontier["momentum"].tolist() == list(BEST.values())
    grouped = analyse(trials, curves, tuned=["lr"], **given)
    assert (grouped.tuned, grouped.group_by) == (["lr"], ["momentum"])
    assert best_tuned(grouped).empty


def test_sentences_of_other_courses() -> None:
    def say(values: list[Any]) -> str:
        rows = pd.DataFrame({"target_loss": 0.1, "batch_size": range(1, len(values) + 1)})
        return tuned_sentence("norm", rows.assign(value=values, at_edge=False))

    assert say([0.5, 0.5]) == "The best norm is 0.5 at every batch size (target loss 0.1)."
    assert "moves in no one direction: 0.5 at batch size 1, 0 at batch size 2" in say([0.5, 0, 1])
    assert "moves in no one direction: batch at batch size 1" in say(["batch", "group"])
