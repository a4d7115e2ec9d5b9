"""Rules on the command line: the trials are those that one would write, and the report says what
the rule costs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import run, sweeps

COMMON = [
    "task.dimension=8", "relative_targets=[0.2]", "targets=[]", "budget.max_steps=200",
    "study.name=ruled", "seed=0,1", "hydra.launcher.workers=0",
]  # fmt: skip
RULED = ["-m", "rule=sqrt", "rule.batch_size=16", "batch_size=4,16,64", "lr=0.1", *COMMON]
WRITTEN = ["-m", "batch_size=4,16,64", "lr=0.05,0.1,0.2", *COMMON]


def test_trials_under_a_rule_are_not_trained_twice(tmp_path: Path) -> None:
    assert sweeps(*RULED, cwd=tmp_path).returncode == 0
    again = sweeps(*WRITTEN, "sweep.dry_run=true", cwd=tmp_path)
    assert "finished          6 trials" in again.stdout
    assert "to do            12 trials" in again.stdout
    again = sweeps(*RULED, "sweep.dry_run=true", cwd=tmp_path)
    assert "to do             0 trials" in again.stdout


@pytest.mark.long
def test_from_the_sweep_to_the_report(tmp_path: Path) -> None:
    """The trials were trained as a grid before; that a rule asked for them is recorded still."""
    assert sweeps(*WRITTEN, cwd=tmp_path).returncode == 0
    ended = sweeps(*RULED, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    ended = run("analysis", "study=ruled", "n_bootstrap=10", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    regrets = pd.read_csv(tmp_path / "reports/ruled/tables/rule_regret.csv")
    root = regrets[regrets["rule"] == "sqrt"]
    assert root["lr"].tolist() == [0.05, 0.1, 0.2]
    assert set(root["reference_batch_size"]) == {16}
    assert (root["regret"] >= 0).all()
    page = (tmp_path / "reports/ruled/report.html").read_text()
    assert "Rules instead of tuning" in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rule=sqrt"], "rule.batch_size=null: rule=sqrt requires it"),
        (["rule=sqrt", "rule.batch_size=4", "rule.half_life=[beta2]"], "sgd has no beta2"),
        (["hydra/sweeper=frontier", "rule=linear", "rule.batch_size=4"],
         "rule=linear: a search finds the lr of each batch size"),
        (["rule=cube"], "there are constant, linear, none, power, saturating, sqrt"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    ended = sweeps("-m", "batch_size=4,16", *words, cwd=tmp_path)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
