"""Which results of theory do not hold for the trials of a study, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.study import Study
from analysis.theory.epochs import examples_in_data
from scaling.schema import DIVERGED, REACHED

_FINITE, _REGRESSIONS = "finite_regression", ("finite_regression", "linear_regression")
_NOTHING_LEFT = 1e-12  # of the initial loss: the weights fit every example
_FEW_OF_MANY = 0.05  # share of the data in a batch below which sampling hardly matters
_ADVICE = "results for streams, such as the critical batch size, may not hold"


def limits(result: Study) -> list[str]:
    """What of theory does not hold here and why; nothing where all of it does."""
    trials = result.trials
    if "task.name" not in trials:
        return []
    sentences = [_sampling(trials), _interpolation(trials), _instability(result), _epochs(trials)]
    return [sentence for sentence in sentences if sentence]


def _sampling(trials: pd.DataFrame) -> str:
    if "task.sampling" not in trials:
        return ""
    fixed = trials[trials["task.sampling"] == "without_replacement"]
    if fixed.empty:
        return ""
    shares = fixed["batch_size"] / examples_in_data(fixed)
    if shares.max() < _FEW_OF_MANY:
        return ""
    of = f", up to {100 * shares.max():.0f} % of them here" if shares.notna().any() else ""
    return (
        f"Batches without replacement from n examples{of}: gradient noise falls as "
        "(n - B)/(B (n - 1)), not as 1/B, and ends at B = n, so that large batches look better "
        "than on a stream. Each batch is a fresh subset; shuffled epochs differ from both."
    )


def _interpolation(trials: pd.DataFrame) -> str:
    """Regression whose noise dies out with the error."""
    rows = trials[trials["task.name"].isin(_REGRESSIONS)]
    stream = rows["task.name"] != _FINITE
    noiseless = rows.get("task.label_noise", pd.Series(np.nan, rows.index)) == 0
    fitting = rows["irreducible_loss"] <= _NOTHING_LEFT * rows["initial_loss"]
    if not len(rows) or not ((stream & noiseless) | (~stream & fitting)).all():
        return ""
    why = "There is no label noise" if stream.all() else "The weights can fit every example"
    return (
        f"{why}: gradient noise vanishes with the error, a constant learning rate below the "
        "stability limit has no noise floor, and noise scales stay bounded however low the loss."
    )


def _instability(result: Study) -> str:
    """Cells above the largest stable lr, and what became of them."""
    if result.stability.empty or result.cells.empty:
        return ""
    cells = result.cells[result.cells["target_loss"] == result.cells["target_loss"].min()]
    keys = [*result.group_by, "batch_size"]
    both = cells.merge(result.stability, on=keys)
    above = both[both["lr"] > both["largest_stable_lr"]]
    if above.empty:
        return ""
    counts = above["outcome"].value_counts()
    words = {DIVERGED: "diverged", REACHED: "reached the hardest target before they could grow"}
    seen = [f"{counts[kind]} {text}" for kind, text in words.items() if kind in counts]
    return (
        f"{len(above)} of {len(both)} cells lie above the largest stable learning rate, where "
        f"expected losses eventually grow{': ' if seen else ''}{', '.join(seen)}."
    )


def _epochs(trials: pd.DataFrame) -> str:
    """Passes through fixed data."""
    passes = trials["batch_size"] * trials["last_step"] / examples_in_data(trials)
    if not (passes > 1).any():
        return ""
    apart = trials["task.name"].iloc[int(passes.argmax())] != _FINITE
    of = (
        "held-out losses then also measure generalisation"
        if apart
        else "losses are measured on the training data, not on fresh examples"
    )
    return f"Each example is used up to {passes.max():,.0f} times: {of}, and {_ADVICE}."
