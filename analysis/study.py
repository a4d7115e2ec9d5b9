"""All that a study's trials say, in one object: from tidy frames to frames, fits and caveats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.bootstrap import FrontierDraws, draw_frontier
from analysis.caveats import (
    fit_caveats,
    group_label,
    norm_caveats,
    recommendation_caveats,
    trial_caveats,
)
from analysis.critical_batch_size import (
    exact_critical_batch_size,
    find_critical_batch_size,
    stack_draws,
)
from analysis.errors import AnalysisError
from analysis.fitting import FitResult
from analysis.frontier import example_budgets, fixed_budget_frame, frontier_frame, usable
from analysis.lr_rules import lr_rule_frame
from analysis.recommendations import RECOMMENDATION_COLUMNS, recommend
from analysis.selection import finished_trials, one_trial_per_seed, targets_of, varying_params
from analysis.steps_to_target import Cell, cell_frame, read_cells
from analysis.theory import exact_theory

_THEORY_STEPS = 20_000  # at least this many steps of the recursion, whatever the trials' budget


@dataclass
class StudyResult:
    """The statistics of one study. Group columns (`group_by`) stand in every frame, first.

    cells           target_loss, batch_size, lr, steps, outcome, n_seeds, n_diverged, last_step
    frontier        target_loss, batch_size, steps, examples, lr, outcome, lr_at_edge, n_seeds,
                    n_lrs, steps_low, steps_high, lr_low, lr_high
    theory          target_loss, batch_size, lr_choice ("same_grid" | "continuous_lr"), steps, lr
    lr_rules        target_loss, rule ("linear" | "square_root" | "saturating"), coefficient,
                    lr_max, batch_scale, exponent, rmse_log_lr, aicc, preferred
                    linear: coefficient*B, square_root: coefficient*sqrt(B) (exponent 1, 0.5);
                    saturating: lr_max / (1 + batch_scale/B)**exponent; NaN where not of the rule
    fixed_budget    examples, batch_size, loss (held-out, seed mean), lr
    recommendations target_loss, name ("economical" | "balanced" | "fast"), batch_size, steps,
                    steps_low, steps_high, examples, examples_low, examples_high, lr, lr_low,
                    lr_high, extrapolated (batch size outside the sampled ones: lr clamped)
    fits            one FitResult per group and target, identified or not
    """

    study: str
    trials: pd.DataFrame
    curves: pd.DataFrame
    group_by: list[str]
    targets: list[float]
    cells: pd.DataFrame
    frontier: pd.DataFrame
    theory: pd.DataFrame
    fits: list[FitResult]
    lr_rules: pd.DataFrame
    fixed_budget: pd.DataFrame
    recommendations: pd.DataFrame
    warnings: list[str] = field(default_factory=list)


def analyse(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    with_theory: bool = True,
) -> StudyResult:
    """Frames of trials and evaluations in, the study's statistics out.

    trials, curves: as analysis.runs reads them; only finished trials are used. targets: absolute
    held-out losses, default those recorded with the trials. group_by: params that tell groups
    apart, default every param that varies besides batch_size, lr and seed. The same seed gives
    the same bootstrap. Raises AnalysisError if nothing can be said: no finished trials, all
    diverged, a target outside (irreducible loss, initial loss), trials that differ in a param not
    grouped by.
    """
    warnings: list[str] = []
    used = finished_trials(trials, warnings)
    names = varying_params(used) if group_by is None else list(group_by)
    used = one_trial_per_seed(used, names, warnings)
    curves = curves[curves["run_id"].isin(used["run_id"])]
    cells: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in read_cells(used, curves, names):
        cells.setdefault(cell.group, []).append(cell)
    parts: list[_GroupResult] = []
    for index, (key, of_group) in enumerate(cells.items()):
        group = dict(zip(names, key, strict=True))
        same = [used[name].to_numpy(object) == value for name, value in group.items()]
        rows = used[np.logical_and.reduce(same)] if same else used
        if targets is None and not any(rows["targets"]) and len(cells) > 1:
            warnings.append(group_label(group) + "left out: its trials have no target")
            continue
        wanted = targets_of(rows, targets, group)
        rng = np.random.default_rng([seed, index])
        parts.append(_analyse_group(group, rows, of_group, wanted, n_bootstrap, rng, with_theory))
        warnings += [group_label(group) + caveat for caveat in parts[-1].caveats]
    if not parts:
        raise AnalysisError("targets: no trial has any; give targets=[..]")
    warnings += norm_caveats(used)
    return StudyResult(
        study=str(used["study"].iloc[0]),
        trials=trials,
        curves=curves,
        group_by=names,
        targets=sorted({fit.target_loss for part in parts for fit in part.fits}, reverse=True),
        cells=_join([part.cells for part in parts]),
        frontier=_join([part.frontier for part in parts]),
        theory=_join([part.theory for part in parts]),
        fits=[fit for part in parts for fit in part.fits],
        lr_rules=_join([part.lr_rules for part in parts]),
        fixed_budget=_join([part.fixed_budget for part in parts]),
        recommendations=_join([part.recommendations for part in parts]),
        warnings=warnings,
    )


@dataclass
class _GroupResult:
    """StudyResult's frames for one group."""

    cells: pd.DataFrame
    frontier: pd.DataFrame
    theory: pd.DataFrame
    fits: list[FitResult]
    lr_rules: pd.DataFrame
    fixed_budget: pd.DataFrame
    recommendations: pd.DataFrame
    caveats: list[str]


