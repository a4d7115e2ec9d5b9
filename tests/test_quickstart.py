"""What the README promises: the study in full, and a wheel used from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import analysis, sweeps

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the quickstart's study."""
    folder = tmp_path_factory.mktemp("quickstart")
    done = sweeps("-m", "study=linear_regression", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "13 cells are done:" in done.stdout
    done = analysis("study=linear_regression", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "reports" / "linear_regression"


def _killed_when_it_says(moment: str, folder: Path) -> None:
    printed = folder / "printed.txt"
    with printed.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeps", "-m", "study=linear_regression"],
            cwd=folder,
            stdout=out,
        )
        while moment not in printed.read_text():
            assert process.poll() is None, printed.read_text()
            time.sleep(0.1)
        process.kill()
        process.wait()


@pytest.mark.long
def test_interrupted_anywhere_it_ends_in_the_same_report(study: Path, tmp_path: Path) -> None:
    for moment in ("round 3:", "cells are done:"):  # while it trains, and while it writes
        _killed_when_it_says(moment, tmp_path)
    done = sweeps("-m", "study=linear_regression", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert " on record" in done.stdout
    assert analysis("study=linear_regression", cwd=tmp_path).returncode == 0
    for name in ("summary.json", "tables/fits.csv", "tables/steps_by_lr.csv"):
        ours = (tmp_path / "reports" / "linear_regression" / name).read_bytes()
        assert ours == (study / name).read_bytes()


@pytest.mark.long
def test_the_study_finds_the_exact_answer(study: Path) -> None:
    folder = study
    summary = json.loads((folder / "summary.json").read_text())
    assert [round(fit["target_loss"] / 4.74389, 3) for fit in summary["fits"]] == [0.1, 0.03, 0.01]
    inside = 0
    for fit in summary["fits"]:
        exact = fit["exact"]["continuous_lr"]
        low, high = fit["ci95"]["critical_batch_size"]
        assert abs(fit["critical_batch_size"] / exact - 1) < 0.06
        assert fit["min_steps"] >= 10
        assert fit["n_batch_sizes"] == 13
        inside += low <= exact <= high
    assert inside >= 2
    assert not any(row["lr_at_edge"] for row in summary["frontier"])
    assert {row["n_seeds"] for row in summary["frontier"]} == {12}
    assert (folder / "report.html").stat().st_size > 100_000


@pytest.mark.long
def test_the_small_colourization_study_answers(tmp_path: Path) -> None:
    done = sweeps("-m", "study=colourization_small", f"cache_dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "7 cells are done" in done.stdout
    assert analysis("study=colourization_small", cwd=tmp_path).returncode == 0
    folder = tmp_path / "reports" / "colourization_small"
    summary = json.loads((folder / "summary.json").read_text())
    [fit] = summary["fits"]
    assert fit["identified"]
    assert fit["min_steps"] >= 15
    low, high = fit["ci95"]["critical_batch_size"]
    assert 15 < low < fit["critical_batch_size"] < high < 45
    assert [row["batch_size"] for row in summary["frontier"]] == [4, 8, 16, 32, 64, 128, 256]
    assert not any(row["lr_at_edge"] for row in summary["frontier"])
    steps = [row["steps"] for row in summary["frontier"]]
    assert steps[0] > 5 * steps[-1]  # what larger batches are for
    assert "data:image/png" in (folder / "report.html").read_text()  # what the networks paint


@pytest.mark.long
def test_a_wheel_from_another_folder_with_configs_of_ones_own(tmp_path: Path) -> None:
    source, site, work = tmp_path / "source", tmp_path / "site", tmp_path / "work"
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "reports", "mlflow.db", "mlartifacts")
    shutil.copytree(ROOT, source, ignore=ignored)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    shutil.rmtree(source)
    assert (site / "conf/analysis/tables/mlperf.csv").exists()
    (work / "my_conf" / "study").mkdir(parents=True)
    (work / "my_conf" / "study" / "mine.yaml").write_text(
        "# @package _global_\n"
        "study: {name: mine, question: 'mine?'}\n"
        "relative_targets: [0.5]\n"
        "budget: {max_steps: 400}\n"
        "hydra: {sweeper: {params: {"
        "batch_size: '1,4,16,64', lr: '0.03,0.1,0.3,1', seed: '0,1,2'}}}\n"
    )
    (work / "analysis.py").write_text("raise RuntimeError('the user's own file')")
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(site)

    def script(name: str, *arguments: str) -> str:
        command = [sys.executable, str(site / "bin" / name), *arguments]
        done = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = script("batch-scaling", "sweep", "--config-dir", "my_conf", "-m", "study=mine")
    assert "mine: 48 trials" in out
    assert "report:" in script("batch-scaling-report", "study=mine", "n_bootstrap=100")
    assert (work / "reports" / "mine" / "report.html").exists()
