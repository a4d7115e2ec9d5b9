"""The console script: every command under one name, whatever lies in the working directory."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hydra_plugins.batch_scaling._options import SlurmOptions

from scaling.commands import CONSOLE, FORM, MODULES, command, head_of, options_of
from sweeps.all import run_command
from sweeps.command_line.arguments import read_command_line
from sweeps.run.executors.slurm import sbatch_parameters
from tests.command_line import CONSOLE_SCRIPT, console, run

FRAGILE = Path(__file__).parent / "fragile.py"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder whose files have the names of our packages, and a task."""
    trap = "raise RuntimeError('imported from the working directory')"
    for name in ("analysis", "scaling"):
        (tmp_path / f"{name}.py").write_text(trap)
    for name in ("sweeps", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(trap)
    (tmp_path / "conf" / "config.yaml").write_text("not: ours\n")
    shutil.copy(FRAGILE, tmp_path)
    return tmp_path


@pytest.mark.long
def test_files_of_the_user_do_not_hide_ours(crowded: Path) -> None:
    """In this process, in the workers and in the writer; the user's task is found all the same."""
    task = [
        "task=custom",
        "task.path=fragile.Fragile",
        "study.name=small",
        "relative_targets=[0.5]",
    ]
    grid = ["study.name=small", "batch_size=1,2,4,8", "lr=0.03,0.1", "budget.max_steps=100"]
    done = console("sweep", "-m", *task, *grid, "hydra.launcher.workers=2", cwd=crowded, cold=True)
    assert done.returncode == 0, done.stderr
    assert "8 trials: " in done.stdout
    assert "report: batch-scaling report study=small\n" in done.stdout
    done = console("report", "study=small", "n_bootstrap=10", cwd=crowded, cold=True)
    assert done.returncode == 0, done.stderr
    page = (crowded / "reports" / "small" / "report.html").read_text()
    assert "batch-scaling report study=small n_bootstrap=10" in page
    assert "python -m" not in page
    with sqlite3.connect(crowded / "mlflow.db") as store:
        [[line]] = store.execute("SELECT DISTINCT value FROM tags WHERE key = 'command'").fetchall()
    assert line == shlex.join(
        ["batch-scaling", "sweep", "-m", *task, *grid, "hydra.launcher.workers=2"]
    )


@pytest.mark.long
def test_what_is_printed_is_the_form_that_was_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("sync", "runs/a b") == "python -m sweeps.sync 'runs/a b'"
    monkeypatch.setenv(FORM, "1")
    assert command("sync", "runs/a b") == "batch-scaling sync 'runs/a b'"
    done = console("sweep", "bach_size=4", cwd=tmp_path)
    assert done.stderr.endswith("did you mean batch_size?\n")
    done = console("report", "--nope", cwd=tmp_path)
    assert done.stderr.endswith("batch-scaling report --help lists the options\n")


def test_a_loop_starts_commands_in_its_own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Process:
        def __init__(self, words: list[str], **_: object) -> None:
            started.append(words[1:])

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    run_command(["sweep", "-m", "study=a"])
    monkeypatch.setenv(FORM, "1")
    run_command(["report", "study=a"])
    assert started == [
        ["-m", "sweeps", "-m", "study=a"],
        ["-m", "sweeps.command", "report", "study=a"],
    ]


def test_tasks_of_slurm_start_as_the_console_script_does(monkeypatch: pytest.MonkeyPatch) -> None:
    options = SlurmOptions(setup=["module load cuda"])
    assert sbatch_parameters(options, "name", 2)["setup"] == ["module load cuda"]
    monkeypatch.setenv(FORM, "1")
    parameters = sbatch_parameters(options, "name", 2)
    assert parameters["setup"] == ["export PYTHONSAFEPATH=1", "module load cuda"]


@pytest.mark.long
def test_versions_are_ours(tmp_path: Path) -> None:
    version = console("--version", cwd=tmp_path).stdout
    assert version.startswith("batch-scaling 0.")
    assert version.count("\n") == 1
    for name in ("sweep", "sync", "counts"):
        assert console(name, "--version", cwd=tmp_path).stdout == version
    for module in ("analysis", "sweeps.repeat"):
        assert run(module, "--version", cwd=tmp_path).stdout == version


@pytest.mark.parametrize("name", MODULES)
def test_every_command_says_what_it_is(name: str, tmp_path: Path) -> None:
    done = console(name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"batch-scaling {name} " in done.stdout
    assert "python -m" not in done.stdout
    assert not done.stderr
    assert not list(tmp_path.iterdir())


def test_help_has_every_option_with_its_comment(tmp_path: Path) -> None:
    shown = console("sweep", "--help", cwd=tmp_path).stdout
    assert "  tail_factor: 2.0 # " in shown
    assert "hydra/sweeper=frontier: Searches the best lr of every cell." in shown
    assert "  hydra.sweeper.cap_factor=2.0  # trials stop at this many times" in shown
    assert "  hydra.launcher.slurm.grace_seconds=60  # a task is told to save" in shown
    assert "dimension: 64 # inputs, the model size" in shown
    chosen = console("sweep", "task=finite_regression", "--help", cwd=tmp_path).stdout
    assert "data_examples: 32 # n; may be smaller than dimension" in chosen
    report = console("report", "--help", cwd=tmp_path).stdout
    assert "  n_bootstrap: 1000 # resamples of the seeds" in report
    assert "kind: curves_csv" in report


def test_without_a_command_the_commands_are_listed(tmp_path: Path) -> None:
    shown = console(cwd=tmp_path).stdout
    assert all(f"\n  {name} " in shown for name in MODULES)
    done = console("seep", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"error: seep: must be one of {', '.join(MODULES)}\n"


def test_options_of_a_file_are_shown_with_their_comments() -> None:
    text = "# @package _global_\n# What it is.\ndefaults:\n  - a: b\n\na: 1 # one\nhydra:\n  b: 2\n"
    assert options_of(text) == "a: 1 # one"
    assert head_of(text) == "What it is."


COMPLETION = """
eval "$(batch-scaling -sc install=bash)"
complete -p batch-scaling > /dev/null || exit 1
COMP_LINE="$1"; COMP_POINT=${#1}; given=($1); COMP_CWORD=$((${#given[@]} - 1))
hydra_bash_completion
echo "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="it is bash that completes")
@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("batch-scaling re", "report register repeat"),
        ("batch-scaling sweep study=one_s", "study=one_step_lr"),
        ("batch-scaling report fit.", "fit.objective="),
    ],
)
def test_tab_completes(line: str, completed: str, tmp_path: Path) -> None:
    script = tmp_path / CONSOLE
    script.write_text(f"#!{sys.executable}\n{CONSOLE_SCRIPT}")
    script.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", COMPLETION, "bash", line],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == completed


@pytest.mark.parametrize(
    ("words", "writes"),
    [
        (["batch_size=8"], True),
        (["-m", "batch_size=8,16"], True),
        (["tracking.uri=sqlite:///x.db"], True),
        (["tracking.uri=none"], False),
        (["-m", "sweep.dry_run=true"], False),
        (["-m", "sweep.probe=true"], False),
        (["--cfg", "job"], False),
    ],
)
def test_a_command_that_will_write_is_known_by_its_words(words: list[str], writes: bool) -> None:
    assert read_command_line(words).writes == writes
