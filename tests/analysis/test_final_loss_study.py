"""From tables of final losses to the critical batch size and the best batch size of a length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.final_loss_study import analyse_final_losses
from analysis.frame_study import analyse_frame
from analysis.report.report import write_report
from tests.analysis.planted_final_losses import (
    FLOOR,
    critical_batch_size,
    hyperbolas,
    min_examples,
    with_optimum,
)
from tests.analysis.test_main import run_analysis

TARGETS = [FLOOR + 1.0, FLOOR + 0.8]


@pytest.fixture(scope="module")
def result():
    table = hyperbolas(np.random.default_rng(0))
    return analyse_final_losses(table, targets=TARGETS, n_bootstrap=200)


def test_the_planted_critical_batch_size_is_found(result) -> None:
    for fit in result.fits:
        assert fit.identified
        assert fit.critical_batch_size == pytest.approx(critical_batch_size(fit.target_loss), 0.03)
        assert fit.min_examples == pytest.approx(min_examples(fit.target_loss), 0.02)
        low, high = fit.ci95["critical_batch_size"]
        assert low < critical_batch_size(fit.target_loss) < high
    assert not result.frontier["below_optimum"].any()
    assert "after which a run made for that length ends at it" in result.warnings[0]


def test_reading_it_as_curves_of_long_runs_is_another_experiment(result) -> None:
    """One lr of the table for all lengths: the frontier stays above that of the best of each."""
    table = hyperbolas(np.random.default_rng(0), noise=0.0, n_seeds=1)
    fixed = table[(table["lr"] / 0.003).between(0.9, 1.2)]
    alone = analyse_final_losses(fixed, targets=TARGETS, n_bootstrap=2).frontier
    both = alone.merge(result.frontier, on=["batch_size", "target_loss"]).dropna(
        subset=["steps_x", "steps_y"]
    )
    assert len(both) > 3
    assert (both["steps_x"] > 0.98 * both["steps_y"]).all()


def test_targets_are_chosen_where_none_is_named() -> None:
    table = hyperbolas(np.random.default_rng(1), n_seeds=1)
    result = analyse_final_losses(table, n_bootstrap=20)
    assert len(result.targets) == 3
    reached = result.frontier.groupby("target_loss")["steps"].count()
    assert (reached >= 5).all()
    assert any("No target was named" in text for text in result.warnings)


@pytest.mark.long
def test_the_report_has_the_lengths_their_laws_and_figures(tmp_path: Path) -> None:
    table = with_optimum(np.random.default_rng(0))
    result = analyse_final_losses(table[table["model_size"] > 2e8], n_bootstrap=20)
    page = write_report(result, tmp_path / "report").read_text()
    assert "Training length" in page
    assert "best batch size ~ D^0.5" in page
    laws = pd.read_csv(tmp_path / "report" / "tables" / "length_laws.csv")
    row = laws[(laws["law"] == "batch_size(examples)")].iloc[0]
    assert row["exponent_low"] < 0.57 < row["exponent_high"]
    figures = {path.stem for path in (tmp_path / "report" / "figures").iterdir()}
    assert {"best_batch_size_against_length", "loss_against_batch_size_400M"} <= figures
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert {"best_batch_size", "loss_by_length", "length_laws"} <= {
        path.stem for path in (tmp_path / "report" / "tables").iterdir()
    }
    assert summary["fits"]


def test_the_command_reads_a_table(tmp_path: Path) -> None:
    table = hyperbolas(np.random.default_rng(0), n_seeds=3)
    table.rename(columns={"loss": "val_loss"}).to_csv(tmp_path / "runs.csv", index=False)
    words = ["source=final_losses", "source.path=runs.csv", "n_bootstrap=50"]
    done = run_analysis(tmp_path, *words, "source.columns.loss=val_loss", "targets=[2.7]")
    assert done.returncode == 0, done.stderr
    assert "critical batch size for a held-out loss of 2.7: 6" in done.stdout


@pytest.mark.long
def test_mistakes_of_the_command_are_one_line(tmp_path: Path) -> None:
    table = hyperbolas(np.random.default_rng(0), n_seeds=3)
    table.rename(columns={"loss": "val_loss"}).to_csv(tmp_path / "runs.csv", index=False)
    words = ["source=final_losses", "source.path=runs.csv", "n_bootstrap=50"]
    shown = run_analysis(tmp_path, *words, "source.columns.loss=val_loss", "source.show=true")
    assert "read: a table of 1,944 rows" in shown.stdout
    for more, says in (
        (["tuned=[lr,beta]"], "tuned: beta cannot be tuned in a table of final losses"),
        (["targets=[0.1]"], "targets=[0.1]: no batch size gets there between its shortest"),
        ([], "did you mean val_loss?"),
    ):
        mapped = ["source.columns.loss=val_loss"] if more else []
        done = run_analysis(tmp_path, *words, *mapped, *more)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert says in done.stderr


def test_all_diverged_is_said() -> None:
    table = pd.DataFrame({"batch_size": 8, "lr": 0.1, "steps": [1, 2], "loss": np.inf})
    with pytest.raises(AnalysisError, match="all runs of the table diverged"):
        analyse_final_losses(table)


def test_a_frame_of_final_losses_is_one_call() -> None:
    table = hyperbolas(np.random.default_rng(0), n_seeds=1, sizes=(8, 64, 512))
    examples = table.assign(examples=table["steps"] * table["batch_size"]).drop(columns="steps")
    options = {"targets": TARGETS[:1], "n_bootstrap": 2}
    by_steps = analyse_frame(table, kind="final_losses", **options).frontier
    by_examples = analyse_frame(examples, kind="final_losses", **options).frontier
    pd.testing.assert_frame_equal(by_steps, by_examples)
    tokens = examples.rename(columns={"examples": "tokens"})
    pd.testing.assert_frame_equal(analyse_frame(tokens, **options).frontier, by_steps)
    with pytest.raises(AnalysisError, match="kind='steps' or kind='final_losses'"):
        analyse_frame(table)
    with pytest.raises(AnalysisError, match="only lr"):
        analyse_frame(tokens, tuned=["lr", "wd"])
