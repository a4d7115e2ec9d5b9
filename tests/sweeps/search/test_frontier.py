"""The frontier sweeper end to end: rounds of real trials on a small regression."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scaling.limits import ConfigError
from scaling.record.study import StudyRecord, read_record
from scaling.store.client import Store
from scaling.store.sync import Sync
from sweeps.compose.composer import Composer
from sweeps.compose.launch import compose_jobs, launch, launch_jobs
from sweeps.run.jobs import prepare_jobs
from sweeps.run.options import LauncherOptions
from sweeps.search.cells import CellCurves
from sweeps.search.observations import Observed, Reading
from sweeps.search.settings import FrontierSettings, split_swept
from sweeps.search.sweep import FrontierSweep, sweep_frontier
from tests.command_line import sweeps
from tests.sweeps.hydra_parts import multirun

STUDY = [
    "study.name=small",
    "task.dimension=16",
    "relative_targets=[0.1,0.03]",
    "budget.max_steps=600",
    "tracking.uri=none",
]
SWEPT = ["batch_size=8,64", "seed=range(0,3)"]
OPTIONS = ["hydra.sweeper.lr_range=[0.02,0.9]", "hydra.sweeper.stride=4"]


def frontier(
    *overrides: str, swept: Sequence[str] = SWEPT, study: Sequence[str] = STUDY
) -> dict[str, Any]:
    """Sweep in this process and folder; what the sweep says at its end."""
    given = [*study, *OPTIONS, *overrides]
    with multirun("hydra/sweeper=frontier", *given) as (loader, master):
        options = dict(master.hydra.sweeper.items())
        for key in ("_target_", "params", "max_batch_size"):
            options.pop(key)
        arguments = [one for one in given if not one.startswith("hydra")] + list(swept)
        sweep_frontier(
            loader,
            master,
            lambda: split_swept(arguments, tuned=options["tuned"]),
            options,
            lambda jobs, trials, n, journals: launch_jobs(
                master, jobs, trials, n, LauncherOptions(), None, journals
            ),
        )
    return said(Path("runs/small"))[-1]


def lines(folder: Path) -> list[dict[str, Any]]:
    text = "".join(path.read_text() for path in sorted(folder.glob("*.jsonl")))
    return [json.loads(line) for line in text.splitlines()]


def said(folder: Path) -> list[dict[str, Any]]:
    files = [line["files"] for line in lines(folder) if line["record"] == "sweep"]
    return [json.loads(named["frontier.json"]) for named in files if "frontier.json" in named]


def curves(record: StudyRecord) -> dict[str, Any]:
    return {key: (one.steps, one.losses, one.diverged_step) for key, one in record.trials.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep that was never disturbed, and what it said."""
    folder, before = tmp_path_factory.mktemp("swept"), Path.cwd()
    os.chdir(folder)
    try:
        return folder / "runs/small", frontier()
    finally:
        os.chdir(before)


def test_finds_what_the_full_lattice_has(swept, here: Path) -> None:
    """Every trial of the lattice, trained by the grid's launcher and read by the same statistic."""
    _, found = swept
    with multirun(*STUDY) as (loader, master):
        sweep = FrontierSweep(
            loader,
            master,
            split_swept([*STUDY, *SWEPT]),
            FrontierSettings(None, 1.09, [0.02, 0.9], 4, 2.0, 1, 16, "all"),
        )
        indices = range(sweep.options.lowest, sweep.options.highest + 1)
        asked = [
            cell.asked(sweep.lattice, index, seed, 600)
            for cell in sweep.cells
            for index in indices
            for seed in sweep.options.seeds
        ]
        overrides = [one.overrides for one in asked]
        master.hydra.sweep.dir = "grid"
        launch(loader, master, overrides, 0, LauncherOptions())
        trials = prepare_jobs(compose_jobs(Composer(loader, master), overrides, 0))
        record = read_record(sweep.folder)
        sweep._take(asked, trials, sweep._results(trials, record), record)
    n_grid = n_found = 0
    for cell, tuned in zip(sweep.cells, found["cells"], strict=True):
        alive = [k for k in indices if not any(cell.curves.trials[k, s].diverged for s in range(3))]
        readings = [cell.curves.read(index, (0, 1, 2)) for index in alive]
        for number, target in enumerate(tuned["targets"]):
            assert target["reason"] in ("interior", "bounded by divergence")
            assert target["steps"] == pytest.approx(
                min(r[number].steps for r in readings), rel=0.03
            )
        n_grid += sum(one.last_step for one in cell.curves.trials.values())
        n_found += tuned["trained_steps"]
    assert n_found < n_grid / 2


