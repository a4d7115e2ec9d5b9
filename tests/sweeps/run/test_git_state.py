"""What no commit holds is kept with a sweep: the diff, bounded, and the names of new files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scaling.config import StudyConfig
from sweeps.run import git_state
from sweeps.run.git_state import git_tags, uncommitted
from sweeps.run.provenance import sweep_files, sweep_record, swept


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "inner").mkdir(parents=True)
    (folder / "code.py").write_text("lr = 1\n")
    identity = ["-c", "user.name=me", "-c", "user.email=me@here"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_clean_and_outside_of_a_repository(repository: Path, tmp_path: Path) -> None:
    assert uncommitted(repository) == ""
    assert git_tags(repository)["git_dirty"] == "false"
    assert "git_changes" not in git_tags(repository)
    assert uncommitted(tmp_path) == ""
    assert git_tags(tmp_path) == {}


def test_changes_from_anywhere_in_the_tree(repository: Path) -> None:
    (repository / "code.py").write_text("lr = 2\n")
    (repository / "new.py").write_text("x = 1\n")
    text = uncommitted(repository / "inner")
    assert text.startswith(f"# changes since commit {git_tags(repository)['git_commit']}")
    assert "+lr = 2" in text
    assert "new.py" in text
    assert "x = 1" not in text
    first = git_tags(repository)
    assert first["git_dirty"] == "true"
    (repository / "new.py").write_text("x = 2\n")
    assert git_tags(repository)["git_changes"] != first["git_changes"]


def test_the_diff_is_bounded_and_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_state, "DIFF_CHARACTERS", 200)
    (repository / "code.py").write_text("lr = 2\n" * 1000)
    for number in range(205):
        (repository / f"new{number}.txt").write_text("")
    text = uncommitted(repository)
    assert len(text.split("cut: ")[1]) < 400
    assert ".. 205 in all" in text


def test_what_a_sweep_keeps(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    (repository / "code.py").write_text("url = 'postgresql://me:SECRET@db/x'\n")
    files = sweep_files()
    assert "SECRET" not in files["provenance/uncommitted.diff"]
    assert "me:***@db" in files["provenance/uncommitted.diff"]
    assert any(line.startswith("torch==") for line in files["provenance/packages.txt"].split("\n"))
    grid = [["lr=0.1", "seed=0"], ["lr=0.2", "seed=0"]]
    assert swept(grid) == ["lr: 0.1, 0.2", "seed: 0"]
    record = sweep_record(StudyConfig(question="why?"), tmp_path, ["-m", "lr=0.1,0.2"], grid)
    assert record["title"] == "sweep of 2 trials"
    assert "- lr: 0.1, 0.2" in record["note"]
    assert record["tags"]["git_changes"] == git_tags(repository)["git_changes"]
    assert record["tags"]["processor"]


def test_what_the_report_is_about_stands_in_the_record(tmp_path: Path) -> None:
    of_losses = sweep_record(StudyConfig(report="losses"), tmp_path, [])
    assert of_losses["tags"]["report"] == "losses"
    assert "report" not in sweep_record(StudyConfig(), tmp_path, [])["tags"]
