"""What does the gradients' noise predict? The noise scale beside the critical batch size.

The noise scale predicts, the critical batch size is measured; McCandlish et al. 2018
(arXiv:1812.06162) expect them near each other, and they often differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analysis.errors import AnalysisError
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import bars
from analysis.figures.tooltips import tell
from analysis.fit.noise_ratio import noise_ratio_frame
from analysis.groups import group_label
from analysis.measure.frontier import hardest_reached
from analysis.measure.noise_records import KINDS, placed_records, pooled
from analysis.study import Study
from analysis.topics.topic import (
    Cell,
    Finding,
    Frames,
    Part,
    Section,
    Table,
    Topic,
    group_cells,
    group_head,
)
from analysis.words import between, rounded, size_words
from scaling.schema import DIVERGED

ESTIMATORS = {"examples": "single examples", "parts": "parts of batches"}
RUN_COLUMNS = [
    "estimator", "kind", "batch_size", "lr", "step", "loss", "noise_scale", "low", "high",
    "at_least", "exact", "n_records",
]  # fmt: skip
_SUMS = ["trace", "square", "exact_trace", "exact_square"]
MOST_LINES = 8
_ALSO = {"exact": "closed form", "n_records": "records"}
_DASHED: dict[str, Any] = {"color": style.INK, "lw": 0.7, "ls": (0, (3, 2))}


def noise_along_runs(study: Study) -> pd.DataFrame:
    """At each record of each batch size's best lr for the hardest target that it reached.

    Columns: group.., RUN_COLUMNS; pooled over the seeds, negative values as they came.
    """
    records = placed_records(study.trials, study.curves, study.group_by)
    names = [*study.group_by, "batch_size", "lr"]
    if records.empty:
        return pd.DataFrame(columns=[*study.group_by, *RUN_COLUMNS])
    best = hardest_reached(study.frontier, names[:-1])[names]
    rows = []
    keys = [*study.group_by, "estimator", "kind", "batch_size", "lr", "step"]
    for key, of_step in records.merge(best, on=names).groupby(keys, sort=True):
        where = dict(zip(keys, key, strict=True))
        rows.append(where | {"loss": of_step["loss"].mean()} | pooled(of_step))
    return pd.DataFrame(rows, columns=[*study.group_by, *RUN_COLUMNS])


def noise_against_critical(study: Study) -> pd.DataFrame:
    """fit.noise_ratio.noise_ratio_frame of the study's records."""
    records = placed_records(study.trials, study.curves, study.group_by)
    return noise_ratio_frame(records, study.fits, study.frontier, study.group_by)


def drawings(part: Part) -> Iterator[Drawing]:
    along = part.frames["noise_scale"]
    n_drawn = 0
    for (estimator, records), (kind, name) in itertools.product(ESTIMATORS.items(), KINDS.items()):
        rows = along[(along["estimator"] == estimator) & (along["kind"] == kind)]
        if not (rows["noise_scale"] > 0).any():
            continue
        negative = int((rows["noise_scale"] <= 0).sum())
        left_out = f" {negative} negative estimates are left out." if negative else ""
        yield Drawing(
            f"{kind}_noise_scale_from_{estimator}",
            f"Noise scale {name} along the run, from {records}",
            "At each batch size's best learning rate, pooled over the seeds. Stars are the "
            f"measured critical batch sizes at their targets.{left_out}",
            partial(plot_noise_scale, rows, part.frames["critical_batch_size"], kind, name),
            "noise_scale",
            rows.reset_index(drop=True),
            folded=n_drawn > 0,
        )
        n_drawn += 1


