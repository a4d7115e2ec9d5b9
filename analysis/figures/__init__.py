"""The report's figures: frames and fits in, matplotlib figures out, each with its table. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.figures.critical import plot_critical_batch_size
from analysis.figures.curves import plot_fixed_budget, plot_loss_curves
from analysis.figures.drawing import Drawing
from analysis.figures.drawn import MOST_GROUPS, drawn_groups
from analysis.figures.frontier import plot_pareto_front, plot_steps_against_batch_size
from analysis.figures.learning_rate import plot_best_lr, plot_lr_heat_map
from analysis.figures.noise_floor import plot_noise_floor
from analysis.figures.noise_scale import plot_noise_scale
from analysis.figures.one_step import draw_one_step
from analysis.figures.overlaid import (
    plot_overlaid_curves,
    plot_overlaid_lr,
    plot_overlaid_steps,
)
from analysis.figures.predicted import plot_metric, plot_weight_paths
from analysis.figures.residuals import plot_residuals
from analysis.figures.scaling import draw_scaling
from analysis.figures.search import plot_search
from analysis.figures.weight_decay import draw_weight_decay
from analysis.read.steps import NO_TARGET
from analysis.report import tables
from analysis.study import StudyResult
from analysis.fit.lr_rules import rule_words
from analysis.topics.noise_scale import KINDS
from analysis.topics.one_batch_size import is_about_losses
from analysis.topics.one_step_lr import has_one_step
from scaling.schema import target_label

__all__ = ["Drawing", "draw"]


def draw(result: StudyResult, most_groups: int = MOST_GROUPS) -> Iterator[Drawing]:
    """Every figure of a study, group by group; what has no data is not drawn.

    Of more than most_groups groups those of drawn_groups have figures.
    """
    all_tables = tables.tables(result)
    groups = drawn_groups(result, most_groups)
    if has_one_step(result):  # no curves to draw
        yield from draw_one_step(result, groups)
        return
    yield from _draw_predicted(result, groups)
    yield from draw_weight_decay(result)
    if is_about_losses(result):
        yield from _draw_outcomes(result, all_tables["loss_curves"], groups)
        return
    several = len(groups) > 1
    if several:
        if len(result.families) > 1:  # else they differ in model size alone, which has its own
            yield from _draw_together(result, all_tables, groups)
        yield from draw_scaling(result, all_tables, groups)
        yield from _draw_critical(result, all_tables, groups)
    for group in groups:
        for drawing in _draw_group(result, all_tables, group):
            if group:
                drawing.group = tables.group_label(group)
                drawing.name += f"_{tables.file_name(drawing.group)}"
                drawing.title += f" ({drawing.group})"
            yield drawing
    if not several:
        yield from draw_scaling(result, all_tables, groups)
        yield from _draw_critical(result, all_tables, groups)


_DISTANCES = {
    "minimum_norm_distance": "distance to the minimum-norm solution / its length",
    "row_space_residual": "share of w outside the row space of X",
}


def _draw_predicted(result: StudyResult, groups: list[dict[str, Any]]) -> Iterator[Drawing]:
    """What only tasks measure whose answer is known on paper; all batch sizes of a group."""
    curves = result.curves
    if not {"weight_1", *_DISTANCES} & set(curves):
        return
    series = []
    for group in groups:
        runs = tables.select(result.trials, group)["run_id"]
        name = tables.group_label(group) or "all trials"
        series.append((name, curves[curves["run_id"].isin(runs)]))
    example = [f"task.{name}" for name in ("inputs", "labels")]
    one_example = set(example) <= set(result.trials) and "weight_1" in curves
    texts = result.trials[example].drop_duplicates().to_numpy() if one_example else []
    if len(texts) == 1 and len(json.loads(texts[0][1])) == 1:
        yield Drawing(
            "weight_paths",
            "Paths of the two weights",
            "Each marker is a step, the first dozen of them. Every point of the solid line fits "
            "the example; gradients are multiples of x, so what follows them stays on span(x).",
            plot_weight_paths(series, *texts[0]),
            "curves",
            curves[["run_id", "step", "loss", "weight_1", "weight_2"]],
        )
    for metric, label in _DISTANCES.items():
        if metric in curves and (curves[metric] > 0).any():
            yield Drawing(
                f"{metric}_against_steps",
                f"{label[0].upper()}{label[1:]}",
                "A line a trial, a colour a group; batch sizes of a group share its colour.",
                plot_metric(series, metric, label),
                "curves",
                curves[["run_id", "step", metric]],
            )


def _draw_outcomes(
    result: StudyResult, curves: pd.DataFrame, groups: list[dict[str, Any]]
) -> Iterator[Drawing]:
    """Of studies of losses: those of all groups in one figure."""
    series = [
        (tables.group_label(group) or "all trials", tables.select(curves, group))
        for group in groups
    ]
    what = "Mean over the seeds, at the learning rate that ends lowest; the band spans the seeds"
    if result.frontier["batch_size"].nunique() > 1:
        what += "; batch sizes of a group share its colour"
    for y, more in (("loss", ", dotted lines are the targets"), ("accuracy", "")):
        if y in curves and curves[y].notna().any():
            targets = result.targets if y == "loss" else ()
            yield Drawing(
                f"{y}_against_steps",
                f"Held-out {y} against steps",
                f"{what}{more}.",
                plot_overlaid_curves(series, y, targets),
                "loss_curves",
                curves,
            )


def _draw_together(
    result: StudyResult, all_tables: dict[str, pd.DataFrame], groups: list[dict[str, Any]]
) -> Iterator[Drawing]:
    """S(B) and the best lr of all groups, at the headline's target of each."""
    steps = all_tables["steps_by_batch_size"]
    series = []
    for group in groups:
        fit = tables.headline_fit(result, group)
        if fit is not None:
            own = tables.select(steps, group | {"target_loss": fit.target_loss})
            series.append((tables.group_label(group), own, fit))
    if not any(own["steps"].notna().any() for _, own, _ in series):
        return
    targets = {fit.target_loss for _, _, fit in series}
    to = f"target {targets.pop():.3g}" if len(targets) == 1 else "each group's own target"
    hollow = "hollow points lie at the edge of the tried learning rates"
    yield Drawing(
        "steps_against_batch_size_of_all",
        f"Steps to {to} against batch size, all groups",
        f"Points with 95 % intervals, fits with their bands; {hollow}. "
        "Upright strokes mark the critical batch sizes.",
        plot_overlaid_steps(series),
        "steps_by_batch_size",
        steps,
    )
    if any(own["lr"].notna().any() for _, own, _ in series):
        yield Drawing(
            "best_lr_against_batch_size_of_all",
            f"Best learning rate for {to}, all groups",
            f"Bars are 95 % intervals; {hollow}.",
            plot_overlaid_lr([(label, own) for label, own, _ in series]),
            "best_lr",
            all_tables["best_lr"],
        )


