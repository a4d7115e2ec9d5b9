"""The critical batch size of a table of steps: the whole chain as functions for notebooks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.fit.critical_batch_size import find_critical_batch_size
from analysis.fit.fitting import LIKELIHOOD, OBJECTIVES, FitResult
from analysis.measure.bootstrap import stack_draws
from analysis.measure.frontier import frontier_frame
from analysis.measure.step_tables import (
    BOUNDS,
    complete_table,
    draw_table,
    frontier_is_given,
    group_tables,
    table_cells,
)
from scaling.schema import CENSORED, DIVERGED, REACHED

_NEEDED = ("batch_size", "steps")
_OPTIONAL = ("target_loss", "lr", "seed", "outcome", *BOUNDS)


class Fits(list[FitResult]):
    """Several FitResults that display as one."""

    def __repr__(self) -> str:
        return "\n\n".join(repr(fit) for fit in self)

    def _repr_html_(self) -> str:
        return "".join(fit._repr_html_() for fit in self)


def fit_critical_batch_size(
    table: pd.DataFrame, *, objective: str = LIKELIHOOD, n_bootstrap: int = 1000, seed: int = 0
) -> FitResult:
    """Fit S(B) = S_min + E_min/B to a table of steps to one target.

    table, a row per trial or published value: batch_size (examples), steps (optimizer updates to
    the target), and optionally lr, seed, outcome (reached, censored, diverged), steps_lower and
    steps_upper (the evaluations around the crossing). A censored row's steps are where its budget
    ended. Without lr the frontier is taken as given; with several lrs per batch size the least
    steps over lr count, and a best lr at the end of its range is left out. objective: "likelihood"
    (censored rows are lower bounds) or "log_steps" (least squares, reached rows only). Intervals:
    bootstrap over seeds from 3 seeds on, else from the residuals (FitResult.approximate_ci).
    Raises AnalysisError for a table that cannot be read so. Source: McCandlish et al. 2018,
    arXiv:1812.06162, equation 2.11.

    >>> table = pd.DataFrame({"batch_size": [8, 32, 128, 512, 2048],
    ...                       "steps": [461, 146, 65.6, 46.8, 41.5]})
    >>> fit = fit_critical_batch_size(table)
    >>> round(fit.critical_batch_size), round(fit.min_steps), fit.approximate_ci
    (84, 40, True)
    """
    fits = fit_critical_batch_sizes(table, objective=objective, n_bootstrap=n_bootstrap, seed=seed)
    if len(fits) != 1:
        raise AnalysisError(
            f"target_loss: the table has {len(fits)} targets; use fit_critical_batch_sizes"
        )
    return fits[0]


def fit_critical_batch_sizes(
    table: pd.DataFrame,
    *,
    group_by: Sequence[str] = (),
    objective: str = LIKELIHOOD,
    n_bootstrap: int = 1000,
    seed: int = 0,
    jointly: bool = False,
) -> Fits:
    """A fit for each group (columns group_by) and target_loss of a table of steps.

    Columns as fit_critical_batch_size, with target_loss. jointly: resample the seeds together for
    all batch sizes (where they share initialisation or targets) instead of for each.

    >>> sizes = np.geomspace(4, 2048, 10).round()
    >>> table = pd.concat([
    ...     pd.DataFrame({"model": name, "batch_size": sizes, "steps": 40 + examples / sizes})
    ...     for name, examples in (("small", 3360.0), ("large", 8000.0))])
    >>> fits = fit_critical_batch_sizes(table, group_by=["model"])
    >>> [(fit.group["model"], round(fit.critical_batch_size)) for fit in fits]
    [('large', 200), ('small', 84)]
    """
    check_table(table, group_by, objective)
    fits = Fits()
    for index, (group, own) in enumerate(group_tables(complete_table(table), group_by)):
        rng = np.random.default_rng([seed, index])
        targets = sorted(own["target_loss"].unique(), reverse=True)
        label = own["target_loss"].fillna(0.0)  # no column: one target without a name
        levels = sorted(label.unique(), reverse=True)
        named = own.assign(target_loss=label)
        draws = draw_table(named, levels, n_bootstrap, rng, jointly=jointly)
        given = frontier_is_given(named)
        frontier = frontier_frame(table_cells(named), draws, levels, group, given=given)
        for k, (level, target) in enumerate(zip(levels, targets, strict=True)):
            points = frontier[frontier["target_loss"] == level]
            fits.append(
                find_critical_batch_size(
                    points,
                    stack_draws(draws, points["batch_size"].tolist(), k),
                    group=group,
                    target_loss=float(target),
                    n_bootstrap=n_bootstrap,
                    rng=rng,
                    objective=objective,
                )
            )
    return fits


def check_table(table: pd.DataFrame, group_by: Sequence[str], objective: str) -> None:
    """Raise AnalysisError for what cannot be a table of steps."""
    if objective not in OBJECTIVES:
        raise AnalysisError(f"objective={objective}: must be one of {', '.join(OBJECTIVES)}")
    for name in (*_NEEDED, *group_by):
        if name not in table:
            near = difflib.get_close_matches(name, [str(column) for column in table.columns], 1)
            hint = f"; did you mean {near[0]}" if near else ""
            columns = ", ".join(map(str, table.columns))
            raise AnalysisError(f"column {name} is missing; there are {columns}{hint}")
    if table.empty:
        raise AnalysisError("the table is empty; it needs a row for each batch size")
    if "target_loss" in table and table["target_loss"].isna().any():
        raise AnalysisError("target_loss: some rows have none; name the target of every row")
    for name in _NEEDED:
        _check_positive(table, name)
    _check_whole(table)
    if "outcome" in table:
        unknown = set(table["outcome"].dropna()) - {REACHED, CENSORED, DIVERGED}
        if unknown:
            words = ", ".join((REACHED, CENSORED, DIVERGED))
            raise AnalysisError(f"outcome={sorted(map(str, unknown))[0]}: must be one of {words}")
    keys = [
        name for name in (*group_by, *_NEEDED[:1], "target_loss", "lr", "seed") if name in table
    ]
    twice = table[table.duplicated(keys)]
    if len(twice):
        first = ", ".join(f"{name}={twice[name].iloc[0]}" for name in keys)
        raise AnalysisError(f"two rows for {first}; tell them apart by a column seed or group_by")


def _check_positive(table: pd.DataFrame, name: str) -> None:
    values = pd.to_numeric(table[name], errors="coerce")
    needed = pd.Series(True, index=table.index)
    if name == "steps" and "outcome" in table:
        needed = table["outcome"] != DIVERGED
    wrong = needed & ~((values > 0) & np.isfinite(values))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise AnalysisError(
            f"{name}: row {row} has {table[name].iloc[row]!r}; it must be a number above 0"
        )


def _check_whole(table: pd.DataFrame) -> None:
    sizes = table["batch_size"].to_numpy(float)
    if (sizes != sizes.round()).any():
        row = int(np.flatnonzero(sizes != sizes.round())[0])
        raise AnalysisError(
            f"batch_size: row {row} has {sizes[row]:g}; give whole numbers of examples (or tokens)"
        )
