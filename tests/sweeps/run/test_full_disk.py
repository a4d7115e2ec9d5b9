"""A disk that fills: one clear line, nothing lost, and with room the same command goes on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.command_line import run, sweeps
from tests.sweeps.kills import ARGUMENTS, assert_equal_studies

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mount a small file system of its own on a folder; again: give it another size."""
    mounted: list[Path] = []

    def do(folder: Path, size: str) -> None:
        options = f"size={size}" + (",remount" if folder in mounted else "")
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None:
            pytest.skip("no mount command on this machine")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)

    yield do
    for folder in set(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert sweeps(*ARGUMENTS, cwd=folder).returncode == 0
    return folder


def room_for_half_the_journals(folder: Path) -> int:
    """KiB, in blocks of 4: all else that a sweep writes into its record folder fits too."""
    blocks = {"journals": 0, "others": 0}
    for path in folder.glob("runs/small/**/*"):
        if path.suffix == ".jsonl":
            blocks["journals"] += -(-path.stat().st_size // 4096)
        elif path.is_file():
            blocks["others"] += -(-path.stat().st_size // 4096)
    return 4 * (blocks["others"] + blocks["journals"] // 2)


@pytest.mark.long
def test_full_while_journals_are_written(mount: Mount, undisturbed: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    mount(small, f"{room_for_half_the_journals(undisturbed)}k")
    arguments = [*ARGUMENTS, f"record_dir={small}/record"]
    done = sweeps(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(small.glob("record/*.jsonl"))
    mount(small, "100m")
    done = sweeps(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_equal_studies(tmp_path, undisturbed)


def test_full_before_anything_is_written(mount: Mount, tmp_path: Path) -> None:
    mount(tmp_path / "small", "4k")
    done = sweeps(*ARGUMENTS, f"record_dir={tmp_path}/small/record", cwd=tmp_path)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_full_while_checkpoints_are_written(
    mount: Mount, undisturbed: Path, tmp_path: Path
) -> None:
    """They cost time after a crash and nothing else: training goes on without."""
    folder = tmp_path / "runs" / "small" / "checkpoints"
    folder.mkdir(parents=True)
    mount(folder, "8k")
    done = sweeps(*ARGUMENTS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checkpoint not saved (No space left on device)" in done.stdout
    assert not list(folder.glob(".*"))
    assert_equal_studies(tmp_path, undisturbed)


@pytest.mark.long
def test_full_while_the_store_is_written(mount: Mount, undisturbed: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    mount(small, "100m")
    uri = f"sqlite:///{small}/mlflow.db"
    first = sweeps("study.name=first", "budget.max_steps=3", f"tracking.uri={uri}", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    used = sum(path.stat().st_blocks for path in small.rglob("*")) // 2 + 120
    mount(small, f"{used}k")
    options = [f"tracking.uri={uri}", "tracking.patience_seconds=3"]
    done = sweeps(*ARGUMENTS, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "36 trials: " in done.stdout
    assert done.stderr.startswith(f"error: tracking.uri={uri}: the MLflow store cannot be opened")
    assert f"the rest: python -m sweeps.sync {tmp_path}/runs/small\n" in done.stderr
    assert done.stderr.count("\n") == 1
    mount(small, "100m")
    done = run("sweeps.sync", "runs/small", "--uri", uri, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = sweeps(*ARGUMENTS, *options, cwd=tmp_path)
    assert "36 trials: 36 finished before" in again.stdout
    shutil.copy(small / "mlflow.db", tmp_path)
    assert_equal_studies(tmp_path, undisturbed)
