"""A study of final losses end to end: the search, its record, and what may not be asked of it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from analysis.theory.streaming import exact_final_risks
from scaling.config import ScheduleConfig
from scaling.limits import ConfigError
from scaling.problem import RegressionProblem
from scaling.record.study import read_record
from scaling.schedules import lr_factor
from scaling.trial import prepare
from sweeps.run import final_losses
from sweeps.run.final_losses import check_final_losses
from tests.scaling.test_final_losses import final_trial
from tests.sweeps.search.test_frontier import frontier, here, lines

__all__ = ["here"]  # a fixture
STUDY = [
    "study.name=small",
    "study.report=final_losses",
    "task.dimension=16",
    "relative_targets=[]",
    "schedule=linear",
    "budget.max_steps=null",
    "evaluation.every_step_until=1",
    "evaluation.ratio=2",
    "tracking.uri=none",
    "hydra.sweeper.tune_for=final_loss",
    "hydra.sweeper.lr_ratio=1.41",
    "hydra.sweeper.stride=2",
]
WIDE = "hydra.sweeper.lr_range=[0.02,4]"
SWEPT = ["batch_size=8,32", "budget.max_examples=256,1024", "seed=range(0,4)"]


def exact_best(batch_size: int, examples: int, lr_ratio: float) -> tuple[float, float]:
    """lr and expected loss of the best one of a lattice, at the end of a linear decay."""
    lrs = 0.1 * lr_ratio ** np.arange(-4.0, 11.0)
    steps = examples // batch_size
    schedule = ScheduleConfig("linear", 0, steps)
    factors = [lr_factor(schedule, step) for step in range(1, steps + 1)]
    risks = exact_final_risks(RegressionProblem.power_law(16), batch_size, lrs, factors)
    return float(lrs[risks.argmin()]), float(risks.min())


@pytest.mark.long
def test_the_search_finds_the_exact_best_lr(here: Path, capsys: pytest.CaptureFixture) -> None:
    """Within a step of the lattice of the exact optimum, whose loss 4 seeds leave uncertain. Each
    trial is trained once, to the end of its budget; started again, nothing is."""
    found = frontier(WIDE, study=STUDY, swept=SWEPT)
    assert len(found["cells"]) == 4
    for cell in found["cells"]:
        size, examples = (int(word.split("=")[1]) for word in cell["cell"].split())
        lr, loss = exact_best(size, examples, 1.41)
        best = cell["final_loss"]
        assert best["reason"] in ("interior", "bounded by divergence")
        assert abs(np.log(best["lr"] / lr)) < 1.5 * np.log(1.41)
        assert best["loss"] == pytest.approx(loss, rel=0.8)
        assert cell["trained_steps"] <= cell["n_trials"] * examples // size
    record = read_record(here / "runs/small")
    ends = {one.steps[-1] for one in record.trials.values() if one.diverged_step is None}
    assert ends == {8, 32, 128}  # 256/32, 256/8 = 1024/32, 1024/8
    before = [line for line in lines(here / "runs/small") if line["record"] == "trial"]
    assert frontier(WIDE, study=STUDY, swept=SWEPT)["cells"] == found["cells"]
    after = [line for line in lines(here / "runs/small") if line["record"] == "trial"]
    assert len(after) == len(before) == len(record.trials)
    out = capsys.readouterr().out
    assert "batch_size=8 budget.max_examples=256: final loss" in out


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hydra.sweeper.tune_for=all", "hydra.sweeper.tune_for=all: a study of final losses is"),
        ("study.report=batch_sizes", "hydra.sweeper.tune_for=final_loss: requires study.report=fi"),
        ("schedule=constant", "schedule.name=constant: does not end with the budget"),
        (
            "hydra.sweeper.tuned=[lr,task.dimension]",
            "hydra.sweeper.tuned=[lr,task.dimension]: tune_for=final_loss tunes lr alone",
        ),
    ],
)
def test_what_contradicts_itself_is_one_line(
    override: str, says: str, here: Path, capsys: pytest.CaptureFixture
) -> None:
    key = override.partition("=")[0]
    kept = [one for one in STUDY if one.partition("=")[0] != key]
    dimensions = ["task.dimension=8,16"] if "dimension" in override else []
    with pytest.raises(SystemExit):
        frontier(override, study=kept, swept=[*SWEPT, *dimensions])
    assert capsys.readouterr().err.startswith(f"error: {says}")
    assert not (here / "runs").exists()


def test_a_schedule_that_does_not_decay_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    final_losses._say_once.cache_clear()
    constant = prepare([final_trial(schedule=ScheduleConfig())])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            check_final_losses(constant)
        check_final_losses(prepare([final_trial()]))
    assert [line.split(":")[0] for line in caplog.messages] == ["schedule.name=constant"]


def test_a_total_of_its_own_is_one_trial_for_all_budgets() -> None:
    fixed = ScheduleConfig("linear", 0, 100)
    trials = [final_trial(schedule=fixed, max_steps=steps) for steps in (100, 200)]
    with pytest.raises(ConfigError, match="runs of several budgets are one run"):
        check_final_losses(prepare(trials))
    check_final_losses(prepare([final_trial(max_steps=steps) for steps in (100, 200)]))
