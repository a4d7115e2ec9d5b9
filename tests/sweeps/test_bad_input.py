"""What a user gets wrong: one clear line that names the key, a non-zero exit, no MLflow run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.command_line import sweeps

OURS = [  # (arguments, what the line says)
    (["lr=0"], "error: lr=0.0: must be a finite number > 0"),
    (["lr=nan"], "error: lr=nan: must be a finite number > 0"),
    (["-m", "lr=0.1,-1"], "error: lr=-1.0: must be a finite number > 0"),
    (["batch_size=0"], "error: batch_size=0: must be a whole number >= 1"),
    (["-m", "batch_size=4,-4"], "error: batch_size=-4: must be a whole number >= 1"),
    (["targets=[-1]"], "error: targets=-1: the target loss -1 must lie below the initial loss"),
    (["targets=[99]"], "error: targets=99: the target loss 99 must lie below the initial loss"),
    (["-m", "seed=range(0,0)"], "error: seed=range(0,0): the list of values is empty"),
    (["study.name=../x"], "error: study.name=../x: letters, digits"),
    (["-m", "study.name=../x", "lr=1,2"], "error: study.name=../x: letters, digits"),
    (["tracking.uri=sqlite:////proc/mlflow.db"], "error: tracking.uri=sqlite:////proc/mlflow.db"),
    (["-m", "study.name=a,b"], "error: study.name=a,b: one sweep has one of these"),
    (
        ["-m", "study=linear_regression_grid,scratch", "lr=1", "seed=0"],
        "error: study.name=linear_reg",
    ),
    (["-m", "hydra.launcher.stack_size=0"], "error: hydra.launcher.stack_size=0: must be at least"),
    (["optimizer.name=adam"], "error: optimizer.name=adam: choose the group instead: optimizer="),
    (["task.name=finite_regression"], "error: task.name=finite_regression: choose the group"),
    (["-m", "hydra.sweep.dir=/proc/x/y", "lr=1,2"], "error: hydra.sweep.dir=/proc/x/y: "),
    (["record_dir=/proc/x"], "error: record_dir=/proc/x: cannot be used (No such file"),
    (["-m", "lr=1,2", "record_dir=/proc/x", "hydra.sweep.dir=s"], "error: record_dir=/proc/x: "),
    (["-m", "hydra.launcher.workers=-1"], "error: hydra.launcher.workers=-1: must be auto (one a"),
    (["-m", "hydra.launcher.workers=many"], "error: hydra.launcher.workers=many: must be auto"),
    (["-m", "hydra.launcher.retries=-1"], "error: hydra.launcher.retries=-1: must be at least 0"),
    (["-m", "hydra.launcher.trial_timeout_seconds=0"], "error: hydra.launcher.trial_timeout_sec"),
    (["checkpoint.interval_seconds=-1"], "error: checkpoint.interval_seconds=-1.0: must be a fin"),
    (["precision=bf16"], "error: precision=bf16: linear_regression trains in float32 or float64"),
    (["task.spectrum_exponent=-300"], "error: task.spectrum_exponent=-300.0: must be"),
    (
        ["-m", "study=minimum_norm", "task=colourization"],
        "error: task=colourization: study=minimum_norm needs task=finite_regression: it sets",
    ),
    (
        ["task=colourization", "noise_scale.measure=examples"],
        "error: noise_scale.measure=examples: with batch normalisation the loss of an example",
    ),
    (["study.report=all"], "error: study.report=all: must be one of batch_sizes, losses"),
    (["tracking.uri=nonsense://x"], "error: tracking.uri=nonsense://x: the MLflow store cannot"),
]
HYDRAS = [
    (["lr=abc"], "Value 'abc' of type 'str' could not be converted to Float"),
    (["-m", "lr=0.1,abc"], "Value 'abc' of type 'str' could not be converted to Float"),
    (["batch_size=1.5"], "Value '1.5' of type 'float' could not be converted to Integer"),
    (["seed="], "Value '' of type 'str' could not be converted to Integer"),
    (["optimizer=lion"], "Could not find 'optimizer/lion'"),
    (["-m", "optimizer=sgd,lion"], "Could not find 'optimizer/lion'"),
    (["task=chess"], "Available options in 'task':\n\tcolourization\n\tfinite_regression\n"),
    (["study=chess"], "Available options in 'study':\n\tcolourization\n\tcolourization_s"),
    (["learning_rate=1"], "Key 'learning_rate' not in 'TrialConfig'"),
]


def runs_in(folder: Path) -> int:
    database = folder / "mlflow.db"
    if not database.exists() or not database.stat().st_size:
        return 0
    with sqlite3.connect(database) as connection:
        return connection.execute("SELECT count(*) FROM runs").fetchone()[0]


@pytest.mark.parametrize(("arguments", "line"), OURS, ids=[" ".join(a) for a, _ in OURS])
def test_ours(arguments: list[str], line: str, tmp_path: Path) -> None:
    done = sweeps(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert runs_in(tmp_path) == 0


@pytest.mark.parametrize(("arguments", "says"), HYDRAS, ids=[" ".join(a) for a, _ in HYDRAS])
def test_hydras_own(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = sweeps(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert runs_in(tmp_path) == 0