def _draw_critical(
    result: StudyResult, all_tables: dict[str, pd.DataFrame], groups: list[dict[str, Any]]
) -> Iterator[Drawing]:
    table = all_tables["critical_batch_size"]
    bounds = ["min_examples/min_steps", "at_least", "at_most"]
    unnamed = result.curves.empty and (table["target_loss"] == NO_TARGET).all()
    if len(table) and not unnamed and table[bounds].notna().any(axis=None):
        labelled = [(tables.group_label(g), tables.select(table, g)) for g in groups]
        shown = pd.concat([own for _, own in labelled], ignore_index=True)
        yield Drawing(
            "critical_batch_size_against_target",
            "Critical batch size against target",
            "The batch size at which a target costs twice the fewest steps and twice the fewest "
            "examples. Bars are 95 % intervals; hollow arrows are one-sided (the sampled batch "
            "sizes do not bend the curve). Other definitions and, where the theory is exact, the "
            "true values stand beside the estimate.",
            plot_critical_batch_size(shown, labelled, _target_laws(result, groups)),
            "critical_batch_size",
            table,
        )


def _target_laws(result: StudyResult, groups: list[dict[str, Any]]) -> list[pd.DataFrame]:
    """Of each group: the laws of B_crit in the target."""
    own = result.laws[result.laws["x"] == "target_loss"] if len(result.laws) else result.laws
    return [tables.select(own, group) for group in groups]


def _draw_group(
    result: StudyResult, all_tables: dict[str, pd.DataFrame], group: dict[str, Any]
) -> Iterator[Drawing]:
    fits = [fit for fit in result.fits if fit.group == group]
    own = {name: tables.select(all_tables[name], group) for name in all_tables}
    steps = own["steps_by_batch_size"]
    if steps["steps"].notna().any():
        yield Drawing(
            "steps_against_batch_size",
            "Steps to target against batch size",
            "Each point is the fewest steps over all learning rates. In A (noise dominated) a "
            "batch twice as large halves the steps; in B (curvature dominated) it hardly saves "
            "any; C is the knee, around the critical batch size. Regimes and the dotted line of "
            "perfect scaling belong to the target that the answer speaks of.",
            plot_steps_against_batch_size(steps, fits),
            "steps_by_batch_size",
            steps,
        )
        yield Drawing(
            "pareto_front",
            "Steps against examples",
            "What a target costs in time (steps) and in compute (examples); numbers are batch "
            "sizes, the crosses mark the fewest of both, which no batch size reaches together.",
            plot_pareto_front(steps, fits),
            "steps_by_batch_size",
            steps,
        )
    residuals = own["residuals"]
    if residuals["log_residual"].notna().any():
        yield Drawing(
            "residuals",
            "Residuals of the fit",
            "How far log S lies from the fitted hyperbola. A pattern (an arch, a wave) means that "
            "the shape does not fit; scatter within the 95 % intervals is noise between seeds.",
            plot_residuals(residuals),
            "residuals",
            residuals,
        )
    targets = sorted(fit.target_loss for fit in fits)
    yield from _draw_lrs(own, targets)
    yield from _draw_losses(own, targets)
    yield from _draw_noise_floor(own, targets)
    yield from _draw_noise_scale(own)


