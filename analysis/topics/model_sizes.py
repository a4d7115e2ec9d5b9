"""How do model sizes compare? Steps and best learning rates of all sizes of a family together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from analysis.figures.drawing import Drawing
from analysis.figures.series import plot_overlaid_lr, plot_overlaid_steps
from analysis.groups import select
from analysis.topics.topic import Part, Topic, at_target
from analysis.words import short_number
from scaling.schema import target_label


def drawings(part: Part) -> Iterator[Drawing]:
    """S(B) and the best lr of all sizes at each target that two of them reached."""
    sized = part.sized_fits
    if len({size for size, _ in sized}) < 2:
        return
    for i, target in enumerate(sorted({fit.target_loss for _, fit in sized})):
        suffix = f"_{target_label(target)}" if i else ""
        rows = at_target(part.frames["steps_by_batch_size"], target)
        series = [
            (short_number(size), select(rows, fit.group), fit)
            for size, fit in sized
            if fit.target_loss == target
        ]
        series = [entry for entry in series if entry[1]["steps"].notna().any()]
        if len(series) < 2:
            continue
        yield Drawing(
            "steps_of_all_model_sizes" + suffix,
            f"Steps against batch size of all model sizes, target {target:.3g}",
            "One curve per model size, from small (dark) to large (light). At hollow points the "
            "best learning rate is the smallest or largest that was tried.",
            partial(plot_overlaid_steps, series, "model size"),
            "steps_by_batch_size",
            rows.reset_index(drop=True),
            folded=i > 0,
        )
        yield Drawing(
            "best_lr_of_all_model_sizes" + suffix,
            f"Best learning rate of all model sizes, target {target:.3g}",
            "With 95 % intervals, never narrower than half the spacing of the grid. Hollow points "
            "are the smallest or largest learning rate that was tried.",
            partial(plot_overlaid_lr, [(size, points) for size, points, _ in series], "model size"),
            "best_lr",
            at_target(part.frames["best_lr"], target).reset_index(drop=True),
            folded=i > 0,
        )


TOPIC = Topic("model_sizes", scope="family", drawings=drawings)
