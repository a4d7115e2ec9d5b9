"""Which figures of model size, compute and time a study has; what has no data is not drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.figures import style
from analysis.figures.compute import plot_compute_allocation, plot_loss_against_compute
from analysis.figures.drawing import Drawing
from analysis.figures.laws import (
    plot_laws_in_model_size,
    plot_loss_against_model_size,
)
from analysis.figures.overlaid import plot_overlaid_lr, plot_overlaid_steps
from analysis.figures.time import plot_step_time, plot_time_to_target
from analysis.figures.twice import plot_twice_the_compute
from analysis.measure.model_sizes import Family
from analysis.report import tables
from analysis.study import StudyResult
from analysis.fit.twice_the_compute import way_curves
from scaling.schema import target_label

Tables = dict[str, pd.DataFrame]


def draw_scaling(
    result: StudyResult, all_tables: Tables, groups: Sequence[Mapping[str, Any]] | None = None
) -> Iterator[Drawing]:
    """Family by family (groups that differ in model size alone); groups: of their members those
    that are drawn, all if not given."""
    for family in _drawn(result.families, groups):
        label = tables.group_label(family.others)
        drawings = [
            *_draw_twice(result, family),
            *_draw_sizes(result, all_tables, family),
            *_draw_compute(result, family),
            *_draw_times(result, family),
        ]
        for drawing in drawings:
            if label:
                drawing.name += f"_{tables.file_name(label)}"
                drawing.title += f" ({label})"
            yield drawing


def _drawn(
    families: Sequence[Family], groups: Sequence[Mapping[str, Any]] | None
) -> Iterator[Family]:
    for family in families:
        members = [own for own in family.members if groups is None or own.group in groups]
        if members:
            yield Family(family.others, members)


def _draw_sizes(result: StudyResult, all_tables: Tables, family: Family) -> Iterator[Drawing]:
    if len(set(family.sizes)) < 2:
        return
    sized = [
        (float(member.model_size or 0), fit)
        for member in family.members
        for fit in result.fits
        if fit.group == member.group
    ]
    targets = sorted({fit.target_loss for _, fit in sized})
    for i, target in enumerate(targets):
        yield from _overlays(all_tables, family, sized, target, folded=i > 0)
    laws = tables.select(result.laws, family.others)
    in_size = laws[laws["x"] == "model_size"]
    if any(fit.critical_batch_size is not None for _, fit in sized):
        yield Drawing(
            "laws_in_model_size",
            "Critical batch size, steps and examples against model size",
            "What the fit of each model size says, with 95 % intervals, and power laws through "
            "it (the interval of an exponent holds the noise of the seeds). Hollow arrows are "
            "bounds where the critical batch size is not identified; they are not in the law.",
            plot_laws_in_model_size(sized, in_size),
            "laws",
            laws,
        )
    in_loss = in_size[(in_size["y"] == "loss") & in_size["examples"].notna()]
    points = tables.select(result.loss_by_size, family.others)
    if len(points):
        yield Drawing(
            "loss_against_model_size",
            "Held-out loss against model size at equal examples",
            "The lowest mean loss over batch sizes and learning rates after equally many "
            "examples, with a power law each (table: laws).",
            plot_loss_against_model_size(in_loss, points),
            "loss_by_size",
            points,
        )


def _overlays(
    all_tables: Tables,
    family: Family,
    sized: list[tuple[float, Any]],
    target: float,
    folded: bool,
) -> Iterator[Drawing]:
    """S(B) and the best lr of all sizes at one target."""
    suffix = f"_{target_label(target)}" if folded else ""
    rows = _at(all_tables["steps_by_batch_size"], target)
    curves = [
        (style.number(size), tables.select(rows, fit.group), fit)
        for size, fit in sized
        if fit.target_loss == target
    ]
    curves = [curve for curve in curves if curve[1]["steps"].notna().any()]
    if len(curves) < 2:
        return
    yield Drawing(
        "steps_of_all_model_sizes" + suffix,
        f"Steps against batch size of all model sizes, target {target:.3g}",
        "One curve a model size, dark is small; hollow points have their best learning rate at the "
        "edge of the tried ones.",
        plot_overlaid_steps(curves, "model size"),
        "steps_by_batch_size",
        tables.select(rows, family.others),
        folded=folded,
    )
    yield Drawing(
        "best_lr_of_all_model_sizes" + suffix,
        f"Best learning rate of all model sizes, target {target:.3g}",
        "With 95 % intervals, never narrower than half the spacing of the grid; hollow: at the "
        "edge of the tried learning rates.",
        plot_overlaid_lr([(size, own) for size, own, _ in curves], "model size"),
        "best_lr",
        tables.select(_at(all_tables["best_lr"], target), family.others),
        folded=folded,
    )


def _draw_twice(result: StudyResult, family: Family) -> Iterator[Drawing]:
    for member in family.members:
        rows = tables.select(result.twice_the_compute, member.group)
        if len(rows):
            size = style.number(member.model_size or 0)
            yield Drawing(
                f"twice_the_compute_from_{size}",
                f"Twice the compute, from model size {size}",
                "From the black point, at a batch size near the critical one, three ways to spend "
                "twice the compute, each at its best learning rate (hollow: at the edge of those "
                "tried), with 95 % intervals; lines are the mean curves at these learning rates. "
                f"Compute is FLOPs of an example x batch size x steps, {result.flops_counted}.",
                plot_twice_the_compute(rows, way_curves([family], rows)),
                "twice_the_compute",
                rows,
            )


def _draw_compute(result: StudyResult, family: Family) -> Iterator[Drawing]:
    frontier = tables.select(result.compute_frontier, family.others)
    if len(frontier) < 2:
        return
    losses = tables.select(result.loss_by_compute, family.others)
    laws = tables.select(result.laws, family.others)
    in_compute = laws[laws["x"] == "compute"]
    counted = f"Compute is FLOPs of an example x batch size x steps, {result.flops_counted}."
    yield Drawing(
        "loss_against_compute",
        "Held-out loss against compute",
        "What a budget buys: the lowest mean loss of each model size over batch sizes and learning "
        f"rates, and the lowest of all. {counted} Budgets at which a trial that had stopped might "
        "have been lower are left out.",
        plot_loss_against_compute(losses, frontier),
        "loss_by_compute",
        losses,
    )
    yield Drawing(
        "compute_allocation",
        "What to spend compute on",
        "The best model size, batch size and number of steps at each budget (between the sampled "
        "ones by a parabola). Hollow: the best lies at the edge of what was trained, so it may lie "
        "beyond; left out of the power laws.",
        plot_compute_allocation(frontier, in_compute),
        "compute_frontier",
        frontier,
    )


def _draw_times(result: StudyResult, family: Family) -> Iterator[Drawing]:
    if not len(result.step_time):
        return
    several = len(family.members) > 1
    labels = [style.number(member.model_size or 0) if several else "" for member in family.members]
    members = list(zip(labels, family.members, strict=True))
    timed = [(name, tables.select(result.step_time, member.group)) for name, member in members]
    timed = [(name, own) for name, own in timed if len(own)]
    if timed:
        yield Drawing(
            "step_time",
            "Seconds per step against batch size",
            "Median over the trials, with its 95 % interval, on the device that trained them; the "
            "line is an overhead plus a cost per example.",
            plot_step_time(timed),
            "step_time",
            tables.select(result.step_time, family.others),
        )
    whole = tables.select(result.time_to_target, family.others)
    for i, target in enumerate(sorted(whole["target_loss"].unique())):
        own = [
            (
                name,
                tables.select(_at(whole, target), member.group),
                tables.select(_at(result.batch_size_choices, target), member.group),
            )
            for name, member in members
        ]
        yield Drawing(
            "time_to_target" + (f"_{target_label(target)}" if i else ""),
            f"Time to target {target:.3g} against batch size",
            "Steps to target times seconds per step, on the device that trained. The fastest batch "
            "size and the cheapest (fewest examples) are different answers.",
            plot_time_to_target([group for group in own if len(group[1])], target),
            "time_to_target",
            _at(whole, target).reset_index(drop=True),
            folded=i > 0,
        )


def _at(frame: pd.DataFrame, target: float) -> pd.DataFrame:
    return frame[frame["target_loss"] == target]
