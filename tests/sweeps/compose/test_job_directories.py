"""What the stacked launcher leaves and calls for each job: as Hydra's own launcher does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeps.compose.composer import Composer
from sweeps.compose.folders import claim_sweep_directory
from sweeps.compose.launch import compose_jobs
from sweeps.run.job_yaml import yaml_without_passwords
from tests.sweeps.hydra_parts import jobs_of, multirun
from tests.sweeps.in_process import command

SMALL = ("task.dimension=4", "budget.max_steps=3", "tracking.uri=none")
BASIC = "hydra/launcher=basic"
SWEPT = ("lr=0.1,0.2", "optimizer=sgd,adam")
LISTENER = """
from hydra.experimental.callback import Callback

class Listener(Callback):
    def __init__(self, path):
        self.path = path

    def note(self, what, config, *more):
        with open(self.path, "a") as file:
            file.write(" ".join(map(str, (what, config.hydra.job.num, config.lr,
                config.hydra.runtime.output_dir.split("/")[-1], *more))) + "\\\\n")

    def on_job_start(self, config, **kwargs):
        self.note("start", config, callable(kwargs["task_function"]))

    def on_job_end(self, config, job_return, **kwargs):
        self.note("end", config, job_return.status.name, job_return.return_value > 0)
"""


def sweep(folder: Path, name: str, *more: str) -> Path:
    """The sweep's folder after a sweep."""
    here = [] if BASIC in more else ["hydra.launcher.workers=0"]
    words = [
        "-m",
        *here,
        f"study.name={name}",
        *SWEPT,
        *SMALL,
        f"hydra.sweep.dir={folder}/{name}",
        *more,
    ]
    done = command(words, folder)
    assert done.code == 0, done.stderr
    return folder / name


def content(folder: Path, name: str) -> list[Any]:
    return [yaml.safe_load((folder / str(n) / ".hydra" / name).read_text()) for n in range(4)]


@pytest.mark.long
def test_files_equal_those_of_hydras_own_launcher(tmp_path: Path) -> None:
    subdir = "hydra.sweep.subdir='${hydra.job.num}'"
    ours = sweep(tmp_path, "ours", subdir)
    theirs = sweep(tmp_path, "theirs", subdir, BASIC)
    assert content(ours, "overrides.yaml") == [
        [word.replace("theirs", "ours") for word in job]
        for job in content(theirs, "overrides.yaml")
    ]
    for mine, other in zip(content(ours, "hydra.yaml"), content(theirs, "hydra.yaml"), strict=True):
        text = yaml.dump(other).replace("theirs", "ours")
        other = yaml.safe_load(text)
        for one in (mine["hydra"], other["hydra"]):
            del one["launcher"], one["runtime"]["choices"]["hydra/launcher"]
            one["overrides"]["hydra"] = None
        assert mine == other
    for mine, other in zip(
        content(ours, "config.yaml"), content(theirs, "config.yaml"), strict=True
    ):
        assert mine.keys() == other.keys()
        assert (mine["lr"], mine["optimizer"]) == (other["lr"], other["optimizer"])


def test_a_folder_named_by_what_is_swept_is_each_jobs_own(tmp_path: Path) -> None:
    subdir = "hydra.sweep.subdir='${hydra.job.override_dirname}'"
    folder = sweep(tmp_path, "named", subdir)
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    assert len(names) == 4
    assert all("lr=0.1" in name or "lr=0.2" in name for name in names)


def test_no_folder_of_hydras_if_it_is_not_wanted(tmp_path: Path) -> None:
    folder = sweep(tmp_path, "bare", "hydra.output_subdir=null")
    assert not list(folder.rglob(".hydra"))
    assert (folder / "3").is_dir()


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["stacked", "basic"])
def test_callbacks_of_jobs_are_called(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "listening.py").write_text(LISTENER.replace("\\\\n", "\\n"))
    monkeypatch.syspath_prepend(str(tmp_path))
    called = tmp_path / "called.txt"
    more = [f"+hydra.callbacks.mine={{_target_:listening.Listener,path:'{called}'}}"]
    if launcher == "basic":
        more.append(BASIC)
    sweep(tmp_path, launcher, *more)
    lines = [line.split() for line in called.read_text().splitlines()]
    jobs = [(str(n), lr) for n, lr in enumerate(("0.1", "0.1", "0.2", "0.2"))]
    starts = [line[1:] for line in lines if line[0] == "start"]
    ends = [line[1:] for line in lines if line[0] == "end"]
    assert starts == [[number, lr, number, "True"] for number, lr in jobs]
    assert ends == [[number, lr, number, "COMPLETED", "True"] for number, lr in jobs]
    if launcher == "stacked":
        assert [line[0] for line in lines] == ["start"] * 4 + ["end"] * 4


def test_a_directory_that_refers_to_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with multirun("hydra.sweep.dir='out/${hydra:job.name}'") as (_, master):
        claim_sweep_directory(master)
        assert (tmp_path / "out" / "sweeps" / "multirun.yaml").exists()
        assert master.hydra.sweep.dir == "out/sweeps"


def test_hydras_files_cost_little(tmp_path: Path) -> None:
    """Of 100 jobs: Hydra's own composition would take 4 s or more."""
    with multirun("study=linear_regression_grid") as (loader, master):
        jobs = jobs_of(master, ["study=linear_regression_grid"])[:100]
        composed = compose_jobs(Composer(loader, master), jobs, 0)
    began = time.process_time()
    for job in composed:
        assert job.hydra is not None
        assert yaml_without_passwords(job.hydra.content(tmp_path))
    assert time.process_time() - began < 1
