"""A search that tunes momentum beside lr, end to end: rounds of real trials on a small regression.

The study of tests.sweeps.search.test_frontier, on a coarser lattice.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scaling.record.study import StudyRecord, read_record
from scaling.store.client import Store
from scaling.store.sync import Sync
from scaling.trial import Trial
from sweeps.compose.composer import Composer
from sweeps.compose.launch import compose_jobs, launch
from sweeps.run.jobs import prepare_jobs
from sweeps.run.options import LauncherOptions
from sweeps.search.cells import CellCurves
from sweeps.search.observations import Observed
from sweeps.search.settings import split_swept
from sweeps.search.tuned_keys import TunedKey, start_point
from tests.sweeps.hydra_parts import multirun
from tests.sweeps.search.test_frontier import curves, frontier, lines

MOMENTA = ("0.9", "0", "0.5")
STUDY = [
    "study.name=small", "optimizer=momentum", "task.dimension=8", "relative_targets=[0.1]",
    "budget.max_steps=300", "tracking.uri=none",
]  # fmt: skip
SWEPT = ["batch_size=16", f"optimizer.momentum={','.join(MOMENTA)}", "seed=range(0,2)"]
TUNED = [
    "hydra.sweeper.tuned=[lr,optimizer.momentum]", "hydra.sweeper.lr_ratio=1.5",
    "hydra.sweeper.stride=2", "hydra.sweeper.lr_range=[0.005,0.9]",
]  # fmt: skip
LRS = [float(f"{0.1 * 1.5**k:.6g}") for k in range(-7, 6)]


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
        return folder / "runs/small", frontier(*TUNED, swept=SWEPT, study=STUDY)
    finally:
        os.chdir(before)


def test_finds_what_the_full_grid_has(swept, here: Path) -> None:
    """Every lr, momentum and seed, trained by the grid's launcher to its end."""
    _, found = swept
    with multirun(*STUDY) as (loader, master):
        names = [
            [*STUDY, "batch_size=16", f"optimizer.momentum={momentum}", f"lr={lr}", f"seed={seed}"]
            for momentum, lr, seed in itertools.product(MOMENTA, LRS, (0, 1))
        ]
        master.hydra.sweep.dir = "grid"
        launch(loader, master, names, 0, LauncherOptions())
        trials = prepare_jobs(compose_jobs(Composer(loader, master), names, 0))
        n_steps, fewest = _fewest(trials, read_record(here / "runs/small"))
    (cell,) = found["cells"]
    (target,) = cell["targets"]
    assert target["reason"] in ("interior", "bounded by divergence")
    assert target["steps"] == pytest.approx(fewest, rel=0.02)
    assert cell["trained_steps"] < 0.8 * n_steps