def _draw_lrs(own: dict[str, pd.DataFrame], targets: list[float]) -> Iterator[Drawing]:
    best, cells = own["best_lr"], own["steps_by_lr"].dropna(subset="lr")
    if cells.empty:  # tables of steps that do not say at which lr
        return
    for i, target in enumerate(targets):
        rules = own["lr_rules"][own["lr_rules"]["target_loss"] == target]
        if (best.loc[best["target_loss"] == target, "lr"].notna()).any():
            yield Drawing(
                "best_lr_against_batch_size" + (f"_{target_label(target)}" if i else ""),
                f"Best learning rate against batch size, target {target:.3g}",
                "The learning rate that reached the target in the fewest steps, with its 95 % "
                "interval (never narrower than half the spacing of the grid), and the rules "
                f"fitted to it.{' ' + said if (said := rule_words(rules)) else ''}",
                plot_best_lr(best, rules, own["theory"], target),
                "best_lr",
                best,
                folded=i > 0,
            )
    known = len(own["stability"]) > 0
    for i, target in enumerate(targets if cells["lr"].notna().any() else []):
        yield Drawing(
            "steps_by_lr_and_batch_size" + (f"_{target_label(target)}" if i else ""),
            f"Steps to target {target:.3g} by learning rate and batch size",
            "Bright is fast. Hatched cells never got there: their training diverged, or its budget "
            "ran out first; blank ones were not tried." + (_STABILITY if known else ""),
            plot_lr_heat_map(
                cells[cells["target_loss"] == target],
                own["steps_by_batch_size"].query("target_loss == @target"),
                own["stability"],
            ),
            "steps_by_lr",
            cells[cells["target_loss"] == target].reset_index(drop=True),
            folded=i > 0,
        )
    if len(own["search"]):
        yield Drawing(
            "search",
            "How the sweep decided",
            "Every learning rate that the search tried, and in which round: first wide apart with "
            "few seeds, then ever closer around the best, there with all seeds. Only those with "
            "all seeds are compared.",
            plot_search(own["search"], own["steps_by_batch_size"]),
            "search",
            own["search"],
        )


_STABILITY = (
    " Red: the largest stable learning rate by the exact theory; above it the expected loss grows "
    "without bound (single runs may still be lucky for a while)."
)
_EXPECTED = (
    " Thin dashed lines are the exact expected losses; wedges at the right edge mark where they "
    "settle, the noise floor of that learning rate."
)


def _draw_losses(own: dict[str, pd.DataFrame], targets: list[float]) -> Iterator[Drawing]:
    curves = own["loss_curves"]
    exact = "exact_loss" in curves and curves["exact_loss"].notna().any()
    for x, name in (("step", "steps"), ("examples", "examples")):
        if len(curves):
            yield Drawing(
                f"loss_against_{name}",
                f"Held-out loss against {name}",
                "Mean over the seeds at each batch size's best learning rate; the band spans the "
                "seeds, dotted lines are the targets." + (_EXPECTED if exact else ""),
                plot_loss_curves(curves, targets, x),
                "loss_curves",
                curves,
            )
    budget = own["loss_at_fixed_examples"]
    tuned_for = (
        " The search tuned learning rates for the targets: between them losses are a little high."
        if len(own["search"])
        else ""
    )
    if len(budget):
        yield Drawing(
            "loss_at_fixed_examples",
            "Held-out loss at a fixed number of examples",
            "The lowest mean loss over the learning rates once so many examples are used up: flat "
            f"where a larger batch costs nothing, rising where it wastes examples.{tuned_for}",
            plot_fixed_budget(budget),
            "loss_at_fixed_examples",
            budget,
        )


def _draw_noise_floor(own: dict[str, pd.DataFrame], targets: list[float]) -> Iterator[Drawing]:
    if len(own["noise_floor"]):
        yield Drawing(
            "noise_floor",
            "Noise floor against learning rate",
            "The expected loss at which a constant learning rate settles, by the exact theory; it "
            "grows without bound towards the largest stable learning rate (upright strokes). A "
            "target (dotted) below the floor stays out of reach, however long the training.",
            plot_noise_floor(own["noise_floor"], own["stability"], targets),
            "noise_floor",
            own["noise_floor"],
        )


def _draw_noise_scale(own: dict[str, pd.DataFrame]) -> Iterator[Drawing]:
    along = own["noise_scale"]
    first = True
    for estimator, records in _ESTIMATORS.items():
        for kind, name in KINDS.items():
            found = along[(along["estimator"] == estimator) & (along["kind"] == kind)]
            negative = int((found["noise_scale"] <= 0).sum())
            if not (found["noise_scale"] > 0).any():
                continue
            left_out = f" Estimates that are negative, left out: {negative}." if negative else ""
            yield Drawing(
                f"{kind}_noise_scale_from_{estimator}",
                f"Noise scale {name} along the run, from {records}",
                f"At each batch size's best learning rate, pooled over the seeds; stars are the "
                f"measured critical batch sizes at their targets.{left_out}",
                plot_noise_scale(found, own["critical_batch_size"], kind, name),
                "noise_scale",
                found.reset_index(drop=True),
                folded=not first,
            )
            first = False


_ESTIMATORS = {"examples": "single examples", "parts": "parts of training batches"}
