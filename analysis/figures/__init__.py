"""The report's figures: frames and fits in, matplotlib figures out, each with its table. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis import tables
from analysis.figures.critical import plot_critical_batch_size
from analysis.figures.curves import plot_fixed_budget, plot_loss_curves
from analysis.figures.frontier import plot_pareto_front, plot_steps_against_batch_size
from analysis.figures.learning_rate import plot_best_lr, plot_lr_heat_map
from analysis.study import StudyResult
from scaling.schema import target_label

__all__ = ["Drawing", "draw"]


@dataclass
class Drawing:
    """A figure with what belongs to it; `folded`: a further one of its kind, shown on demand."""

    name: str
    title: str
    caption: str
    figure: Figure
    table_name: str
    table: pd.DataFrame
    folded: bool = False


def draw(result: StudyResult) -> Iterator[Drawing]:
    """Every figure of a study, group by group; what has no data is not drawn."""
    all_tables = tables.tables(result)
    groups = tables.groups_of(result)
    for group in groups:
        for drawing in _draw_group(result, all_tables, group):
            if group:
                label = tables.group_label(group)
                drawing.name += f"_{tables.file_name(label)}"
                drawing.title += f" ({label})"
            yield drawing
    table = all_tables["critical_batch_size"]
    bounds = ["min_examples/min_steps", "at_least", "at_most"]
    if len(table) and table[bounds].notna().any(axis=None):
        labelled = [(tables.group_label(g), tables.select(table, g)) for g in groups]
        yield Drawing(
            "critical_batch_size_against_target",
            "Critical batch size against target",
            "The batch size at which a target costs twice the fewest steps and twice the fewest "
            "examples. Bars are 95 % intervals; hollow arrows are one-sided (the sampled batch "
            "sizes do not bend the curve). Other definitions and, where the theory is exact, the "
            "true values stand beside the estimate.",
            plot_critical_batch_size(table, labelled),
            "critical_batch_size",
            table,
        )


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
            "perfect scaling belong to the hardest target.",
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
    targets = sorted(fit.target_loss for fit in fits)
    yield from _draw_lrs(own, targets)
    yield from _draw_losses(own, targets)


def _draw_lrs(own: dict[str, pd.DataFrame], targets: list[float]) -> Iterator[Drawing]:
    best, cells = own["best_lr"], own["steps_by_lr"]
    for i, target in enumerate(targets):
        if (best.loc[best["target_loss"] == target, "lr"].notna()).any():
            yield Drawing(
                "best_lr_against_batch_size" + (f"_{target_label(target)}" if i else ""),
                f"Best learning rate against batch size, target {target:.3g}",
                "The learning rate that reached the target in the fewest steps, with its 95 % "
                "interval (never narrower than half the spacing of the grid), and three rules "
                "fitted to it.",
                plot_best_lr(best, own["lr_rules"], own["theory"], target),
                "best_lr",
                best,
                folded=i > 0,
            )
    for i, target in enumerate(targets):
        yield Drawing(
            "steps_by_lr_and_batch_size" + (f"_{target_label(target)}" if i else ""),
            f"Steps to target {target:.3g} by learning rate and batch size",
            "Bright is fast. Hatched cells never got there: their training diverged, or its budget "
            "ran out first; blank ones were not tried.",
            plot_lr_heat_map(
                cells[cells["target_loss"] == target],
                own["steps_by_batch_size"].query("target_loss == @target"),
            ),
            "steps_by_lr",
            cells[cells["target_loss"] == target].reset_index(drop=True),
            folded=i > 0,
        )


def _draw_losses(own: dict[str, pd.DataFrame], targets: list[float]) -> Iterator[Drawing]:
    curves = own["loss_curves"]
    for x, name in (("step", "steps"), ("examples", "examples")):
        if len(curves):
            yield Drawing(
                f"loss_against_{name}",
                f"Held-out loss against {name}",
                "Mean over the seeds at each batch size's best learning rate; the band spans the "
                "seeds, dotted lines are the targets.",
                plot_loss_curves(curves, targets, x),
                "loss_curves",
                curves,
            )
    budget = own["loss_at_fixed_examples"]
    if len(budget):
        yield Drawing(
            "loss_at_fixed_examples",
            "Held-out loss at a fixed number of examples",
            "The lowest mean loss over the learning rates once so many examples are used up: flat "
            "where a larger batch costs nothing, rising where it wastes examples.",
            plot_fixed_budget(budget),
            "loss_at_fixed_examples",
            budget,
        )
