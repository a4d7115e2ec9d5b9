"""Final losses of runs, from a store to the report; the same as those of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.final_loss_study import analyse_final_losses, analyse_final_runs
from analysis.read.curves import tidy_curves
from analysis.source import Choice, analyse_source, read_source
from scaling.config import BudgetConfig, EvaluationConfig, StudyConfig, TrialConfig
from scaling.schema import FINAL_LOSSES
from tests.analysis.planted_final_losses import FLOOR, critical_batch_size, hyperbolas
from tests.analysis.read.stored import Foreign, new_store, write_foreign
from tests.analysis.test_main import run_analysis
from tests.scaling.test_final_losses import final_trial
from tests.sweeps.recorded import record

TARGET = FLOOR + 1.0
SIZES = (8, 32, 128, 512)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return hyperbolas(np.random.default_rng(0), sizes=SIZES, n_lrs=5, n_seeds=3)


def with_their_way(table: pd.DataFrame) -> pd.DataFrame:
    """Each run with a worse loss on its way, which must not count."""
    last = table.assign(run_id=[f"{i:04}" for i in range(len(table))], step=table["steps"])
    way = last.assign(step=(last["step"] / 2).round(), loss=last["loss"] * 1.5)
    return pd.concat([way, last], ignore_index=True).drop(columns="steps")


def test_runs_say_what_their_table_says(table: pd.DataFrame) -> None:
    given = {"targets": [TARGET], "n_bootstrap": 20}
    of_runs = analyse_final_runs(*tidy_curves(with_their_way(table)), **given)
    of_table = analyse_final_losses(table, **given)
    pd.testing.assert_frame_equal(of_runs.frontier, of_table.frontier)
    assert of_runs.about == FINAL_LOSSES


@pytest.mark.long
def test_any_experiment_without_seeds(table: pd.DataFrame, empty_store: Path, tmp_path: Path):
    """Their names, their metric, runs of one setting repeated; through the command."""
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    some = table[(table["seed"] < 2) & (table["lr"] / table["lr"].median()).between(0.5, 2)]
    runs: list[Foreign] = [
        ({"bs": int(row.batch_size), "lr": row.lr},  # type: ignore[attr-defined]
         {"eval/loss": [(0, 9.0), (round(row.steps), row.loss)]}, "FINISHED")  # type: ignore[attr-defined]
        for row in some.itertuples()
    ]  # fmt: skip
    write_foreign(new_store(tmp_path), "theirs", runs)
    choice = Choice(
        "final_losses", "theirs", new_store(tmp_path), experiment="theirs",
        columns={"batch_size": "bs", "loss": "eval/loss"},
    )  # fmt: skip
    result = analyse_source(read_source(choice), choice, n_bootstrap=5)
    assert len(result.trials) == len(some)
    assert result.measured[0].final_losses[0].n_seeds.max() == 2
    words = ["source=final_losses", "source.experiment=theirs", "source.columns.batch_size=bs"]
    words += ["source.columns.loss=eval/loss", f"targets=[{TARGET}]", "n_bootstrap=20"]
    done = run_analysis(tmp_path, *words, f"tracking_uri={new_store(tmp_path)}")
    assert done.returncode == 0, done.stderr
    assert "ends lowest" in done.stdout
    assert (tmp_path / "reports/theirs/report.html").exists()
    done = run_analysis(tmp_path, *words, "source.path=x.csv")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def small_study(**fields: object) -> list[TrialConfig]:
    return [
        final_trial(
            study=StudyConfig(name="final", report=FINAL_LOSSES), batch_size=size, lr=lr,
            budget=BudgetConfig(None, examples), relative_targets=[0.05],
            evaluation=EvaluationConfig(1, 2.0), **fields,
        )
        for size in (4, 8, 16)
        for examples in (128, 256, 512)
        for lr in (0.2, 0.4, 0.8, 64.0)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def recorded_study(tmp_path_factory: pytest.TempPathFactory) -> str:
    return record(tmp_path_factory.mktemp("final"), small_study())


def test_a_study_says_that_it_is_about_final_losses(recorded_study: str) -> None:
    """Its trials have three lengths; the diverged lr is no loss; the target is the study's."""
    choice = Choice("mlflow", "final", recorded_study)
    read = read_source(choice)
    result = analyse_source(read, choice, n_bootstrap=5)
    assert read.trials is not None
    assert read.curves is not None
    assert result.about == FINAL_LOSSES
    assert result.group_by == []
    lengths = result.frames["loss_by_length"]
    assert sorted(set(lengths["examples"])) == [128, 256, 512]
    assert lengths["lr"].max() < 64
    last = read.curves.sort_values("step").groupby("run_id")["loss"].last()
    trials = read.trials.join(last, on="run_id")
    for row in lengths.to_dict("records"):
        same = trials["batch_size"] == row["batch_size"]
        same &= trials["budget.max_examples"] == row["examples"]
        sound = trials[same & (trials["outcome"] != "diverged")]
        assert row["loss"] <= sound["loss"].min() * (1 + 1e-12)
        assert row["loss"] > 0.9 * sound["loss"].min()
    assert result.targets == list(read.trials["targets"].iloc[0])


@pytest.mark.long
def test_the_command_reports_it(recorded_study: str, tmp_path: Path) -> None:
    words = ["study=final", "n_bootstrap=10", f"tracking_uri={recorded_study}"]
    done = run_analysis(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "after 512 examples: batch size" in done.stdout
    page = (tmp_path / "reports/final/report.html").read_text()
    assert "Training length" in page
    done = run_analysis(tmp_path, *words, "tuned=[lr,optimizer.momentum]")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_one_length_is_one_line(table: pd.DataFrame) -> None:
    one = table[table["steps"] == table.groupby("batch_size")["steps"].transform("max")]
    with pytest.raises(AnalysisError, match="every batch size was trained to one length only"):
        analyse_final_runs(*tidy_curves(with_their_way(one)), n_bootstrap=2)


def test_the_planted_answer_is_found_in_runs(table: pd.DataFrame) -> None:
    result = analyse_final_runs(
        *tidy_curves(with_their_way(table)), targets=[TARGET], n_bootstrap=20
    )
    found = result.fits[0].critical_batch_size
    assert found == pytest.approx(critical_batch_size(TARGET), rel=0.05)
