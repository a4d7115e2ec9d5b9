"""The best learning rate of a single step: found from losses after one step, as theory says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from analysis import StudyResult, analyse
from analysis.groups import select
from analysis.report.predictions import FAILS, HOLDS, NOT_MEASURED, check_predictions
from analysis.theory.finite import FiniteProblem, best_one_step_lr
from analysis.topics.one_step_lr import drawings, has_one_step, one_step_lr_frame, one_step_theory
from analysis.topics.topic import Part
from scaling.problem import drawn_examples
from tests.analysis.report.test_predictions import study_of

N, LRS, SIZES = 8, (0.1, 0.3, 0.6), (1, 4, 8)
SAMPLINGS = ("with_replacement", "without_replacement")
DATA = {
    "task.data_examples": N, "task.dimension": 12, "task.spectrum_exponent": 0.5,
    "task.label_noise": 0.5, "task.true_weight": 1.0, "task.data_seed": 0,
    "task.initial_weights": "[0.5]", "task.loss_scale": 1.0,
}  # fmt: skip
INPUTS, LABELS = drawn_examples(N, 12, 0.5, 0.5, 1.0, seed=0)
START = np.full(12, 0.5)


def loss_of(weights: np.ndarray) -> float:
    return float(np.mean((INPUTS @ weights - LABELS) ** 2))


def one_step_losses(sampling: str, size: int, n_seeds: int, first_seed: int) -> np.ndarray:
    """[n_seeds, n_lrs]: the update written out, the same batch for every lr."""
    losses = []
    for seed in range(first_seed, first_seed + n_seeds):
        random = np.random.default_rng([size, seed])
        if sampling == "with_replacement":
            rows = random.integers(N, size=size)
        else:
            rows = random.permutation(N)[:size]
        errors = INPUTS[rows] @ START - LABELS[rows]
        gradient = 2 * errors @ INPUTS[rows] / size
        losses.append([loss_of(START - lr * gradient) for lr in LRS])
    return np.array(losses)


@cache
def one_step_study(n_seeds: int = 200, first_seed: int = 0, lrs: tuple = LRS) -> StudyResult:
    trials, curves = [], []
    for sampling in SAMPLINGS:
        for size in SIZES:
            losses = one_step_losses(sampling, size, n_seeds, first_seed)
            for (seed, at), loss in np.ndenumerate(losses):
                if LRS[at] not in lrs:
                    continue
                run = f"{sampling}-{size}-{seed}-{at}"
                trials.append(
                    DATA | {
                        "run_id": run, "task.sampling": sampling, "batch_size": size,
                        "lr": LRS[at], "seed": seed, "last_step": 1, "task.name":
                        "finite_regression", "optimizer.name": "sgd", "schedule.name": "constant",
                        "initial_loss": loss_of(START), "irreducible_loss": 0.0,
                    }
                )  # fmt: skip
                curves += [(run, 0, loss_of(START)), (run, 1, loss)]
    frame = pd.DataFrame(curves, columns=["run_id", "step", "loss"])
    return study_of(pd.DataFrame(trials), frame, group_by=["task.sampling"])


SAYS = {
    "says": "so it is", "quantity": "best_one_step_lr", "equals": "theory", "standard_errors": 4,
}  # fmt: skip


def test_measured_best_lrs_are_those_of_theory() -> None:
    table = check_predictions(one_step_study(), [SAYS | {"where": {"batch_size": [1, 4]}}])
    assert table["holds"].tolist() == [HOLDS] * 4
    with_all = one_step_lr_frame(one_step_study()).set_index(["task.sampling", "batch_size"])
    full = with_all.to_dict("index")["without_replacement", N]
    errors = INPUTS @ START - LABELS
    back = INPUTS.T @ errors
    closed = N / 2 * (back @ back) / np.sum((INPUTS @ back) ** 2)
    assert full["lr"] == pytest.approx(closed, rel=1e-12)
    assert full["predicted_lr"] == pytest.approx(closed, rel=1e-12)
    assert with_all.to_dict("index")["with_replacement", N]["lr"] < 0.8 * closed


def test_the_other_sampling_is_told_apart() -> None:
    study = one_step_study()
    swapped = study.trials["task.sampling"].map(dict(zip(SAMPLINGS, SAMPLINGS[::-1], strict=True)))
    wrong = study_of(
        study.trials.assign(**{"task.sampling": swapped}), study.curves, group_by=["task.sampling"]
    )
    table = check_predictions(wrong, [SAYS | {"where": {"batch_size": 4}}])
    assert table["holds"].tolist() == [FAILS] * 2
    assert all("standard errors" in reason for reason in table["reason"])


def test_standard_errors_are_the_scatter_of_repetitions() -> None:
    found = [one_step_lr_frame(one_step_study(40, first)) for first in range(0, 800, 40)]
    size = [frame[frame["batch_size"] == 4] for frame in found]
    lrs = np.array([rows["lr"].to_numpy() for rows in size])
    errors = np.array([rows["standard_error"].to_numpy() for rows in size])
    ratio = lrs.std(axis=0) / errors.mean(axis=0)
    assert ((ratio > 0.6) & (ratio < 1.6)).all(), ratio  # 20 repetitions: 16 %


def test_one_lr_tells_no_parabola() -> None:
    table = check_predictions(one_step_study(2, 0, (0.1,)), [SAYS])
    assert table["holds"].tolist() == [NOT_MEASURED]
    assert "two learning rates" in table["reason"].tolist()[0]


def test_other_settings_have_no_theory() -> None:
    study = one_step_study(3)
    adam = study_of(study.trials.assign(**{"optimizer.name": "adam"}), study.curves)
    table = check_predictions(adam, [SAYS])
    assert set(table["reason"]) == {"no theory is known for it"}


def test_the_figure_shows_its_table_and_the_lines_between() -> None:
    study = one_step_study(20)
    (drawing,) = drawings(
        Part(study, study.frames, [{"task.sampling": name} for name in SAMPLINGS])
    )
    pd.testing.assert_frame_equal(drawing.table, one_step_lr_frame(study))
    (ax,) = drawing.figure.axes
    shown = [np.asarray(line.get_xdata()).tolist() for line in ax.lines]
    assert shown.count(list(SIZES)) >= 2
    lines = one_step_theory(study).groupby("task.sampling")["predicted_lr"]
    problem = FiniteProblem(INPUTS, LABELS, START, with_replacement=False)
    assert lines.last().to_list()[1] == pytest.approx(best_one_step_lr(problem, N))
    assert np.ptp(lines.first()) < 1e-12  # one example: sampled in one way
    many = study_of(study.trials.assign(last_step=2), study.curves, group_by=["task.sampling"])
    assert not has_one_step(many)
    assert has_one_step(study)
    assert select(drawing.table, {"task.sampling": SAMPLINGS[0]})["n_lrs"].eq(3).all()


def test_no_curves_are_drawn_of_a_single_step() -> None:
    study = one_step_study(3)
    trials = study.trials.assign(status="FINISHED", outcome="reached", model_size=12, study="s")
    trials["targets"] = [(1.0,)] * len(trials)
    curves = study.curves.assign(minimum_norm_distance=0.5)
    names = [of.name for of in analyse(trials, curves, targets=[1.0], n_bootstrap=5).drawings()]
    assert names == ["one_step_lr"]
