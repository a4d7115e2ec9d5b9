"""Regression on data of one's own: what the store keeps of them, what the report says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import analyse
from analysis.read.runs import read_study
from analysis.report.limits import limits
from scaling.config import BudgetConfig
from tests.scaling.trials import finite_task, regression_trial
from tests.sweeps.recorded import record

N_EXAMPLES, N_STEPS, BATCH_SIZE = 150, 60, 5


@pytest.mark.long
@pytest.mark.parametrize("n_examples", [4, N_EXAMPLES])
def test_epochs_count_the_examples_that_were_given(n_examples: int, tmp_path: Path) -> None:
    """Long labels are not recorded; task.data_examples (24) is a setting of drawn data alone."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((n_examples, 3)).round(2)
    labels = (inputs.sum(axis=1) + 0.1).round(2)
    task = finite_task(inputs=inputs.tolist(), labels=labels.tolist())
    trial = regression_trial(
        task=task, batch_size=BATCH_SIZE, budget=BudgetConfig(max_steps=N_STEPS), tail_factor=1e6
    )
    trials, curves = read_study(trial.study.name, record(tmp_path, [trial]))
    assert ("task.labels" in trials) == (n_examples == 4)
    result = analyse(trials, curves, n_bootstrap=2)
    epochs = result.frames["loss_curves"]["epochs"]
    passes = BATCH_SIZE * N_STEPS / n_examples
    assert epochs.max() == pytest.approx(passes)
    assert any(f"up to {passes:,.0f} times" in sentence for sentence in limits(result))