def _fewest(trials: Sequence[Trial], record: StudyRecord) -> tuple[int, float]:
    """All steps that were trained, and the fewest to the target over the settings."""
    first = trials[0]
    cell = CellCurves(first.targets, first.irreducible_loss, first.max_steps)
    for number, trial in enumerate(trials):
        known = record.trials[trial.trial_id]
        if known.diverged_step is None:
            curve = (known.steps, known.losses)
            cell.take(number // 2, number % 2, Observed(known.steps[-1], True), curve)
    whole = [k for k in range(len(trials) // 2) if {(k, 0), (k, 1)} <= set(cell.trials)]
    n_steps = sum(one.last_step for one in cell.trials.values())
    return n_steps, min(cell.read(k, (0, 1))[0].steps for k in whole)


def test_the_best_values_are_said(swept) -> None:
    _, found = swept
    for cell in found["cells"]:
        assert not any("optimizer.momentum" in override for override in cell["overrides"])
        assert cell["n_settings"] > cell["n_lrs"]
        for target in cell["targets"]:
            assert set(target["tuned"]) == {"optimizer.momentum"}
            best = target["tuned"]["optimizer.momentum"]
            assert best in (0.0, 0.5, 0.9)
            ends = {0.0: {"optimizer.momentum": "least"}, 0.9: {"optimizer.momentum": "largest"}}
            assert target["tuned_ends"] == ends.get(best, {})


def test_trials_say_what_is_tuned_and_settings_tell_momenta_apart(swept) -> None:
    folder, _ = swept
    momenta = defaultdict(set)
    for line in lines(folder):
        if line["record"] == "trial":
            assert line["tags"]["tuned"] == '["optimizer.momentum"]'
            momenta[line["tags"]["setting"]].add(line["params"]["optimizer.momentum"])
    assert all(len(values) == 1 for values in momenta.values())
    assert len({value for values in momenta.values() for value in values}) == 3


def test_the_same_command_trains_nothing_twice(swept, here: Path, capsys) -> None:
    folder, found = swept
    shutil.copytree(folder, here / "runs/small")
    before = curves(read_record(Path("runs/small")))
    assert frontier(*TUNED, swept=SWEPT, study=STUDY) == found
    assert "round 1" not in capsys.readouterr().out
    assert curves(read_record(Path("runs/small"))) == before


@pytest.mark.long
def test_a_sweep_of_which_half_is_on_record_asks_the_same(swept, here: Path) -> None:
    """As after a kill: the first journals, which end in the middle."""
    folder, found = swept
    runs = here / "runs/small"
    runs.mkdir(parents=True)
    shutil.copy(folder / "study.json", runs)
    journals = sorted(folder.glob("*.jsonl"))
    for journal in journals[: len(journals) // 2]:
        kept = journal.read_text().splitlines(keepends=True)
        (runs / journal.name).write_text("".join(kept[: len(kept) * 2 // 3]))
    begun = read_record(runs)
    assert 0 < len(begun.trials) < len(read_record(folder).trials)
    assert frontier(*TUNED, swept=SWEPT, study=STUDY) == found
    assert curves(read_record(runs)) == curves(read_record(folder))


@pytest.mark.long
def test_the_store_has_what_was_tuned(swept, here: Path) -> None:
    folder, found = swept
    shutil.copytree(folder, here / "runs/small")
    uri = f"sqlite:///{here}/mlflow.db"
    Sync(here / "runs/small", Store(uri, "small"), uri).close("", "KILLED")
    with sqlite3.connect("mlflow.db") as store:
        query = "SELECT value, count(*) FROM tags WHERE key = 'tuned' GROUP BY value"
        tags = store.execute(query).fetchall()
    n_trials = sum(cell["n_trials"] for cell in found["cells"])
    assert tags == [('["optimizer.momentum"]', n_trials)]


NAMED = "hydra.sweeper.tuned="
MISTAKES = [
    ("[optimizer.momentum]", [], f"{NAMED}[optimizer.momentum]: optimizer.momentum is not swept: "
     "give the values to choose from, optimizer.momentum=value,value,.."),
    ("[optimizer.momentum]", ["optimizer.momentum=0.9"], f"{NAMED}[optimizer.momentum]: optimizer"),
    ("[momentum]", ["optimizer.momentum=0,0.9"], f"{NAMED}[momentum]: momentum is not swept"),
    ("[batch_size]", ["batch_size=8,16"], f"{NAMED}[batch_size]: cannot be tuned: batch sizes"),
    ("[seed]", ["seed=0,1"], f"{NAMED}[seed]: cannot be tuned: seeds are averaged"),
    ("[precision]", ["precision=float32,float64"], "precision=float32,float64: hydra.sweeper.tun"),
    ("[optimizer.momentum]", ["optimizer.momentum=0.9,1.5"], "optimizer.momentum=1.5: must be"),
    ("[task.dimension]", ["task.dimension=8,16"], f"{NAMED}[task.dimension]: cannot be tuned: "),
]  # fmt: skip


@pytest.mark.parametrize(("tuned", "swept", "says"), MISTAKES)
def test_what_cannot_be_tuned(tuned: str, swept: list[str], says: str, here: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        frontier(f"hydra.sweeper.tuned={tuned}", swept=swept, study=STUDY)
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert not (here / "runs").exists()


def test_values_are_in_order_and_the_search_begins_at_the_configuration_s_own(here: Path) -> None:
    given = ["optimizer.momentum=0.95,0,0.9", "batch_size=1,2", "seed=0,1"]
    swept = split_swept(given, tuned=["lr", "optimizer.momentum"])
    (key,) = swept.tuned
    assert key.values == (0.0, 0.9, 0.95)
    assert key.overrides == tuple(f"optimizer.momentum={text}" for text in ("0", "0.9", "0.95"))
    assert swept.cells == [["batch_size=1"], ["batch_size=2"]]
    assert split_swept(given).tuned == ()
    with multirun(*STUDY) as (_, master):
        assert master.optimizer.momentum == 0.9
        assert start_point(swept.tuned, master) == (1,)
        others = TunedKey("optimizer.momentum", (0.1, 0.2, 0.3, 0.4), ())
        assert start_point([others], master) == (1,)  # the middle
