"""`python -m sweeps.all`: a plain loop that goes on after a failure and says so at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scaling.limits import ConfigError
from sweeps.all import STUDIES, Loop, record_folders
from sweeps.command_line.study_files import (
    chosen_studies,
    refuse_other_task,
    study_content,
    study_files,
)
from tests.command_line import run

TINY = """# @package _global_
study:
  name: {name}
  report: losses
  predictions:
    - {{says: It learns, metric: loss, at: last, at_most: {bound}}}
relative_targets: [0.5]
budget: {{max_steps: 20}}
hydra: {{sweeper: {{params: {{batch_size: "4,8", lr: "{lr}"}}}}}}
"""


def test_every_study_that_predicts_is_in_the_loop() -> None:
    files = study_files()
    predicting = {
        choice
        for choice, path in files.items()
        if (study_content(path).get("study") or {}).get("predictions")
    }
    assert predicting <= set(STUDIES)


def test_studies_are_found_by_their_choice(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text("study: {name: other}\n")
    assert chosen_studies(["mine", "minimum_norm"], str(tmp_path)) == {
        "mine": "other", "minimum_norm": "minimum_norm",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"minimum_nrm: is not in conf/study; did you mean minim"):
        chosen_studies(["minimum_nrm"])
    with pytest.raises(ConfigError, match=r"--config-dir=/nowhere: there is no such folder"):
        chosen_studies(["mine"], "/nowhere")
    (tmp_path / "study" / "mine.yaml").write_text("study: {name: [}\n")
    with pytest.raises(ConfigError, match=r"study=mine: .* cannot be read"):
        chosen_studies(["mine"], str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            "study=minimum_norm task=colourization",
            "requires task=finite_regression: ",
        ),
        (
            "-m study=minimum_norm task=finite_regression,custom",
            "task=custom: study=minimum_norm",
        ),
        ("study=model_size task=linear_regression", "linear_regression does not have model.norm"),
    ],
)
def test_a_task_that_a_study_cannot_have(arguments: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        refuse_other_task(arguments.split())


def test_tasks_that_studies_can_have() -> None:
    for study, path in study_files().items():
        chosen = [
            task
            for entry in yaml.safe_load(path.read_text()).get("defaults") or []
            if isinstance(entry, dict)
            for key, task in entry.items()
            if key == "override /task"
        ]
        refuse_other_task([f"study={study}", f"task={(chosen or ['linear_regression'])[0]}"])
    refuse_other_task(["study=linear_regression", "task=finite_regression"])
    refuse_other_task(["-m", "task=colourization", "lr=1,2"])
    refuse_other_task(["study=unknown", "task=colourization"])


def test_time_left_follows_the_pace() -> None:
    loop = Loop({})
    assert loop.time_left(["noise_scale", "one_step_lr"]).startswith(": about 2 min left")
    loop.expected, loop.taken = 100.0, 200.0
    assert loop.time_left(["noise_scale", "one_step_lr"]).startswith(": about 5 min left")
    assert loop.time_left(["one_step_lr", "mine"]).startswith(": more than 1 min left")
    assert loop.time_left(["mine"]) == ""


def write_studies(folder: Path) -> list[str]:
    (folder / "conf" / "study").mkdir(parents=True)
    for name, bound, lr in (("fine", 1e6, "0.1"), ("untrue", "1.0e-9", "0.1"), ("broken", 1, "-1")):
        text = TINY.format(name=name, bound=bound, lr=lr)
        (folder / "conf" / "study" / f"{name}.yaml").write_text(text)
    return ["--config-dir", "conf", "broken", "untrue", "fine"]


@pytest.mark.long
def test_the_loop_goes_on_after_a_failure_and_again_where_it_stopped(tmp_path: Path) -> None:
    arguments = write_studies(tmp_path)
    done = run("sweeps.all", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "failed: broken, its sweep (exit code 2); the same command resumes"
    )
    assert "error: lr=-1.0: must be a finite number > 0" in done.stderr
    assert "[3 of 3] fine" in done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("untrue: 0 of 1 predictions hold.") for line in lines)
    assert "fine: All 1 predictions hold." in lines
    page = (tmp_path / "reports" / "all.html").read_text()
    assert page.index('id="study-untrue"') < page.index('id="study-broken"')
    reports = {name: tmp_path / "reports" / name / "report.html" for name in ("untrue", "fine")}
    before = {name: path.stat().st_mtime_ns for name, path in reports.items()}
    reports["fine"].unlink()
    again = run("sweeps.all", *arguments, cwd=tmp_path)
    assert again.returncode == 1
    assert "2 trials: 2 finished before" in again.stdout
    assert reports["untrue"].stat().st_mtime_ns == before["untrue"]
    assert reports["fine"].exists()


@pytest.mark.long
def test_an_interruption_ends_the_loop(tmp_path: Path) -> None:
    arguments = write_studies(tmp_path)
    path = tmp_path / "conf" / "study" / "fine.yaml"
    path.write_text(path.read_text().replace("max_steps: 20", "max_steps: 100000000"))
    command = [sys.executable, "-m", "sweeps.all", *arguments[:2], "fine", "untrue"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("fine/*.jsonl")) and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted: what is done is on record")
    assert not (tmp_path / "runs" / "untrue").exists()


def test_a_record_lies_where_the_study_says(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    header = "# @package _global_\nstudy: {name: mine}\n"
    (tmp_path / "study" / "mine.yaml").write_text(f"{header}record_dir: kept/${{study.name}}\n")
    (tmp_path / "study" / "broken.yaml").write_text(f"{header}lr: [1\n")
    folders = record_folders(["mine", "broken", "minimum_norm"], str(tmp_path))
    assert folders == {"mine": Path("kept/mine"), "minimum_norm": Path("runs/minimum_norm")}
