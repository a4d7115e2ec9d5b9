"""What is known exactly of the trials of a study: which theory holds, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.theory.exact_frontier import (
    COLUMNS,
    CurveReading,
    continuous_lr_frontier,
    same_grid_frontier,
)
from analysis.theory.finite import (
    FiniteProblem,
    finite_losses,
    largest_stable_finite_lr,
    stationary_finite_loss,
)
from analysis.theory.streaming import Floats, exact_risks, largest_stable_lr, stationary_risk
from scaling.problem import RegressionProblem, drawn_examples

STABILITY_COLUMNS = ["batch_size", "largest_stable_lr"]
CURVE_COLUMNS = ["batch_size", "lr", "step", "exact_loss", "noise_floor"]

_STREAMING = ("dimension", "spectrum_exponent", "label_noise", "true_weight", "initial_weight")
_DRAWN = ("data_examples", "dimension", "spectrum_exponent", "label_noise", "true_weight")
_FINITE = (*_DRAWN, "data_seed", "initial_weights", "loss_scale", "sampling")
_EXACT = {"sgd": (), "momentum": ("momentum",), "preconditioned": ("power", "damping")}
_INEXACT = (  # of trials without any theory, unless 0
    *("optimizer.weight_decay", "clip_norm", "evaluation.average_half_life_examples"),
)
_GIVEN = ("inputs", "labels")  # recorded only where they were given
_MOST_NUMBERS = 2e9  # of the second moments over all steps of a finite problem's curves


class Theory(Protocol):
    """What the formulas say at batch sizes and lrs [C]; losses as they are recorded."""

    def losses(self, batch_sizes: Floats, lrs: Floats, n_steps: int) -> Floats | None:
        """Expected held-out loss after 0..n_steps updates, [C, n_steps + 1]; None: too costly."""
        ...

    def floor(self, batch_size: int, lr: float) -> float:
        """The loss at which it settles; inf above the stability limit."""
        ...

    def stable_lr(self, batch_size: int) -> float: ...


@dataclass(frozen=True)
class Streaming:
    """Streaming regression under sgd, heavy-ball momentum or the exact preconditioner, which is
    sgd on another problem: see analysis.theory.streaming and RegressionProblem.preconditioned."""

    problem: RegressionProblem
    momentum: float = 0.0

    def losses(self, batch_sizes: Floats, lrs: Floats, n_steps: int) -> Floats | None:
        return exact_risks(self.problem, batch_sizes, lrs, n_steps, self.momentum)

    def floor(self, batch_size: int, lr: float) -> float:
        return stationary_risk(self.problem, batch_size, lr, self.momentum)

    def stable_lr(self, batch_size: int) -> float:
        return largest_stable_lr(self.problem, batch_size, momentum=self.momentum)


@dataclass(frozen=True)
class Finite:
    """Regression on a fixed data set under sgd: see analysis.theory.finite."""

    problem: FiniteProblem

    def losses(self, batch_sizes: Floats, lrs: Floats, n_steps: int) -> Floats | None:
        rank = len(self.problem.eigenvalues)
        if len(lrs) * n_steps * rank**2 > _MOST_NUMBERS / 4:
            return None
        return finite_losses(self.problem, batch_sizes, lrs, n_steps)

    def floor(self, batch_size: int, lr: float) -> float:
        return stationary_finite_loss(self.problem, batch_size, lr)

    def stable_lr(self, batch_size: int) -> float:
        return largest_stable_finite_lr(self.problem, batch_size)


def theory_of(trials: pd.DataFrame) -> Theory | None:
    """The theory that is exact for all trials of one group; None if no theory is.

    Exact: constant schedule, no weight decay, clipping, averages or groups, one value of every
    param of the task, and either linear_regression under sgd, momentum or preconditioned (one value
    of its numbers), or finite_regression under sgd, with the recorded initial loss that the problem
    has.
    """
    fixed = _fixed(trials, ("task.name", "optimizer.name", "schedule.name"))
    if fixed is None or fixed["schedule.name"] != "constant":
        return None
    for name in _INEXACT:  # a word stands for none, in groups of trials that do not have it
        if name in trials and pd.to_numeric(trials[name], errors="coerce").fillna(0).any():
            return None
    if "param_groups" in trials and trials["param_groups"].dropna().ne("none").any():
        return None
    task, optimizer = fixed["task.name"], fixed["optimizer.name"]
    if task == "linear_regression" and optimizer in _EXACT:
        return _streaming(trials, optimizer)
    if task == "finite_regression" and optimizer == "sgd":
        return _finite(trials)
    return None


def exact_theory(
    trials: pd.DataFrame,
    target_losses: Sequence[float],
    max_steps: int,
    evaluated: ArrayLike | None = None,
) -> pd.DataFrame:
    """Both exact frontiers at the batch sizes and lrs of the trials of one group, read as their
    curves are: at the steps `evaluated` (None: every step), with the trials' tail_factor.

    Columns target_loss, batch_size, lr_choice, steps, lr; no rows where the trials are not of
    streaming regression with an exact theory (see theory_of).
    """
    theory = theory_of(trials)
    if not isinstance(theory, Streaming):
        return pd.DataFrame({name: pd.Series(dtype=float) for name in COLUMNS})
    tried_at = trials.astype({"batch_size": int}).groupby("batch_size")
    tried = {cast(int, size): sorted(set(rows["lr"])) for size, rows in tried_at}
    question = (target_losses, max_steps, theory.momentum)
    read_as = CurveReading(evaluated, _tail_factor(trials))
    frontiers = [
        same_grid_frontier(theory.problem, tried, *question, read_as),
        continuous_lr_frontier(theory.problem, list(tried), *question, read_as),
    ]
    return pd.concat(frontiers, ignore_index=True)


def stability_frame(theory: Theory | None, batch_sizes: Sequence[int]) -> pd.DataFrame:
    """batch_size, largest_stable_lr: above it the expected loss grows without bound."""
    rows = [(size, theory.stable_lr(size)) for size in batch_sizes] if theory else []
    return pd.DataFrame(rows, columns=STABILITY_COLUMNS)


def exact_curves(theory: Theory | None, points: pd.DataFrame, steps: Sequence[int]) -> pd.DataFrame:
    """Expected loss at `steps` of every (batch_size, lr) in points, with the loss it settles at.

    Columns batch_size, lr, step, exact_loss, noise_floor (inf: unstable). No rows without theory.
    """
    wanted = np.asarray(sorted(steps), dtype=int)
    sizes, lrs = points["batch_size"].to_numpy(float), points["lr"].to_numpy(float)
    losses = None
    if theory is not None and len(points) and len(wanted):
        losses = theory.losses(sizes, lrs, int(wanted[-1]))
    if theory is None or losses is None:
        return pd.DataFrame(columns=CURVE_COLUMNS)
    frames = [
        pd.DataFrame(
            {
                "batch_size": int(size),
                "lr": lr,
                "step": wanted,
                "exact_loss": np.where(np.isfinite(row), row, np.nan)[wanted],
                "noise_floor": theory.floor(int(size), lr),
            }
        )
        for size, lr, row in zip(sizes, lrs, losses, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _streaming(trials: pd.DataFrame, optimizer: str) -> Streaming | None:
    values = _fixed(trials, [f"task.{name}" for name in _STREAMING])
    numbers_of = _fixed(trials, [f"optimizer.{name}" for name in _EXACT[optimizer]])
    if values is None or numbers_of is None:
        return None
    parameters = [float(value) for value in numbers_of.values()]
    dimension, *numbers = values.values()
    if not (trials["model_size"] == int(dimension)).all():  # not one that this code trained
        return None
    problem = RegressionProblem.power_law(int(dimension), *map(float, numbers))
    if not _starts_at(trials, problem.initial_risk):
        return None
    if optimizer == "preconditioned":
        return Streaming(problem.preconditioned(*parameters))
    return Streaming(problem, *parameters)


def _finite(trials: pd.DataFrame) -> Finite | None:
    given = [name for name in _GIVEN if f"task.{name}" in trials]
    values = _fixed(trials, [f"task.{name}" for name in (*_FINITE, *given)])
    if values is None:
        return None
    of = {key.removeprefix("task."): value for key, value in values.items()}
    try:
        inputs, labels = _examples(of)
        start = np.asarray(_parsed(of["initial_weights"]), float)
        initial = np.broadcast_to(start, inputs.shape[1:]).copy()
    except ValueError:  # data too long for a param: the store cut them
        return None
    replaced = of["sampling"] == "with_replacement"
    problem = FiniteProblem(inputs, labels, initial, float(of["loss_scale"]), replaced)
    loss = float(problem.loss_scale * np.mean((inputs @ initial - labels) ** 2))
    floor = float(trials["irreducible_loss"].iloc[0])
    return Finite(problem) if _starts_at(trials, loss - floor) else None


def were_given(trials: pd.DataFrame) -> pd.Series:
    """Where the data of finite regression cannot be those that its settings draw: these have
    another initial loss than was recorded, so the store does not have the data that were given."""
    names = [f"task.{name}" for name in _FINITE]
    given = pd.Series(False, trials.index)
    if not {*names, "initial_loss", "irreducible_loss"} <= set(trials):
        return given
    rows = trials.dropna(subset=names)
    for _, alike in rows.groupby([*names, "initial_loss"], sort=False):
        given[alike.index] = _finite(alike) is None
    return given


def _examples(of: dict[str, Any]) -> tuple[Floats, Floats]:
    if pd.notna(of.get("inputs")):
        return np.asarray(_parsed(of["inputs"]), float), np.asarray(_parsed(of["labels"]), float)
    n_examples, dimension, *numbers = (of[name] for name in _DRAWN)
    if int(n_examples) * int(dimension) > _MOST_NUMBERS:
        raise ValueError("more examples than can be drawn again")
    return drawn_examples(
        int(n_examples), int(dimension), *map(float, numbers), seed=int(of["data_seed"])
    )


def _parsed(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text


def _starts_at(trials: pd.DataFrame, excess: float) -> bool:
    return np.allclose(trials["initial_loss"] - trials["irreducible_loss"], excess, rtol=1e-4)


def _tail_factor(trials: pd.DataFrame) -> float:
    """The largest that a trial has; the default where none is recorded."""
    known = trials["tail_factor"].dropna() if "tail_factor" in trials else pd.Series(dtype=float)
    return float(known.max()) if len(known) else CurveReading.tail_factor


def _fixed(trials: pd.DataFrame, names: Sequence[str]) -> dict[str, Any] | None:
    """The one value of each param; None where one is not there, or has several."""
    if any(name not in trials or trials[name].nunique(dropna=False) != 1 for name in names):
        return None
    return {name: trials[name].iloc[0] for name in names}