def test_every_cell_ends_with_all_seeds_at_the_best_and_its_neighbours(swept) -> None:
    folder, found = swept
    tried = defaultdict(set)
    for line in lines(folder):
        if line["record"] == "trial":
            params = line["params"]
            tried[params["batch_size"], params["lr"]].add(params["seed"])
    for batch_size, cell in zip((8, 64), found["cells"], strict=True):
        lrs = sorted(lr for size, lr in tried if size == batch_size)
        assert cell["n_lrs"] == len(lrs)
        for target in cell["targets"]:
            position = lrs.index(target["lr"])
            around = lrs[position - 1 : position + 2]
            assert [lr / target["lr"] for lr in around] == pytest.approx([1 / 1.09, 1, 1.09], 1e-4)
            if target["reason"] == "interior":
                assert all(tried[batch_size, lr] == {0, 1, 2} for lr in around)
    some_have_one = [seeds for seeds in tried.values() if seeds == {0}]
    assert some_have_one  # the first seed searches alone


def test_trials_are_capped_and_go_on_where_they_are_needed_longer(swept) -> None:
    folder, _ = swept
    caps = defaultdict(list)
    for line in lines(folder):
        if line["record"] == "trial":
            caps[line["trial_id"]].append(line["params"]["budget.max_steps"])
    assert min(min(ones) for ones in caps.values()) < 600
    continued = {key: ones for key, ones in caps.items() if len(ones) > 1}
    assert continued
    assert all(ones == sorted(set(ones)) for ones in continued.values())
    record = read_record(folder)
    for key, ones in continued.items():
        steps = record.trials[key].steps
        assert steps == sorted(set(steps))
        assert steps[-1] <= ones[-1]


def test_a_trial_that_went_on_is_read_anew() -> None:
    cell = CellCurves((0.5,), 0.0, 100)
    cell.take(0, 0, Observed(1, False), ([0, 1], [2.0, 1.0]))
    assert cell.read(0, (0,)) == [Reading("censored", last_step=1, shortfall=0.5)]
    cell.take(0, 0, Observed(2, False), ([0, 1, 2], [2.0, 1.0, 0.5]))
    (reading,) = cell.read(0, (0,))
    assert (reading.outcome, reading.last_step) == ("reached", 2)


def test_the_same_command_trains_nothing_twice(swept, here: Path, capsys) -> None:
    folder, found = swept
    (here / "runs").mkdir()
    subprocess.run(["cp", "-r", str(folder), "runs/small"], check=True)
    before = curves(read_record(Path("runs/small")))
    n_before = sum(line["record"] == "evaluation" for line in lines(Path("runs/small")))
    assert frontier() == found
    assert "round 1" not in capsys.readouterr().out  # nothing was launched
    assert curves(read_record(Path("runs/small"))) == before
    assert sum(line["record"] == "evaluation" for line in lines(Path("runs/small"))) == n_before


@pytest.mark.long
def test_a_killed_sweep_goes_on_with_the_same_trials(swept, tmp_path: Path) -> None:
    folder, found = swept
    command = [sys.executable, "-m", "sweeps", "-m", "hydra/sweeper=frontier"]
    command += [*STUDY, *SWEPT, *OPTIONS, "hydra.launcher.workers=0"]
    log = tmp_path / "log"
    with log.open("w") as file:
        started = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file)
        deadline = time.monotonic() + 120
        while "round 4" not in log.read_text() and time.monotonic() < deadline:
            assert started.poll() is None, log.read_text()
            time.sleep(0.02)
        started.send_signal(signal.SIGKILL)
        started.wait()
    killed = tmp_path / "runs/small"
    assert not said(killed)
    assert 0 < len(read_record(killed).trials) < len(read_record(folder).trials)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said(killed) == [found]
    assert curves(read_record(killed)) == curves(read_record(folder))


@pytest.mark.long
def test_a_setting_is_one_in_all_rounds_whatever_varies_in_them(here: Path) -> None:
    frontier(swept=["batch_size=8,64", "task.label_noise=0.5,1.0", "seed=range(0,3)"])
    seeds: dict[str, set[str]] = {}
    for line in lines(here / "runs/small"):
        if line["record"] == "trial":
            setting = line["tags"]["setting"]
            assert re.fullmatch(r"B=(8|64) lr=[\d.e-]+ label_noise=(0\.5|1\.0)", setting)
            seeds.setdefault(setting, set()).add(line["name"].removeprefix(f"{setting} seed="))
    assert {"0", "1", "2"} in seeds.values()


