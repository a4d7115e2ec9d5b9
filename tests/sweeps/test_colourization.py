"""Colourization end to end: workers, MLflow's pictures and counts, and what users get wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from analysis.read.runs import read_study
from tests.command_line import run, sweeps

SMALL = [
    "task=colourization",
    "data.side=16",
    "data.train_images=60",
    "data.held_out_images=20",
    "data.num_colours=5",
    "model.num_filters=2",
    "optimizer=adam",
    "budget.max_steps=12",
    "relative_targets=[]",
    "study.name=colours",
]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    arguments = ["-m", "batch_size=4,8", "lr=0.01,0.02", "model=conv_transpose,unet"]
    done = sweeps(*arguments, *SMALL, f"cache_dir={folder}/cache", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_trial_has_its_curves_and_counts(swept: Path) -> None:
    trials, curves = read_study("colours", f"sqlite:///{swept}/mlflow.db")
    assert len(trials) == 8
    assert set(trials["model.name"]) == {"conv_transpose", "unet"}
    assert set(trials["model.num_colours"]) == {5}
    assert set(trials.model_size) == {2}
    weights = trials.groupby("model.name").weights.unique()
    assert [int(w) for w in weights["conv_transpose"]] == [9 * (2 + 4 * 4 + 2 * 5 + 25)]
    assert trials.data_hash.nunique() == 1
    assert (curves.groupby("run_id").step.max() == 12).all()


def metrics_of(folder: Path) -> dict[str, int]:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        rows = connection.execute("SELECT key, count(*) FROM metrics GROUP BY key").fetchall()
    return dict(rows)


def test_accuracy_and_step_time_are_metrics(swept: Path) -> None:
    counts = metrics_of(swept)
    assert counts["accuracy"] == counts["loss"] == 8 * 13
    assert counts["step_seconds"] == counts["examples_per_second"] == 8


def test_the_palette_stands_with_every_trial_and_can_be_given_again(swept: Path) -> None:
    palettes = list(swept.glob("mlartifacts/colours/*/artifacts/palette.csv"))
    assert len(palettes) == 8
    [text] = {path.read_text() for path in palettes}
    assert len(text.splitlines()) == 5
    given = [*SMALL, f"data.palette={palettes[0]}", "budget.max_steps=1", "study.name=again"]
    done = sweeps(*given, f"cache_dir={swept}/cache", cwd=swept)
    assert done.returncode == 0, done.stderr
    [again] = swept.glob("mlartifacts/again/*/artifacts/palette.csv")
    assert again.read_text() == text


def test_pictures_stand_in_the_slider_once(swept: Path) -> None:
    def names() -> list[str]:
        return sorted(p.name for p in swept.glob("mlartifacts/colours/*/artifacts/images/*.png"))

    before = names()
    steps = {name.split("+")[2] for name in before}
    assert steps == {"0", "1", "2", "4", "8", "12"}  # the last one is the trained network
    assert len(before) == 8 * 6
    done = run("sweeps.sync", "runs/colours", cwd=swept)
    assert done.returncode == 0, done.stderr
    assert names() == before


def test_prepared_images_are_kept_and_models_saved_when_asked_for(swept: Path) -> None:
    [kept] = swept.glob("cache/prepared-*/*.npz")
    made = kept.stat().st_mtime_ns
    single = [*SMALL, f"cache_dir={swept}/cache", "budget.max_steps=2", "lr=0.5"]
    assert sweeps(*single, "save_models=true", cwd=swept).returncode == 0
    assert kept.stat().st_mtime_ns == made
    saved = {path.name for path in swept.glob("mlartifacts/colours/*/artifacts/model/*")}
    assert saved == {"best.pt", "last.pt"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["model.kernel_size=2"], "error: model.kernel_size=2: must be one of 3, 4, 5"),
        (["model.num_filters=0"], "error: model.num_filters=0: must be a whole number from 1"),
        (
            ["model.in_channels=3"],
            "error: model.in_channels=3: must be the number of channels of the images",
        ),
        (["data.side=18"], "error: data.side=18: must be a multiple of 4"),
        (["micro_batch_size=4"], "error: micro_batch_size=4: normalises 4 examples together"),
        (["task.sampling=sorted"], "error: task.sampling=sorted: must be one of"),
        (["data=cifar10", "data.path=nowhere"], "error: data.path=nowhere: "),
        (["data=image_folder", "data.folder=."], "error: data.folder=.: "),
        (
            ["task.sampling=without_replacement", "batch_size=61"],
            "error: batch_size=61: at most the 60 training examples",
        ),
        (["task=linear_regression", "model=unet"], "error: model=unet: the task linear_regression"),
        (["data.palette=nowhere.csv"], "error: data.palette=nowhere.csv: "),
    ],
)
def test_what_does_not_fit_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    given = {a.split("=")[0] for a in arguments}
    kept = [a for a in SMALL if a.split("=")[0] not in given]
    if "data" in given or "task" in given:
        kept = [a for a in kept if not a.startswith(("data.", "model."))]
    done = sweeps(*kept, *arguments, f"cache_dir={tmp_path}/cache", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
