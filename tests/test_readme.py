"""What the README shows is what runs: its own text, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from analysis.read.runs import read_study
from tests.command_line import run

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.long
def test_the_task_of_ones_own(tmp_path: Path) -> None:
    section = README.read_text().split("### Train a task of your own")[1].split("\n### ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(code.splitlines()) < 40
    (tmp_path / "digits.py").write_text(code)
    commands = re.findall(r"^    python -m (.*)$", section, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        module, *arguments = shlex.split(command)
        done = run(module, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    trials, curves = read_study("digits", f"sqlite:///{tmp_path}/mlflow.db")
    assert len(trials) == 7 * 7 * 3
    assert (trials.outcome == "reached").sum() > 50
    assert set(trials.model_size) == {16}
    assert trials.task_content.nunique() == 1
    assert (tmp_path / "reports/digits/report.html").stat().st_size > 100_000
    assert curves.loss.notna().all()
