"""The critical batch size of a table of steps, as functions for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.fit.critical_batch_size import find_critical_batch_sizes
from analysis.fit.fit_result import FitResult
from analysis.fit.fitting import LIKELIHOOD, OBJECTIVES
from analysis.measure.frontier import frontier_frame, frontier_is_given
from analysis.measure.step_tables import table_groups
from analysis.read.steps import NO_TARGET, checked_steps


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
    if objective not in OBJECTIVES:
        raise AnalysisError(f"objective={objective}: must be one of {', '.join(OBJECTIVES)}")
    table = checked_steps(table, group_by)
    is_named = "target_loss" in table
    fits = Fits()
    for part in table_groups(
        table if is_named else table.assign(target_loss=NO_TARGET),
        group_by,
        n_bootstrap=n_bootstrap,
        seed=seed,
        jointly=jointly,
    ):
        given = frontier_is_given(part.cells)
        frontier = frontier_frame(part.cells, part.draws, part.targets, part.group, given=given)
        fits += find_critical_batch_sizes(
            frontier,
            part.draws,
            part.targets,
            group=part.group,
            n_bootstrap=n_bootstrap,
            rng=part.rng,
            objective=objective,
        )
    if not is_named:
        for fit in fits:
            fit.target_loss = np.nan
    return fits
