"""One batch size, and several groups: the answer is a table, figures show all groups together."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.curve_study import about_of
from analysis.report import answers
from analysis.report.note import markdown
from analysis.report.report import Provenance, Report, write_report
from analysis.report.trust import trust_facts
from analysis.topics.final_loss import final_loss, outcome_lead, outcome_rows
from analysis.topics.tuning import tuning_budget
from tests.analysis.conftest import Frames

NETS = ("$net_", "unet", "<b>net</b>")


@pytest.fixture(scope="module")
def networks(small_study: Frames) -> StudyResult:
    """Three networks at batch size 16 whose loss is 1, 2 and 4 times that of the simulation."""
    trials, curves = small_study
    own = trials[trials["batch_size"] == 16].drop(columns="task.dimension")
    found = []
    for i, name in enumerate(NETS):
        ids = own["run_id"] + name
        rows = own.assign(run_id=ids, trial_id=ids, **{"model.name": name, "task.name": "custom"})
        points = curves[curves["run_id"].isin(own["run_id"])]
        points = points.assign(run_id=points["run_id"] + name, loss=points["loss"] * 2**i)
        found.append((rows, points.assign(accuracy=1 / (1 + points["loss"]))))
    frames = [pd.concat(pair, ignore_index=True) for pair in zip(*found, strict=True)]
    return analyse(*frames, n_bootstrap=5)


def test_lowest_final_loss_first(networks: StudyResult) -> None:
    assert networks.is_about_losses
    frame = final_loss(networks)
    assert frame["model.name"].tolist() == list(NETS)
    np.testing.assert_allclose(frame["loss"] / frame["loss"].iloc[0], [1, 2, 4])
    assert (frame["best_loss"] <= frame["loss"]).all()
    assert (frame["loss_low"] <= frame["loss"]).all()
    sound = networks.trials[networks.trials["outcome"] != "diverged"]
    ids = sound.loc[sound["model.name"] == "unet", ["run_id", "lr"]].set_index("run_id")["lr"]
    last = networks.curves.groupby("run_id")["loss"].last()
    assert frame["loss"].iloc[1] == pytest.approx(last.groupby(ids).mean().min())


def test_the_answer_is_a_table_and_no_batch_size_is_spoken_of(
    networks: StudyResult, tmp_path: Path
) -> None:
    assert answers.answer_lines(networks) == [outcome_lead(networks)]
    page = write_report(networks, tmp_path, Provenance()).read_text()
    assert "critical batch size" not in page.split('id="figures"')[0]
    assert "<b>net</b>" not in page
    for row in outcome_rows(networks):
        assert row["loss"] in page
        assert row["accuracy"] in page
    assert sum("only one batch size" in text for text in networks.warnings) == 1
    note = markdown(networks, [])
    assert "<b>" not in note
    assert note.count("\n| ") == 1 + len(NETS)
    assert [drawing.name for drawing in networks.drawings()] == [
        "loss_against_steps", "accuracy_against_steps",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sizes(small_study: Frames) -> StudyResult:
    trials, curves = small_study
    twins = [trials.assign(study="sizes", width=1), trials.assign(study="sizes", width=2)]
    for i, twin in enumerate(twins):
        twin["run_id"] += f"-{i}"
    copies = [curves.assign(run_id=curves["run_id"] + f"-{i}") for i in range(2)]
    frames = pd.concat(twins, ignore_index=True), pd.concat(copies, ignore_index=True)
    return analyse(*frames, targets=[0.338], n_bootstrap=10, with_theory=False)


@pytest.mark.long
def test_groups_stand_in_one_table_first(sizes: StudyResult, tmp_path: Path) -> None:
    rows = answers.overview(sizes)
    assert [row["label"] for row in rows] == ["width = 1", "width = 2"]
    assert len(answers.answer_lines(sizes)) == 2
    page = write_report(sizes, tmp_path, Provenance()).read_text()
    assert page.index("All groups, at the hardest") < page.index("width = 1: batch sizes to use")
    assert page.count('<h3 class="group"') == 2
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {"steps_against_batch_size_of_all", "best_lr_against_batch_size_of_all"} <= names
    assert {"pareto_front_width=1", "pareto_front_width=2"} <= names
    assert len(sizes.warnings) == len({re.sub("[0-9]", "", text) for text in sizes.warnings})


def test_what_was_spent(sizes: StudyResult) -> None:
    spent = tuning_budget(sizes)
    trials = sizes.trials
    assert spent["steps"].sum() == trials["last_step"].sum()
    assert spent["n_trials"].sum() == len(trials)
    assert spent["examples"].sum() == (trials["last_step"] * trials["batch_size"]).sum()
    assert spent["n_diverged"].sum() == (trials["outcome"] == "diverged").sum()
    assert "9 learning rates and 18 trials per batch size" in trust_facts(sizes)["Tuning"]


@pytest.mark.long
def test_params_that_are_not_known_are_absent(sizes: StudyResult, tmp_path: Path) -> None:
    bare = sizes.trials[["run_id", "batch_size", "width", "outcome"]]
    result = dataclasses.replace(
        sizes, trials=bare.head(0), curves=sizes.curves.head(0),
        frontier=sizes.frontier.assign(lr=np.nan, lr_low=np.nan, lr_high=np.nan),
        cells=sizes.cells.assign(lr=np.nan),
    )  # fmt: skip
    assert tuning_budget(result).empty
    assert "Edges" not in trust_facts(result)
    assert all(row["best_lr"] == "not known" for row in answers.overview(result))
    page = write_report(result, tmp_path, Provenance()).read_text()
    assert "width = 2" in page


def test_networks_are_shown_with_their_numbers_of_parameters(networks: StudyResult) -> None:
    of = {"$net_": 49_728, "<b>net</b>": 49_728}
    trials = networks.trials.assign(parameters=networks.trials["model.name"].map(of).fillna(56_856))
    counted = dataclasses.replace(networks, trials=trials)
    assert {row["parameters"] for row in outcome_rows(counted)} == {"49,728", "56,856"}
    page = Report(counted, Provenance()).page()
    assert "<th>parameters</th>" in page
    assert "<th>parameters</th>" not in Report(networks, Provenance()).page()


@pytest.fixture(scope="module")
def about_losses(small_study: Frames) -> StudyResult:
    """Several batch sizes, none of which is asked for."""
    trials, curves = small_study
    trials = trials[trials["batch_size"].isin([4, 16])].copy()
    trials.attrs["sweeps"] = [{"report": "losses"}, {}]
    return analyse(trials, curves, n_bootstrap=5)


def test_a_study_may_ask_for_no_critical_batch_size(
    about_losses: StudyResult, tmp_path: Path
) -> None:
    result = about_losses
    assert result.is_about_losses
    assert result.warnings == []
    provenance = Provenance(sweeps=[{"question": "Which one?"}])
    page = write_report(result, tmp_path, provenance).read_text()
    shown = page[page.index("</style>") :]
    assert "critical batch size" not in shown.replace("no critical batch size is asked for", "")
    assert "Against the exact answer" not in page
    assert "Misfit" not in page
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"loss_against_steps"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["fits"] == []
    assert summary["laws"] == []
    assert summary["answer"] == [outcome_lead(result)]
    labels = [row["label"] for row in outcome_rows(result)]
    assert sorted(labels) == ["batch size 16", "batch size 4"]
    assert outcome_lead(result).startswith("Held-out losses end between 0.00288 and 0.0")
    assert "<h1>simulated: Which one?</h1>" in page


def test_only_the_newest_sweep_says_what_the_report_is_about(small_study: Frames) -> None:
    trials, _ = small_study
    for sweeps, about in (([{}, {"report": "losses"}], "batch_sizes"), ([], "batch_sizes")):
        trials = trials.copy()
        trials.attrs["sweeps"] = sweeps
        assert about_of(trials) == about
