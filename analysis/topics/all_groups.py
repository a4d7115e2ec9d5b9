"""How do the groups compare? Steps and best learning rates of all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from analysis.figures.drawing import Drawing
from analysis.figures.series import plot_overlaid_lr, plot_overlaid_steps
from analysis.groups import group_label, select
from analysis.topics.topic import Part, Topic


def drawings(part: Part) -> Iterator[Drawing]:
    """S(B) and the best lr of all groups, at the headline's target of each.

    Nothing where groups differ in model size alone, which has figures of its own.
    """
    if len(part.groups) < 2 or len(part.study.families) < 2:
        return
    steps = part.frames["steps_by_batch_size"]
    series = []
    for group in part.groups:
        fit = part.study.headline(group)
        if fit is not None:
            rows = select(steps, group | {"target_loss": fit.target_loss})
            series.append((group_label(group), rows, fit))
    if not any(rows["steps"].notna().any() for _, rows, _ in series):
        return
    targets = {fit.target_loss for _, _, fit in series}
    to = f"target {targets.pop():.3g}" if len(targets) == 1 else "each group's own target"
    hollow = "hollow points lie at the edge of the tried learning rates"
    yield Drawing(
        "steps_against_batch_size_of_all",
        f"Steps to {to} against batch size, all groups",
        f"Points with 95 % intervals, fits with their bands; {hollow}. "
        "Upright strokes mark the critical batch sizes.",
        partial(plot_overlaid_steps, series),
        "steps_by_batch_size",
        steps,
    )
    if any(rows["lr"].notna().any() for _, rows, _ in series):
        yield Drawing(
            "best_lr_against_batch_size_of_all",
            f"Best learning rate for {to}, all groups",
            f"Bars are 95 % intervals; {hollow}.",
            partial(plot_overlaid_lr, [(label, rows) for label, rows, _ in series]),
            "best_lr",
            part.frames["best_lr"],
        )


TOPIC = Topic("all_groups", scope="all_groups", drawings=drawings)