def _analyse_group(
    group: dict[str, Any],
    trials: pd.DataFrame,
    cells: list[Cell],
    targets: list[float],
    n_bootstrap: int,
    rng: np.random.Generator,
    with_theory: bool,
) -> _GroupResult:
    floor, names = float(trials["irreducible_loss"].iloc[0]), list(group)
    draws = _draw(cells, [target - floor for target in targets], n_bootstrap, rng)
    rows = cell_frame(cells, targets, floor, names)
    frontier = frontier_frame(rows, draws, targets, group)
    max_steps = max(_THEORY_STEPS, int(trials["last_step"].max()))
    theory = exact_theory(trials if with_theory else trials.iloc[:0], targets, max_steps)
    optimizer = str(trials["optimizer.name"].iloc[0]) if "optimizer.name" in trials else "sgd"
    fits, rules, advice = [], [], []
    caveats = trial_caveats(rows[rows["target_loss"] == targets[0]], exact=len(theory) > 0)
    for k, target in enumerate(targets):
        points = frontier[frontier["target_loss"] == target]
        fit = find_critical_batch_size(
            points,
            stack_draws(draws, points["batch_size"].tolist(), k),
            group=group,
            target_loss=target,
            n_bootstrap=n_bootstrap,
            rng=rng,
        )
        fit.exact = exact_critical_batch_size(theory[theory["target_loss"] == target], fit)
        fits.append(fit)
        rules.append(lr_rule_frame(usable(points), group, target, optimizer))
        advised = recommend(fit, points)
        advice += advised
        caveats += fit_caveats(fit, points) + recommendation_caveats(advised)
    return _GroupResult(
        cells=rows,
        frontier=frontier,
        theory=theory.assign(**group)[[*names, *theory.columns]],
        fits=fits,
        lr_rules=_join(rules),
        fixed_budget=fixed_budget_frame(cells, floor, example_budgets(frontier), group),
        recommendations=pd.DataFrame(advice, columns=pd.Index([*names, *RECOMMENDATION_COLUMNS])),
        caveats=caveats,
    )


def _draw(
    cells: list[Cell], levels: list[float], n_bootstrap: int, rng: np.random.Generator
) -> dict[int, FrontierDraws]:
    """The bootstrap of every batch size, each with its own random stream."""
    of_size: dict[int, list[Cell]] = {}
    for cell in cells:
        of_size.setdefault(cell.batch_size, []).append(cell)
    return {
        size: draw_frontier(tried, levels, n_bootstrap, child)
        for (size, tried), child in zip(of_size.items(), rng.spawn(len(of_size)), strict=True)
    }


def _join(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows; an empty frame with the columns if there are none."""
    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else frames[0]