def test_the_store_has_the_round_of_each_trial_and_the_tuning_budget(here: Path) -> None:
    coarse = ["hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=1"]
    found = frontier(*coarse, swept=["batch_size=32", "seed=0,1"])
    uri = f"sqlite:///{here}/mlflow.db"
    for _ in range(2):
        Sync(here / "runs/small", Store(uri, "small"), uri).close("", "KILLED")
    with sqlite3.connect("mlflow.db") as store:
        query = "SELECT value, count(*) FROM tags WHERE key = ? GROUP BY value"
        rounds = dict(store.execute(query, ("round",)).fetchall())
        tags = store.execute(query, ("search_rounds",)).fetchall()
        states = store.execute(
            "SELECT DISTINCT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'trial_id'"
        ).fetchall()
    n_trials = sum(cell["n_trials"] for cell in found["cells"])
    assert sum(rounds.values()) == n_trials
    assert len(rounds) == found["rounds"]
    assert tags == [(str(found["rounds"]), 1)]
    assert states == [("FINISHED",)]
    (written,) = here.rglob("artifacts/frontier.json")
    assert json.loads(written.read_text()) == found


@pytest.mark.long
def test_a_finished_search_is_written_where_its_store_lacks_it(here: Path) -> None:
    """As after a kill between its last trial and the end of writing: no round is left to train."""
    coarse = ["hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=1"]
    swept = ["batch_size=32", "seed=0,1"]
    found = frontier(*coarse, swept=swept)
    stored = [*STUDY[:-1], f"tracking.uri=sqlite:///{here}/mlflow.db"]
    assert frontier(*coarse, swept=swept, study=stored)["rounds"] == found["rounds"]
    with sqlite3.connect("mlflow.db") as store:
        query = "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE key = 'trial_id'"
        (n_runs,) = store.execute(query).fetchone()
    assert n_runs == sum(cell["n_trials"] for cell in found["cells"])