def plot_noise_scale(along: pd.DataFrame, critical: pd.DataFrame, kind: str, name: str) -> Figure:
    """Noise scale against held-out loss (falling to the right), a marker a batch size.

    along: rows of noise_scale.noise_along_runs of one group and estimator; critical: that
    group's critical batch sizes (the frame critical_batch_size). Dashed: the
    closed form. What is not positive is left out.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        rows = along[(along["kind"] == kind) & (along["noise_scale"] > 0)]
        sizes = style.thinned(sorted(rows["batch_size"].unique()), MOST_LINES)
        colors = style.ordered_colors(len(sizes))
        for i, size in enumerate(sizes):
            of_size = rows[rows["batch_size"] == size].sort_values("step")
            ax.plot(
                of_size["loss"], of_size["noise_scale"], ls="", ms=4.5, label=f"B = {size:,.0f}",
                color=colors[i], marker=style.MARKERS[i % len(style.MARKERS)],
            )  # fmt: skip
            tell(ax, of_size, "loss", "noise_scale", also=_ALSO, interval_of="noise_scale")
            exact = of_size.dropna(subset="exact").sort_values("loss")
            ax.plot(
                exact["loss"], exact["exact"], color=style.INK, lw=0.9, ls=(0, (3, 2)), zorder=4
            )
        if rows["exact"].notna().any():
            ax.plot([], [], color=style.INK, lw=0.9, ls=(0, (3, 2)), label=f"{name}, closed form")
        _plot_critical(ax, critical)
        label = "held-out loss (falling to the right)"
        on_log = style.value_axis(ax, "x", label, [rows["loss"]])
        style.log_axis(ax, "y", f"{name} and critical batch size (examples)")
        if not on_log:
            ax.xaxis.set_inverted(True)
        elif len(rows):
            most, least = rows["loss"].max() * 1.15, rows["loss"].min() / 1.15
            ax.xaxis.set_major_locator(FixedLocator(style.PlainTicks().tick_values(least, most)))
            ax.set_xlim(most, least)
        style.legend_below(figure, ax, 4)
    return figure


def _plot_critical(ax: Axes, critical: pd.DataFrame) -> None:
    known = critical.dropna(subset="min_examples/min_steps")
    if len(known):
        values = known["min_examples/min_steps"]
        error = bars(values, known["low"], known["high"])
        ax.errorbar(
            known["target_loss"], values, error, ls="", marker="*", ms=13,
            mfc="white", mec=style.INK, ecolor=style.INK, elinewidth=1.5, capsize=3, zorder=6,
            label="critical batch size, measured",
        )  # fmt: skip
        name = "min_examples/min_steps"
        tell(ax, known, "target_loss", name, interval_of=name)


def section(study: Study, frames: Frames) -> Section | None:
    table = frames["noise_scale_at_targets"].sort_values("target_loss", kind="stable")
    rows = [
        [*group_cells(study, {key: row[key] for key in study.group_by}), *_cells(row)]
        for row in table.to_dict("records")
    ]
    if not rows:
        return None
    head = ["target loss", "noise scale", "from", "estimate", "closed form"]
    head += ["critical batch size", "ratio of the two", "records"]
    return Section(
        "noise", "Noise scale", [_HOW], Table([*group_head(study), *head], rows), [_INTERVALS]
    )


_HOW = Markup(
    "What the gradients' noise predicts beside what was measured, at the same losses: "
    "B<sub>simple</sub> = tr &Sigma; / |G|<sup>2</sup>, and where the curvature H is known "
    "B<sub>noise</sub> = tr(H&Sigma;) / G&prime;HG. Both are estimated from the records nearest to "
    "the step at which the mean loss crosses the target, pooled over the batch sizes and seeds "
    "that reached it. They predict; the critical batch size is the answer."
)
_INTERVALS = (
    "Small numbers are 95 % intervals (Fieller's for the noise scale: numerator and denominator "
    "are averaged separately). A negative estimate means that the signal was too weak to measure."
)


def _cells(row: Mapping[Any, Any]) -> list[Cell]:
    value, at_least = row["noise_scale"], row["at_least"]
    weak = f"at least {size_words(at_least)}" if at_least == at_least else "not known"
    interval = between(row["low"], row["high"]) or weak
    return [
        Cell(rounded(row["target_loss"])),
        Cell(KINDS[row["kind"]], is_text=True),
        Cell(ESTIMATORS[row["estimator"]], is_text=True),
        Cell(size_words(value) if value > 0 else f"{value:.3g}", interval),
        Cell(size_words(row["exact"])),
        Cell(size_words(row["critical_batch_size"]) or "not known"),
        Cell(rounded(row["ratio"]), between(row["ratio_low"], row["ratio_high"])),
        Cell(str(row["n_records"])),
    ]


def noise_scale_over_exact(study: Study, frames: Frames) -> Sequence[Finding]:
    """R = (sum trace / sum square) / (sum exact trace / sum exact square), which is 1 in theory.

    Of every group, estimator, kind, and part of the run: held-out losses above the easiest target,
    between targets, below the hardest. Records of trials that diverged, or above the initial loss,
    are left out. Trials of one batch size and seed see the same data at every lr, so the standard
    error is from the spread of d = (trace - exact trace) - r (square - exact square) between those,
    r the closed form: se(R) = se(sum d) / (r sum square).

    Raises AnalysisError where no record with its closed form is there.
    """
    records = placed_records(study.trials, study.curves, study.group_by)
    if records.empty or records["exact_square"].isna().all():
        raise AnalysisError("it needs noise_scale.measure=both (or parts, examples)")
    names = ["run_id", "seed", "outcome", "initial_loss"]
    records = records.merge(study.trials[names], on="run_id").dropna(subset=_SUMS)
    records = records[records["outcome"] != DIVERGED]
    records = records[records["loss"] <= records["initial_loss"]]
    findings = []
    keys = [*study.group_by, "estimator", "kind"]
    for key, of_kind in records.groupby(keys, sort=False, dropna=False):
        where = dict(zip(keys, key, strict=True))
        label = group_label({name: where[name] for name in study.group_by})
        kind, estimator = str(where["kind"]), str(where["estimator"])
        of = f"{KINDS[kind]} from {ESTIMATORS[estimator]}"
        for losses, part in _parts(of_kind, study.targets):
            what = ", ".join(filter(None, (label, of, losses)))
            findings.append(_over_exact(what, part))
    return findings


def _parts(records: pd.DataFrame, targets: Sequence[float]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The records by held-out loss, the targets between them, the first of a run first."""
    edges = [np.inf, *sorted(targets, reverse=True), -np.inf]
    for high, low in itertools.pairwise(edges):
        part = records[(records["loss"] > low) & (records["loss"] <= high)]
        if low == -np.inf:
            words = f"losses below {rounded(high)}"
        elif high == np.inf:
            words = f"losses above {rounded(low)}"
        else:
            words = f"losses {rounded(high)} to {rounded(low)}"
        yield words, part


def _over_exact(what: str, records: pd.DataFrame) -> Finding:
    sums = records.groupby(["batch_size", "seed"])[_SUMS].sum()
    if len(sums) < 2:
        return Finding(what, None, reason="fewer than two batch sizes or seeds have records there")
    trace, square, exact_trace, exact_square = (float(sums[name].sum()) for name in _SUMS)
    if square <= 0:
        return Finding(what, None, reason="|G|^2 comes out negative: the signal is too weak")
    exact = exact_trace / exact_square
    off = sums["trace"] - sums["exact_trace"]
    off -= exact * (sums["square"] - sums["exact_square"])
    error = float(off.std(ddof=1)) * len(sums) ** 0.5 / (exact * square)
    return Finding(what, trace / square / exact, error, predicted=1.0)


TOPIC = Topic(
    "noise_scale",
    scope="group",
    frames=lambda study, _: {
        "noise_scale": noise_along_runs(study),
        "noise_scale_at_targets": noise_against_critical(study),
    },
    drawings=drawings,
    section=section,
    quantities={"noise_scale_over_exact": noise_scale_over_exact},
)
