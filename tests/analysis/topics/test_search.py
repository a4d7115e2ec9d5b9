"""What a search tried, from its trials to the report's figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.report.trust import trust_facts
from analysis.topics.search import SEARCH_COLUMNS, plot_search, search_frame
from tests.analysis.conftest import Frames


@pytest.fixture(scope="module")
def searched(small_study: Frames) -> StudyResult:
    """The largest lr was tried first, with one seed; the others in rounds 2 and 3 with all."""
    trials, curves = small_study
    few = trials["lr"] == trials["lr"].max()
    trials = trials[~few | (trials["seed"] == trials["seed"].min())].copy()
    trials["round"] = 2 + (trials["seed"] > trials["seed"].min())
    trials.loc[few, "round"] = 1
    return analyse(trials, curves[curves["run_id"].isin(trials["run_id"])], n_bootstrap=10)


def test_each_lr_has_the_round_that_asked_for_it_first(searched: StudyResult) -> None:
    found = search_frame(searched)
    assert list(found.columns) == SEARCH_COLUMNS
    assert len(found) == len(searched.trials.groupby(["batch_size", "lr"]))
    first = found[found["lr"] == found["lr"].max()]
    assert set(first["round"]) == {1}
    assert set(first["n_seeds"]) == {1}
    assert set(found.loc[found["lr"] < found["lr"].max(), "round"]) == {2}
    compared = searched.cells.set_index(["batch_size", "lr"])["compared"]
    assert not compared.xs(found["lr"].max(), level="lr").any()
    assert searched.group_by == []  # rounds are no groups
    n_few = len(first)
    assert (
        trust_facts(searched)["Seeds"]
        == f"2 per cell; {n_few} cells tried with fewer are not compared"
    )


def test_a_grid_has_no_rounds(small_result: StudyResult) -> None:
    assert search_frame(small_result).empty


def test_the_figure_shows_every_trial(searched: StudyResult) -> None:
    found = search_frame(searched)
    axes = plot_search(found, searched.frontier).axes[0]
    assert sum(np.shape(drawn.get_offsets())[0] for drawn in axes.collections) == len(found)
    one = plot_search(found[found["round"] == 1], pd.DataFrame(columns=searched.frontier.columns))
    assert len(one.axes) == 1  # one round needs no scale