@pytest.mark.long
def test_a_failed_trial_ends_the_search_and_the_same_command_goes_on(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "fragile.py", tmp_path)
    command = ["-m", "hydra/sweeper=frontier", "task=custom", "task.path=fragile.Fragile"]
    command += ["+task.options.trouble=mistake", "+task.options.times=1", "batch_size=8"]
    command += ["study.name=small", "tracking.uri=none", "relative_targets=[0.3]"]
    command += ["hydra.launcher.workers=0", "hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=1"]
    failed = sweeps(*command, cwd=tmp_path)
    assert failed.returncode == 1
    assert "a mistake of the user" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not said(tmp_path / "runs/small")
    done = sweeps(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = said(tmp_path / "runs/small")
    assert found["cells"][0]["targets"][0]["reason"] in (
        "interior, of a part of the lr range",
        "bounded by divergence",
    )


def test_a_target_that_nobody_reaches_is_said_and_the_rest_goes_on(here: Path, capsys) -> None:
    few = ["relative_targets=[0.2,1e-6]", "budget.max_steps=100", "hydra.sweeper.give_up_after=6"]
    few += ["hydra.sweeper.lr_ratio=1.5", "hydra.sweeper.stride=2", "hydra.sweeper.lr_range=null"]
    (cell,) = frontier(*few, swept=["batch_size=32", "seed=0,1"])["cells"]
    easy, hard = cell["targets"]
    assert easy["reason"] in ("interior, of a part of the lr range", "bounded by divergence")
    assert (hard["lr"], hard["steps"], hard["reason"]) == (None, None, "not reached")
    assert "lrs: a longer budget or an easier target may help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lr_range", "reason", "advice"),
    [
        ("[5,50]", "everything diverges", "lower hydra.sweeper.lr_range"),
        ("[0.001,0.01]", "at the end of the lr range", "widen hydra.sweeper.lr_range"),
    ],
)
def test_a_range_on_one_side_of_every_divergence(
    lr_range: str, reason: str, advice: str, here: Path, capsys
) -> None:
    found = frontier(
        f"hydra.sweeper.lr_range={lr_range}", "relative_targets=[0.5]", swept=["seed=0,1"]
    )
    (cell,) = found["cells"]
    assert cell["targets"][0]["reason"] == reason
    assert cell["cell"] == "the only cell"
    assert advice in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hydra.sweeper.lr_range=[1,0.1]", "hydra.sweeper.lr_range=[1.0,0.1]: the range is rever"),
        ("hydra.sweeper.lr_range=[1,1]", "hydra.sweeper.lr_range=[1.0,1.0]: the range is empty"),
        ("hydra.sweeper.lr_range=[]", "hydra.sweeper.lr_range=[]: give [lowest, highest]"),
        ("hydra.sweeper.lr_range=[-1,1]", "hydra.sweeper.lr_range=[-1.0,1.0]: give [lowest, hi"),
        ("hydra.sweeper.lr_range=[.101,.102]", "hydra.sweeper.lr_range=[0.101,0.102]: no lr of"),
        ("hydra.sweeper.lr_ratio=1", "hydra.sweeper.lr_ratio=1.0: must be above 1"),
        ("hydra.sweeper.lr_base=0", "hydra.sweeper.lr_base=0.0: must be above 0"),
        ("hydra.sweeper.cap_factor=1", "hydra.sweeper.cap_factor=1.0: must be at least 1.5"),
        ("hydra.sweeper.tune_for=some", "hydra.sweeper.tune_for=some: must be all or hardest"),
        ("relative_targets=[]", "targets=[]: a search requires a target"),
    ],
)
def test_bad_input(override: str, says: str, here: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        frontier(override)
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert not (here / "runs").exists()


def test_lr_is_the_search_s_to_choose_and_seeds_are_whole() -> None:
    def split(given: list[str]) -> None:
        split_swept(given)

    with pytest.raises(ConfigError, match=r"lr=0.1,0.2: hydra/sweeper=frontier chooses lr"):
        split(["lr=0.1,0.2"])
    with pytest.raises(ConfigError, match=r"seed=range\(0,0\): the list of values is empty"):
        split(["seed=range(0,0)"])
    with pytest.raises(ConfigError, match=r"seed=a,b: give whole numbers"):
        split(["seed=a,b"])


def test_a_schedule_that_follows_the_budget_does_not_follow_the_caps(here: Path) -> None:
    frontier("schedule=cosine", "schedule.total_steps=${budget.max_steps}", swept=["batch_size=8"])
    trials = [line for line in lines(here / "runs/small") if line["record"] == "trial"]
    assert {line["params"]["schedule.total_steps"] for line in trials} == {600}
    assert min(line["params"]["budget.max_steps"] for line in trials) < 600


@pytest.mark.long
def test_another_launcher_trains_the_same_search(here: Path) -> None:
    """Hydra's basic one composes each job anew: rounds and caps reach it as added overrides."""
    coarse = ["hydra.sweeper.lr_ratio=2", "hydra.sweeper.stride=1", "hydra/sweeper=frontier"]
    command = ["-m", *STUDY, *coarse, "batch_size=32", "seed=0,1"]
    for folder, launcher in ((here / "a", "stacked"), (here / "b", "basic")):
        folder.mkdir()
        done = sweeps(*command, f"hydra/launcher={launcher}", cwd=folder)
        assert done.returncode == 0, done.stderr
    (found, basic) = (said(here / name / "runs/small")[-1] for name in ("a", "b"))
    assert basic == found
    assert caps(here / "a/runs/small") == caps(here / "b/runs/small")


def caps(folder: Path) -> set[tuple[str, str, int]]:
    """Setting, round and cap of every time that a trial was begun."""
    return {
        (line["name"], line["tags"]["round"], line["params"]["budget.max_steps"])
        for line in lines(folder)
        if line["record"] == "trial"
    }


CUSTOM = ["task=custom", "budget.max_steps=20", "relative_targets=[0.9]", "study.name=small"]
CUSTOM += ["tracking.uri=none", "task.path=tests.scaling.custom_networks.Custom"]


def test_a_search_in_which_nothing_takes_a_step_is_an_error(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        frontier("+task.options.kind=bad_loss", swept=["batch_size=8"], study=CUSTOM)
    assert caught.value.code == 1
    told = capsys.readouterr().err.splitlines()
    [line] = [line for line in told if line.startswith("error: ")]
    assert line.startswith("error: all ")
    assert "diverged at the first step (training loss is not finite): an error of the" in line


@pytest.mark.long
def test_trials_without_a_finite_evaluation_are_searched_and_described(here: Path) -> None:
    """Some seeds begin at infinity: they have diverged, and no curve."""
    unlucky = [*CUSTOM, "+task.options.kind=unlucky"]
    found = frontier(swept=["batch_size=8", "seed=range(0,6)"], study=unlucky)
    record = read_record(here / "runs/small")
    assert any(not one.steps for one in record.trials.values())
    assert found["cells"][0]["n_trials"] == len(record.trials)
    frontier("sweep.dry_run=true", swept=["batch_size=8", "seed=range(0,7)"], study=unlucky)


def test_dry_run_says_the_next_round_and_makes_nothing(tmp_path: Path) -> None:
    done = sweeps(
        *("-m", "hydra/sweeper=frontier", *STUDY, *SWEPT, "sweep.dry_run=true"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("round 1; later rounds depend on it")
    assert "to do            32 trials" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_probe_times_the_cells_of_a_search(tmp_path: Path) -> None:
    small = ["study.name=small", "task.dimension=16", "relative_targets=[0.1]"]
    done = sweeps(
        *("-m", "hydra/sweeper=frontier", *small, *SWEPT, "sweep.probe=true"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for size in (8, 64):
        assert f"batch size {size}, model size 16: " in done.stdout
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.jsonl"))
