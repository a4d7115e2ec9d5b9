"""Reports say where theory ends, each sentence only where the study's params call for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.report.limits import limits
from analysis.report.report import Provenance, Report
from analysis.theory.streaming import stationary_risk
from analysis.topics.noise_floor import noise_floor_frame, plot_noise_floor
from scaling.problem import RegressionProblem, drawn_examples
from tests.analysis.report.test_predictions import study_of

STREAM = {
    "run_id": "a", "task.name": "linear_regression", "task.label_noise": 1.0, "batch_size": 4,
    "last_step": 100, "initial_loss": 3.0, "irreducible_loss": 0.0, "lr": 0.1,
}  # fmt: skip
FIXED = STREAM | {
    "task.name": "finite_regression", "task.sampling": "with_replacement",
    "task.data_examples": 400, "irreducible_loss": 0.5,
}  # fmt: skip
NETWORK = STREAM | {"task.name": "colourization", "train_images": 100}
SUBSETS = FIXED | {"task.sampling": "without_replacement"}


def said(trial: dict, **frames: pd.DataFrame) -> str:
    curves = pd.DataFrame({"run_id": [], "step": [], "loss": []})
    result = study_of(pd.DataFrame([trial]), curves)
    for name, frame in frames.items():
        setattr(result, name, frame)
    return " ".join(limits(result))


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (STREAM | {"task.label_noise": 0.0}, "There is no label noise: gradient noise vanishes"),
        (FIXED | {"irreducible_loss": 1e-15}, "The weights can fit every example"),
        (SUBSETS | {"batch_size": 100}, "up to 25 % of them here"),
        (SUBSETS | {"task.labels": "[1, 2, 3, 4, 5, 6, 7, 8]"}, "up to 50 % of them here"),
        (FIXED | {"last_step": 250}, "up to 2 times"),  # 250 * 4 / 400
        (SUBSETS | {"task.name": "colourization", "task.data_examples": np.nan}, ""),
        (NETWORK, "up to 4 times: held-out losses then also measure generalisation"),
    ],
)
def test_what_the_params_call_for(trial: dict, words: str) -> None:
    assert words in said(trial)


DRAWN = {
    "task.dimension": 4, "task.spectrum_exponent": 1.0, "task.label_noise": 1.0,
    "task.true_weight": 1.0, "task.data_seed": 0, "task.initial_weights": "[0.0]",
    "task.loss_scale": 1.0,
}  # fmt: skip


def test_a_default_that_nothing_used_is_not_taken_for_the_data() -> None:
    """Labels given by hand: the number that was recorded, else theirs, else none."""
    unused = FIXED | DRAWN | {"task.data_examples": 8, "last_step": 250}
    inputs, labels = drawn_examples(8, 4, 1.0, 1.0, 1.0, seed=0)
    floor = np.mean((inputs @ np.linalg.lstsq(inputs, labels)[0] - labels) ** 2)
    drawn = unused | {"initial_loss": np.mean(labels**2), "irreducible_loss": floor}
    assert "up to 125 times" in said(drawn)
    assert said(drawn | {"initial_loss": 3.0}) == ""  # labels too long to be recorded
    assert said(drawn | {"task.labels": "[1.0, 2.0, 3."}) == ""  # or cut
    assert "up to 10 times" in said(drawn | {"initial_loss": 3.0, "train_examples": 100})


@pytest.mark.parametrize(
    "trial",
    [STREAM, NETWORK | {"last_step": 25}, FIXED | {"last_step": 99}, SUBSETS | {"last_step": 99}],
)
def test_nothing_where_theory_holds(trial: dict) -> None:
    assert said(trial) == ""


def test_cells_above_the_largest_stable_lr_are_counted() -> None:
    stability = pd.DataFrame({"batch_size": [4], "largest_stable_lr": [0.2]})
    cells = pd.DataFrame(
        {
            "target_loss": 0.1, "batch_size": 4, "lr": [0.1, 0.3, 0.4, 0.5],
            "outcome": ["reached", "reached", "diverged", "diverged"],
        }
    )  # fmt: skip
    text = said(STREAM, stability=stability, cells=cells)
    assert "3 of 4 cells lie above" in text
    assert text.endswith(
        "eventually grow: 2 diverged, 1 reached the hardest target before they could grow."
    )
    assert said(STREAM, stability=stability, cells=cells.head(1)) == ""


@pytest.fixture(scope="module")
def no_noise(small_study: tuple[pd.DataFrame, pd.DataFrame]) -> StudyResult:
    trials, curves = small_study
    return analyse(trials.assign(**{"task.label_noise": 0.0}), curves, n_bootstrap=5)


def test_the_report_says_it_among_what_to_trust(
    small_result: StudyResult, no_noise: StudyResult
) -> None:
    page = Report(no_noise, Provenance()).page()
    assert "Where theory ends" in page
    assert "There is no label noise" in page
    assert "There is no label noise" not in Report(small_result, Provenance()).page()


def test_noise_floors_are_those_of_theory_and_absent_without_noise(
    small_result: StudyResult, no_noise: StudyResult
) -> None:
    floors = noise_floor_frame(small_result)
    assert set(floors["batch_size"]) == set(small_result.trials["batch_size"])
    problem = RegressionProblem.power_law(16)
    row = floors[floors["batch_size"] == 16].iloc[30].to_dict()
    assert row["noise_floor"] == pytest.approx(stationary_risk(problem, 16, row["lr"]))
    of_size = floors.groupby("batch_size")["noise_floor"]
    assert (of_size.last() > 100 * of_size.first()).all()  # it grows towards the limit
    assert noise_floor_frame(no_noise).empty
    figure = plot_noise_floor(floors, small_result.stability, [0.1])
    assert len(figure.axes[0].lines) == 2 * floors["batch_size"].nunique() + 1
