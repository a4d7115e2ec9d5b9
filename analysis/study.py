"""All that a study's trials say, in one object: from tidy frames to frames, fits and caveats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.caveats import Caveat, fold, norm_caveats
from analysis.errors import AnalysisError
from analysis.fit.fitting import LIKELIHOOD, OBJECTIVES, FitResult
from analysis.group_study import GroupResult, Settings, analyse_group, join, measure
from analysis.groups import column_of, prefixed
from analysis.measure.cells import Cell, read_cells
from analysis.measure.targets import choose_targets, early_stop_caveats, targets_sentence
from analysis.measure.model_sizes import Family, families, flops_per_example
from analysis.read.selection import (
    finished_trials,
    floor_of,
    group_columns_of,
    named_groups,
    one_trial_per_seed,
    targets_of,
)
from analysis.fit.compute_frontier import compute_frontier
from analysis.fit.scaling_laws import law_caveats, law_frame
from analysis.measure.step_time import probe_frame, step_time_frame, trial_step_seconds
from analysis.topics.time_to_target import halve_double_frame
from analysis.fit.twice_the_compute import twice_the_compute
from scaling.schema import BATCH_SIZES, LOSSES, REPORT


@dataclass(repr=False)
class StudyResult:
    """The statistics of one study. Group columns (`group_by`) stand in every frame, first.

    cells           target_loss, batch_size, lr, steps, outcome, n_seeds, n_diverged, last_step,
                    steps_lower, steps_upper (the evaluations around the crossing), compared (may be
                    the best of its batch size: see cells.compared)
    frontier        target_loss, batch_size, steps, examples, lr, outcome, lr_at_edge, n_seeds,
                    n_lrs, steps_low, steps_high, lr_low, lr_high (95 % intervals), steps_lower,
                    steps_upper (evaluations around the crossing, or the budget's end), lr_refined
                    (other tuned columns stand after lr in both, with name_at_edge in frontier)
    theory          target_loss, batch_size, lr_choice ("same_grid" | "continuous_lr"), steps, lr
    stability       batch_size, largest_stable_lr: the edge of mean-square stability
    exact_curves    batch_size, lr (the best one), step, exact_loss (expected), noise_floor: all
                    three empty where no theory holds (analysis.theory.trials.theory_of)
    lr_rules        target_loss, rule ("constant" | "linear" | "square_root" | "power" |
                    "saturating" | "surge"), coefficient, lr_max, batch_scale, exponent (each with
                    .._low, .._high), rmse_log_lr, aicc, preferred, shown, reason (why none is
                    preferred): see lr_rules.lr_rule_frame, predict_lr
    fixed_budget    losses_at_examples.BUDGET_COLUMNS: loss (held-out, seed mean) of each batch size
                    after equal examples, and how far it lies above the best one's
    recommendations target_loss, name ("economical" | "balanced" | "fast": the fastest measured in
                    seconds; "fewest_steps" in its place where seconds are not known), batch_size,
                    steps, steps_low, steps_high, examples, examples_low, examples_high, lr, lr_low,
                    lr_high, extrapolated (batch size outside those of the fit: lr clamped)
    fits            one FitResult per group and target, identified or not
    laws            law_fit.LAW_COLUMNS, see scaling_laws.law_frame; in laws over model size the
                    params that measure it are None
    loss_by_size    examples, model_size, loss: least over batch sizes and lrs at equal examples
    compute_frontier, loss_by_compute
                    COMPUTE_COLUMNS and LOSS_COLUMNS, see compute_frontier.ComputeFrontier; of the
                    group params only those that are no measure of size. Empty where FLOPs of an
                    example are not known; flops_counted says how they were counted
    step_time       STEP_TIME_COLUMNS, see step_time.step_time_frame; empty where not measured
    time_to_target  TIME_COLUMNS, batch_size_choices: CHOICE_COLUMNS, see
                    time_to_target.time_to_target_frames; empty where no step was timed
    halve_double    TRADE_COLUMNS, see time_to_target.halve_double_frame
    twice_the_compute
                    TWICE_COLUMNS, see twice_the_compute.twice_the_compute
    about           schema.REPORTS: what the study asks for; LOSSES: no critical batch size
    families        groups that differ in model size alone, by size
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
    laws: pd.DataFrame = field(default_factory=pd.DataFrame)
    loss_by_size: pd.DataFrame = field(default_factory=pd.DataFrame)
    compute_frontier: pd.DataFrame = field(default_factory=pd.DataFrame)
    loss_by_compute: pd.DataFrame = field(default_factory=pd.DataFrame)
    flops_counted: str = "not known"
    step_time: pd.DataFrame = field(default_factory=pd.DataFrame)
    time_to_target: pd.DataFrame = field(default_factory=pd.DataFrame)
    batch_size_choices: pd.DataFrame = field(default_factory=pd.DataFrame)
    halve_double: pd.DataFrame = field(default_factory=pd.DataFrame)
    families: list[Family] = field(default_factory=list)
    tuned: list[str] = field(default_factory=lambda: ["lr"])
    stability: pd.DataFrame = field(default_factory=pd.DataFrame)
    exact_curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    twice_the_compute: pd.DataFrame = field(default_factory=pd.DataFrame)
    about: str = BATCH_SIZES

    def __repr__(self) -> str:
        from analysis.report.display import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from analysis.report.display import as_html

        return as_html(self)


def analyse(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    targets: Sequence[float] | None = None,
    group_by: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    with_theory: bool = True,
    fit_objective: str = LIKELIHOOD,
    tuned: Sequence[str] = ("lr",),
    jointly: bool = False,
) -> StudyResult:
    """Frames of trials and evaluations in, the study's statistics out.

    trials, curves: as analysis.read.runs and analysis.sources read them; only finished trials are
    used.
    targets: absolute held-out losses, default those recorded with the trials, else chosen from the
    curves (analysis.measure.targets). group_by: params that tell groups apart, default every param
    that
    varies besides batch_size, the tuned ones and seed. tuned: what the frontier is minimised over,
    lr and other columns of trials. The same seed gives the same bootstrap. fit_objective: one of
    fitting.OBJECTIVES. jointly: resample the seeds together for all batch sizes, where they share
    initialisation or targets. Raises AnalysisError if nothing can be said: no finished trials, all
    diverged, a target outside (irreducible loss, initial loss), trials that differ in a param not
    grouped by.

    >>> steps = [1, 2, 4, 8, 16, 32, 64, 128]
    >>> frame = pd.DataFrame([
    ...     {"batch_size": size, "lr": 0.1, "step": step, "loss": (1 + 8 / size) / step}
    ...     for size in (1, 4, 16, 64) for step in steps
    ... ])
    >>> from analysis.read.curves import tidy_curves
    >>> result = analyse(*tidy_curves(frame), targets=[0.1], n_bootstrap=10)
    >>> result.frontier["steps"].round(1).tolist()
    [90.0, 30.0, 15.0, 11.3]
    """
    if fit_objective not in OBJECTIVES:
        raise AnalysisError(
            f"fit.objective={fit_objective}: must be one of {', '.join(OBJECTIVES)}"
        )
    warnings: list[str] = []
    used = finished_trials(trials, warnings)
    tuned = [column_of(used, name) for name in tuned]
    if group_by is None:
        names = group_columns_of(trials, used, tuned)
    else:
        names = [column_of(used, name) for name in group_by]
    used = one_trial_per_seed(used, names, warnings, tuned)
    curves = curves[curves["run_id"].isin(used["run_id"])]
    used = used.assign(step_seconds=trial_step_seconds(used, curves))
    cells: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in read_cells(used, curves, names, tuned):
        cells.setdefault(cell.group, []).append(cell)
    if targets is None and not any(used["targets"]):
        targets = _chosen_targets(used, cells, warnings)
    settings = Settings(n_bootstrap, seed, fit_objective, tuple(tuned), jointly, with_theory)
    parts: list[GroupResult] = []
    said: list[tuple[dict[str, Any], Caveat | str]] = []
    probes = probe_frame(trials.attrs.get("probes", ()))
    for index, (key, own_cells) in enumerate(cells.items()):
        group = dict(zip(names, key, strict=True))
        same = [used[name].to_numpy(object) == value for name, value in group.items()]
        rows = used[np.logical_and.reduce(same)] if same else used
        if targets is None and not any(rows["targets"]) and len(cells) > 1:
            warnings.append(prefixed(group, "left out: its trials have no target."))
            continue
        wanted = targets_of(rows, targets, group)
        rng = np.random.default_rng([seed, index])
        measured = measure(group, rows, own_cells, wanted, rng, settings)
        parts.append(analyse_group(group, rows, measured, own_cells, wanted, rng, settings, probes))
        caveats = parts[-1].caveats + early_stop_caveats(
            rows, curves, measured.frontier, measured.one_by_one
        )
        said += [(group, caveat) for caveat in caveats]
    if not parts:
        raise AnalysisError("targets: no trial has any; give targets=[..]")
    scaling = scaling_frames(parts, used, n_bootstrap, seed)
    if about_of(trials) == LOSSES:
        said = []  # all of them are about frontiers and fits
    warnings += fold(said, len(parts)) + norm_caveats(used) + scaling.pop("caveats")
    return join_study(
        str(used["study"].iloc[0]),
        named_groups(trials, names),
        curves,
        names,
        parts,
        warnings,
        tuned,
        scaling,
    )


def join_study(
    study: str,
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    names: list[str],
    parts: list[GroupResult],
    warnings: list[str],
    tuned: Sequence[str],
    scaling: dict[str, Any],
) -> StudyResult:
    return StudyResult(
        study=study,
        trials=trials,
        curves=curves,
        group_by=names,
        targets=sorted({fit.target_loss for part in parts for fit in part.fits}, reverse=True),
        cells=join([part.cells for part in parts]),
        frontier=join([part.frontier for part in parts]),
        theory=join([part.theory for part in parts]),
        fits=[fit for part in parts for fit in part.fits],
        lr_rules=join([part.lr_rules for part in parts]),
        fixed_budget=join([part.fixed_budget for part in parts]),
        recommendations=join([part.recommendations for part in parts]),
        warnings=warnings,
        tuned=["lr", *(name for name in tuned if name != "lr")],
        time_to_target=join([part.time_to_target for part in parts]),
        batch_size_choices=join([part.batch_size_choices for part in parts]),
        stability=join([part.stability for part in parts]),
        exact_curves=join([part.exact_curves for part in parts]),
        about=about_of(trials),
        **scaling,
    )


def about_of(trials: pd.DataFrame) -> str:
    """What the newest sweep of the study says that its report is about."""
    sweeps = trials.attrs.get("sweeps") or [{}]
    return sweeps[0].get(REPORT, BATCH_SIZES)


def scaling_frames(
    parts: list[GroupResult], trials: pd.DataFrame, n_bootstrap: int, seed: int
) -> dict[str, Any]:
    """What takes all groups together: fields of StudyResult, and `caveats`."""
    names = list(parts[0].curves.group)
    fits = [fit for part in parts for fit in part.fits]
    groups = [part.curves for part in parts]
    found = families(groups)
    laws, loss_by_size = law_frame(
        fits,
        groups,
        found,
        join([part.frontier for part in parts]),
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    compute = compute_frontier(found, n_bootstrap=n_bootstrap, seed=seed)
    times = [part.time for part in parts if part.time is not None]
    if compute.laws:
        more = pd.DataFrame(compute.laws, columns=laws.columns)
        laws = pd.concat([laws, more.astype(laws.dtypes[names])], ignore_index=True)
    return {
        "laws": laws,
        "loss_by_size": loss_by_size,
        "compute_frontier": compute.frontier,
        "loss_by_compute": compute.losses,
        "twice_the_compute": twice_the_compute(found, fits, n_bootstrap, seed),
        "step_time": step_time_frame(times, names),
        "halve_double": halve_double_frame(fits, times, names),
        "families": found,
        "flops_counted": flops_per_example(trials)[1],
        "caveats": law_caveats(found, laws),
    }


def _chosen_targets(
    trials: pd.DataFrame, cells: dict[tuple[Any, ...], list[Cell]], warnings: list[str]
) -> list[float]:
    """The same levels for every group, so that groups can be compared."""
    floor, start = floor_of(trials), float(trials["initial_loss"].min())
    below = np.inf if np.isnan(start) else start - floor
    chosen = choose_targets([cell for own in cells.values() for cell in own], below)
    known = trials["irreducible_loss"].notna().all()
    found = [target + floor for target in chosen if target > 0 or not known]
    if not found:
        raise AnalysisError(
            "targets: the curves reach no common level (they hardly fall, or have one evaluation "
            "each); give targets=[...]"
        )
    warnings.append(targets_sentence(found))
    return found
