"""Names of earlier versions: still taken, said once, and no trial on record becomes another one."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scaling.config import say_renamed, trial_config
from scaling.optimizers.config import CustomOptimizerConfig, OptimizerConfig
from scaling.tasks.config import CustomTaskConfig, TaskConfig
from scaling.trial import prepare
from tests.command_line import sweeps
from tests.scaling.trials import regression_trial

PROBLEM = """import numpy as np
from torch import nn


class Line:
    def __init__(self, slope: float = 1.0) -> None:
        inputs = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
        self.train = self.held_out = (inputs, slope * inputs)

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def loss(self, outputs, targets):
        return ((outputs - targets) ** 2).mean()
"""
GOOD = regression_trial(relative_targets=[0.5], batch_size=16)
LINE = CustomTaskConfig(path="pinned_problem.Line", options={"slope": 2.0})
ADAGRAD = CustomOptimizerConfig(path="torch.optim.Adagrad", options={"lr_decay": 0.01})
STUDY = """# @package _global_
defaults: [override /task: own, override /optimizer: own, _self_]
study: {name: old}
task: {path: pinned_problem.Line}
optimizer: {path: torch.optim.Adagrad}
relative_targets: [0.5]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pinned_problem.py").write_text(PROBLEM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pinned_problem", raising=False)
    say_renamed.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("task", "optimizer", "trial_id", "stack_key"),
    [
        (LINE, GOOD.optimizer, "5523e715bc3c67a1", "b5f620f056bb1b6c"),
        (GOOD.task, ADAGRAD, "463bf4731e2913f6", "7df1e7223f660a23"),
    ],
)
def test_identities_are_those_of_records_that_say_own(
    task: TaskConfig, optimizer: OptimizerConfig, trial_id: str, stack_key: str, folder: Path
) -> None:
    config = replace(GOOD, task=task, optimizer=optimizer)
    [trial] = prepare([config])
    assert (trial.trial_id, trial.stack_key) == (trial_id, stack_key)


def test_a_recorded_configuration_is_read_and_said_once(folder: Path) -> None:
    config = replace(GOOD, task=LINE)
    content = asdict(config)
    content["task"]["name"] = "own"
    with pytest.warns(FutureWarning, match=r"^task=own is now called task=custom$"):
        assert trial_config(content) == config
    assert trial_config(content) == config


def test_the_command_line_and_files_may_say_own(folder: Path) -> None:
    (folder / "mine" / "study").mkdir(parents=True)
    (folder / "mine" / "study" / "old.yaml").write_text(STUDY)
    dry = ["sweep.dry_run=true", "tracking.uri=none"]
    by_file = sweeps("--config-dir", "mine", "study=old", *dry, cwd=folder)
    lines = [
        f"warning: {group}=own is now called {group}=custom" for group in ("task", "optimizer")
    ]
    assert (by_file.returncode, by_file.stderr.splitlines()) == (0, lines)
    words = ["task=own", "task.path=pinned_problem.Line", "relative_targets=[0.5]", "lr=0.1,0.2"]
    by_word = sweeps("-m", *words, *dry, cwd=folder)
    assert (by_word.returncode, by_word.stderr.splitlines()) == (0, lines[:1])
    unknown = sweeps("task=ownn", cwd=folder)
    assert unknown.stderr.endswith(
        "there are colourization, custom, finite_regression, language_model, linear_regression\n"
    )
