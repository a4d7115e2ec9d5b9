"""Everything that conf/ offers goes through a sweep and its report, as small as it can be."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis import __main__ as analysis
from scaling.config import RULES, SCHEDULES
from scaling.data.config import DATASETS, IMAGE_SETS
from scaling.models.config import LAYOUTS, MODELS
from scaling.optimizers.config import OPTIMIZERS
from scaling.tasks.config import TASKS
from sweeps import __main__ as sweeps
from tests.scaling.data.archives import batches, write_folder

CONF = Path(__file__).parents[1] / "conf"
FEW = ["batch_size=4,16", "lr=0.02,0.05,0.1", "budget.max_steps=40", "relative_targets=[0.7]"]
LINES = [*FEW, "task.dimension=4"]
PIXELS = ["model.num_filters=2", "data.num_colours=4", "cache_dir=cache", "picture_ratio=null"]
PHOTOS = [*PIXELS, "data.side=8", "data.train_images=48", "data.held_out_images=20"]
NET = [*PHOTOS, "targets=[]", "relative_targets=[0.95]", "budget.max_steps=12"]
SEARCH = ["hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=1", "hydra.sweeper.lr_range=[0.02,0.2]"]
CIFAR = [*PIXELS, "data=cifar10", "data.path=batches", "data.classes=[horse]"]

TEXT = ["data.sequence_length=8", "data.max_characters=20000", "data.held_out_sequences=20",
        "model.width=8", "model.heads=2", "picture_ratio=null", "targets=[]",
        "relative_targets=[0.95]", "budget.max_steps=12"]  # fmt: skip

GROUPS = {
    "optimizers": [*LINES, "optimizer=" + ",".join(n for n in OPTIMIZERS if n != "custom")],
    "optimizer_files": [*LINES, "optimizer=adamw_language,preconditioned_root,rmsprop_textbook"],
    "optimizer_custom": [*LINES, "optimizer=custom", "optimizer.path=torch.optim.Adagrad"],
    "optimizer_soap": ["task=colourization", "optimizer=soap", "lr=0.01", "batch_size=4,8", *NET],
    "optimizer_muon": ["task=language_model", "optimizer=muon", "lr=0.01", "batch_size=4,8", *TEXT],
    "schedules": [*LINES, "schedule=" + ",".join(SCHEDULES)],
    "rules": [*LINES, "optimizer=adamw", "rule=" + ",".join(RULES), "rule.batch_size=4",
              "rule.exponent=0.3", "rule.batch_scale=10", "rule.half_life=[beta1,beta2]",
              "rule.weight_decay=timescale"],
    "finite_regression": [*LINES, "task=finite_regression"],
    "custom": [*FEW, "task=custom", "task.path=custom_networks.Custom",
               "+task.options.kind=dropout"],
    "data_workers": [*FEW, "task=custom", "task.path=read_problems.Batches",
                     "+task.options.noise=0.2", "data_workers=1"],
    "models": ["task=colourization", "optimizer=adam", "model=" + ",".join(LAYOUTS), *NET],
    "npz": ["task=colourization", "data=npz", "data.path=images.npz", *NET[:4], *NET[7:]],
    "cifar10": ["task=colourization", *CIFAR, *NET[7:]],
    "image_folder": ["task=colourization", "data=image_folder", "data.folder=images", *NET[:5],
                     *NET[7:]],
}  # fmt: skip
STUDIES = {
    "colourization": ["data=photos", "batch_size=4,8", "seed=0", *NET, *SEARCH],
    "colourization_small": ["batch_size=4,8", "seed=0", *NET, *SEARCH],
    "language_model_small": ["batch_size=4,8", "seed=0", *TEXT, *SEARCH],
    "optimizers_language_model": ["batch_size=4,8", "seed=0", *TEXT, *SEARCH],
    "final_losses": ["batch_size=4,16", "seed=0,1", "budget.max_examples=64,256",
                     "hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=1",
                     "relative_targets=[0.5]", *LINES[4:]],
    "linear_regression": [*LINES[:1], "seed=0,1", *LINES[2:], *SEARCH],
    "linear_regression_grid": [*LINES, "seed=0,1"],
    "lr_versus_batch_size": ["batch_size=4,16,64", "seed=0", *LINES[2:], *SEARCH],
    "lr_versus_batch_size_colourization": ["batch_size=16,32", "seed=0", *NET, *SEARCH],
    "minimum_norm": ["optimizer=sgd,adam", "batch_size=1,6", "budget.max_steps=60"],
    "minimum_norm_example": ["optimizer=sgd,momentum", "budget.max_steps=60"],
    "model_size": ["model.num_filters=2,3", "batch_size=4,8", "lr=0.01,0.02", "seed=0", *NET[1:],
                   "budget.max_examples=null"],
    "noise_scale": [*LINES, "seed=0,1"],
    "one_step_lr": ["batch_size=1,16", "seed=0,1,2"],
    "optimizers": ["optimizer=sgd,preconditioned", "batch_size=4,16", "seed=0", *LINES[2:],
                   *SEARCH],
    "optimizers_colourization": ["optimizer=sgd,adam", "batch_size=16,32", "seed=0", *NET, *SEARCH],
    "pool_vs_transpose": ["data=photos", *NET, "batch_size=8"],
    "scratch": LINES,
    "weight_decay": ["optimizer.weight_decay=0.1", "batch_size=4,16", "budget.max_steps=60"],
}  # fmt: skip


def files_of(group: str) -> set[str]:
    return {path.stem for path in (CONF / group).glob("*.yaml")}


def test_nothing_of_conf_is_left_out() -> None:
    assert files_of("study") == set(STUDIES)
    of_others = {"soap", "muon", "rmsprop_textbook", "preconditioned_root", "adamw_language"}
    assert files_of("optimizer") - of_others == set(OPTIMIZERS)
    assert files_of("schedule") == set(SCHEDULES)
    assert files_of("rule") == set(RULES)
    assert files_of("model") == set(MODELS) == {*LAYOUTS, "transformer"}
    assert files_of("task") == set(TASKS)
    assert files_of("data") == set(DATASETS) == {*IMAGE_SETS, "text"}
    assert set(IMAGE_SETS) == {"photos", "npz", "cifar10", "image_folder"}


def prepare(folder: Path) -> None:
    """A user's own module, and small images in each of the forms that are read."""
    for name in ("custom_networks.py", "read_problems.py"):
        source = Path(__file__).parent / "scaling" / name
        (folder / name).write_text(source.read_text())
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images)
    (folder / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
    write_folder(folder / "batches", batches())


@pytest.fixture
def folder(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a store; figures are written once, not in every format."""
    prepare(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("scaling.tasks.custom._problems", {})
    return tmp_path


def goes_through(
    folder: Path, study: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both commands, in this process: what they import takes longer than what they do here."""
    for command, given in (
        (sweeps.main, ["-m", *arguments, "hydra.launcher.workers=0"]),
        (analysis.main, [f"study={study}", "n_bootstrap=5"]),
    ):
        monkeypatch.setattr(sys, "argv", ["command", *given])
        command()
    assert (folder / "reports" / study / "report.html").exists()


@pytest.mark.long
@pytest.mark.parametrize("name", GROUPS)
def test_groups(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "optimizer_soap":
        pytest.importorskip("pytorch_optimizer", reason="the extra `optimizers` is not installed")
    goes_through(folder, name, [*GROUPS[name], f"study.name={name}"], monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_studies(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_through(folder, name, [f"study={name}", *STUDIES[name]], monkeypatch)
