"""Folders of runs: the planted study through every format, real libraries' files, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis import analyse
from analysis.errors import AnalysisError
from analysis.read.folder.formats import FORMATS as KNOWN
from analysis.read.folder.formats import TABLES
from analysis.read.folder.read import read_folder
from tests.analysis.read.folder import planted
from tests.analysis.read.folder.planted import FORMATS, OPTIONS, RUNS, STEPS, TARGET, Run, write_csv

WRITTEN = Path(__file__).parent / "written"


def test_every_format_is_planted() -> None:
    assert {one.name for one in KNOWN} - {one.name for one in TABLES} == set(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_planted_study_comes_back(kind: str, tmp_path: Path) -> None:
    FORMATS[kind](tmp_path)
    trials, curves = read_folder(tmp_path, **OPTIONS.get(kind, {}))
    assert len(trials) == len(RUNS)
    known = {(row.batch_size, row.lr, row.seed): row.run_id for row in trials.itertuples()}
    assert set(known) == {(run.batch_size, run.lr, run.seed) for run in RUNS}
    for run in RUNS:
        curve = curves[curves["run_id"] == known[run.batch_size, run.lr, run.seed]]
        n_rows = 3 if kind == "keras" else len(STEPS)
        assert len(curve) == n_rows
        expected = [run.loss(step) for step in curve["step"]]
        np.testing.assert_allclose(curve["loss"], expected, rtol=1e-6)  # events hold float32
    if kind == "keras":  # an epoch is longer than what the targets need
        return
    result = analyse(trials, curves, targets=[TARGET], n_bootstrap=10)
    assert result.group_by == []
    (fit,) = result.fits
    assert fit.critical_batch_size == pytest.approx(planted.CRITICAL, rel=0.002)
    assert fit.min_steps == pytest.approx(planted.MIN_STEPS, rel=0.002)


def test_files_of_lightning_itself() -> None:
    """Its validations after 4, 8 and 12 updates are logged at steps 3, 7 and 11."""
    trials, curves = read_folder(WRITTEN / "lightning")
    assert trials[["batch_size", "lr"]].to_numpy().tolist() == [[8, 0.1]]
    assert curves["step"].tolist() == [4, 8, 12]


def test_files_of_the_trainer_itself() -> None:
    """The state of a checkpoint repeats the beginning; 4 examples a device, accumulated twice."""
    trials, curves = read_folder(WRITTEN / "trainer_state", world_size=1)
    assert trials[["batch_size", "lr", "seed"]].to_numpy().tolist() == [[8, 0.05, 42]]
    assert curves["step"].tolist() == [4, 8, 12]
    assert curves["train_loss"].notna().tolist() == [False, False, True]
    with pytest.raises(AnalysisError, match=r"trainer_state.json: .* say source\.world_size=1"):
        read_folder(WRITTEN / "trainer_state")


def test_files_of_keras_itself() -> None:
    """48 examples an epoch in batches of 8; epoch 0 ends after 6 updates."""
    pattern = r"bs(?P<batch_size>\d+)_lr(?P<lr>[\d.]+\d)"
    trials, curves = read_folder(WRITTEN / "keras", name_pattern=pattern, examples_per_epoch=48)
    assert trials[["batch_size", "lr"]].to_numpy().tolist() == [[8, 0.05]]
    assert curves["step"].tolist() == [6, 12, 18]
    with pytest.raises(AnalysisError, match=r"bs8_lr0.05.csv: has epochs, .*examples_per_epoch"):
        read_folder(WRITTEN / "keras", name_pattern=pattern)


def test_files_of_tensorboard_itself() -> None:
    """Hyperparameters stand in a file of their own."""
    trials, curves = read_folder(WRITTEN / "tensorboard")
    assert trials[["batch_size", "lr"]].to_numpy().tolist() == [[8, 0.1]]
    assert curves["step"].tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(curves["loss"], [1 / (i + 1) for i in range(5)], rtol=1e-6)


def test_what_was_logged_as_no_number_is_a_divergence(tmp_path: Path) -> None:
    rows = [[0, 0, "", 3.0], [0, 4, "", 2.0], [0, 8, "", "nan"]]
    write_csv(tmp_path / "a" / "metrics.csv", ["epoch", "step", "train_loss", "val_loss"], rows)
    (tmp_path / "a" / "hparams.yaml").write_text("batch_size: 8\nlr: 0.1\n")
    trials, curves = read_folder(tmp_path)
    assert trials["outcome"].tolist() == ["diverged"]
    assert trials["last_step"].tolist() == [5]
    assert curves["step"].tolist() == [1, 5]


def test_names_of_theirs(tmp_path: Path) -> None:
    rows = [[0, 0, 9, 3.0, 30], [0, 4, 9, 2.0, 70]]
    names = ["epoch", "step", "val_error", "val/perplexity", "updates"]
    write_csv(tmp_path / "metrics.csv", names, rows)
    (tmp_path / "hparams.yaml").write_text("train: {bs: 8}\noptimizer: {lr: 0.1}\n")
    columns = {"batch_size": "train.bs", "lr": "optimizer.lr", "loss": "val/perplexity"}
    trials, curves = read_folder(tmp_path, {**columns, "step": "updates"})
    assert trials[["batch_size", "lr"]].to_numpy().tolist() == [[8, 0.1]]
    assert curves[["step", "loss"]].to_numpy().tolist() == [[30, 3.0], [70, 2.0]]


def test_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "bs8_lr0.1_s0.csv").write_text("step;loss\n1;2,5\n2;1,5\n")
    _, curves = read_folder(tmp_path, name_pattern=planted.PATTERN)
    assert curves[["step", "loss"]].to_numpy().tolist() == [[1, 2.5], [2, 1.5]]


def one_run(folder: Path, run: Run = RUNS[0]) -> None:
    rows = [[step, run.loss(step)] for step in STEPS]
    write_csv(folder / f"{run.name}.csv", ["step", "loss"], rows)


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(AnalysisError) as told:
        read_folder(folder, **options)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(told.value)
    return str(told.value)


def test_bad_input(tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(tmp_path / "no")
    assert "none of its 0 files is a run in a format that is known" in refusal(tmp_path)
    one_run(tmp_path)
    name = RUNS[0].name
    assert refusal(tmp_path).startswith(
        f"source.path={tmp_path}/{name}.csv: run {name} has no batch_size, nor any other setting; "
        "name it with source.columns.batch_size=..."
    )
    assert "source.format=tb: must be auto or one of tensorboard" in refusal(tmp_path, format="tb")
    assert "is not a regular expression" in refusal(tmp_path, name_pattern="(")
    assert "has no named group" in refusal(tmp_path, name_pattern="bs(.*)")
    assert f"does not match the run {name}" in refusal(tmp_path, name_pattern="x(?P<lr>.)")
    (tmp_path / f"{name}.yaml").write_text("batch_size: 8\nlr: 0.05\n")
    assert (
        f"run {name}: batch_size is 8 by {name}.yaml, but 4 by its name; correct one of them"
        in refusal(tmp_path, name_pattern=planted.PATTERN)
    )
    (tmp_path / f"{name}.yaml").write_text("batch_size: [8\n")
    assert f"{name}.yaml: is not the yaml that its name says" in refusal(tmp_path)


def test_mixed_formats(tmp_path: Path) -> None:
    one_run(tmp_path)
    planted.lightning(tmp_path / "other")
    said = refusal(tmp_path)
    assert (
        "holds runs of several formats (csv: bs4_lr0.05_s0.csv; lightning: other/version_0" in said
    )
    assert len(read_folder(tmp_path, format="lightning")[0]) == len(RUNS)


def test_the_same_run_twice(tmp_path: Path) -> None:
    planted.wandb_panel(tmp_path)
    text = (tmp_path / "panel.csv").read_text()
    (tmp_path / "again.csv").write_text(text)
    assert len(read_folder(tmp_path)[0]) == len(RUNS)  # an equal copy says nothing new
    lines = text.splitlines()
    (tmp_path / "again.csv").write_text("\n".join([*lines[:2], lines[1].replace("1,", "8,", 1)]))
    assert "stands in again.csv and panel.csv with different values of val/loss at 8" in refusal(
        tmp_path
    )


def test_a_table_alone_has_no_curves(tmp_path: Path) -> None:
    planted.wandb_panel(tmp_path)
    (tmp_path / "panel.csv").unlink()
    assert "runs.csv: is a table of last values, without curves" in refusal(tmp_path)


def test_which_loss(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["step", "val_loss", "test_loss"], [[1, 2.0, 3.0], [2, 1.0, 2.0]])
    (tmp_path / "a.json").write_text(json.dumps({"batch_size": 8, "lr": 0.1}))
    said = refusal(tmp_path)
    assert "source.columns.loss: which of val_loss, test_loss is the held-out loss" in said
    assert read_folder(tmp_path, {"loss": "test_loss"})[1]["loss"].tolist() == [3.0, 2.0]
    said = refusal(tmp_path, columns={"loss": "tst_loss"})
    assert "did you mean test_loss" in said


def test_cut_off_files(tmp_path: Path) -> None:
    """An event file is read to its last whole record; JSON that is cut off is one line."""
    planted.tensorboard(tmp_path)
    files = sorted(tmp_path.rglob("*.1000"))
    files[0].write_bytes(files[0].read_bytes()[:-10])
    trials, curves = read_folder(tmp_path, name_pattern=planted.PATTERN)
    assert len(trials) == len(RUNS)
    assert len(curves) == len(RUNS) * len(STEPS) - 1
    state = tmp_path / "state"
    planted.trainer_state(state)
    path = next(state.rglob("trainer_state.json"))
    path.write_text(path.read_text()[:-20])
    assert f"source.path={path}: is not JSON" in refusal(state, world_size=2)
