"""Where does a larger batch stop paying? The critical batch size of every target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import Look, bars, look
from analysis.figures.tooltips import tell
from analysis.fit.fit_result import FitResult
from analysis.fit.scaling_laws import law_curve
from analysis.groups import group_label, select
from analysis.read.steps import NO_TARGET
from analysis.study import Study
from analysis.topics.topic import Finding, Frames, Part, Topic, or_nan
from analysis.words import USUAL, Units, between, law_interval

_OTHERS = (  # column, label, marker, place beside the target: in steps to the right
    ("overhead", "20 % overhead over the smallest", "s", 1),
    ("half_elasticity", "half elasticity, from the data", "D", 2),
    ("exact_same_grid", "exact, same lr grid", "+", -1),
    ("exact_continuous_lr", "exact, continuous lr", "x", -2),
)
_STEP = 0.05  # along the log axis, between what stands side by side at a target
_SHARE = 0.7  # at most, of the way to the next target, of all that stands at one
_FIT = "min_examples/min_steps"
_ARROW = 0.12  # length of the arrow of a bound, over its value


_WIDTH = 2 * 1.96  # of a 95 % interval of a normal distribution, in standard errors


def critical_batch_size_frame(study: Study) -> pd.DataFrame:
    """B_crit of each target by each definition, with interval and exact values where known."""
    rows = []
    for fit in study.fits:
        low, high = fit.ci95.get("critical_batch_size", (None, None))
        exact, overhead = fit.exact or {}, fit.critical_batch_size_overhead
        row = {
            "target_loss": fit.target_loss,
            "min_examples/min_steps": fit.critical_batch_size,
            "low": low,
            "high": high,
            "at_least": fit.at_least,
            "at_most": fit.at_most,
            "overhead": overhead.get("value"),
            "overhead_of_hyperbola": overhead.get("value_of_hyperbola"),
            "overhead_reference_batch_size": overhead.get("reference_batch_size"),
            "overhead_of_knee": overhead.get("value_of_knee"),
            "half_elasticity": fit.critical_batch_size_half_elasticity,
            "exact_same_grid": exact.get("same_grid"),
            "exact_continuous_lr": exact.get("continuous_lr"),
        }
        for name in ("overhead", "half_elasticity"):
            ends = fit.ci95.get(f"critical_batch_size_{name}", (None, None))
            row[f"{name}_low"], row[f"{name}_high"] = ends
        rows.append(fit.group | {k: or_nan(v) for k, v in row.items()})
    return pd.DataFrame(rows)


def critical_words(fit: FitResult, units: Units = USUAL) -> str:
    """B_crit with its interval, or what is known instead."""
    if fit.critical_batch_size is not None:
        interval = between(*fit.ci95.get("critical_batch_size", (None, None)))
        approximate = ", approximate" if fit.approximate_ci and interval else ""
        more = f"95 % interval {interval}{approximate}" if interval else ""
        return units.of_size(fit.critical_batch_size, more)
    if fit.at_least is not None:
        return f"at least {units.of_size(fit.at_least)}"
    if fit.at_most is not None:
        return f"at most {units.of_size(fit.at_most)}"
    return "not known"


def critical_batch_sizes(study: Study, frames: Frames) -> Sequence[Finding]:
    """E_min/S_min of every group and target; predicted: from the exact frontier, continuous lr.

    standard_error: the width of the 95 % interval over 2 * 1.96, where it is closed.
    """
    return [_finding(fit) for fit in study.fits]


def _finding(fit: FitResult) -> Finding:
    label = group_label(fit.group)
    low, high = fit.ci95.get("critical_batch_size", (None, None))
    error = (high - low) / _WIDTH if low is not None and high is not None else None
    return Finding(
        what=f"{label + ', ' if label else ''}target {fit.target_loss:.4g}",
        value=fit.critical_batch_size,
        standard_error=error,
        low=low,
        high=high,
        predicted=(fit.exact or {}).get("continuous_lr"),
        reason="" if fit.critical_batch_size is not None else f"not identified: {fit.reason}",
    )


def drawings(part: Part) -> Iterator[Drawing]:
    table = part.frames["critical_batch_size"]
    bounds = ["min_examples/min_steps", "at_least", "at_most"]
    unnamed = part.study.curves.empty and (table["target_loss"] == NO_TARGET).all()
    if len(table) and not unnamed and table[bounds].notna().any(axis=None):
        labelled = [(group_label(group), select(table, group)) for group in part.groups]
        shown = pd.concat([rows for _, rows in labelled], ignore_index=True)
        yield Drawing(
            "critical_batch_size_against_target",
            "Critical batch size against target",
            "The batch size at which a target costs twice the fewest steps and twice the fewest "
            "examples. Bars are 95 % intervals; hollow points with an arrow are bounds (the curve "
            "does not bend within the sampled batch sizes). Other definitions and, where the "
            "theory is exact, the "
            "true values stand beside the estimate.",
            partial(plot_critical_batch_size, shown, labelled, _target_laws(part)),
            "critical_batch_size",
            table,
        )


def _target_laws(part: Part) -> list[pd.DataFrame]:
    """Of each group: the laws of B_crit in the target."""
    laws = part.frames["laws"]
    in_target = laws[laws["x"] == "target_loss"] if len(laws) else laws
    return [select(in_target, group) for group in part.groups]


def plot_critical_batch_size(
    critical_batch_size: pd.DataFrame,
    groups: Sequence[tuple[str, pd.DataFrame]],
    laws: Sequence[pd.DataFrame] = (),
) -> Figure:
    """B_crit against target with 95 % intervals; the target is harder to the right.

    groups: (label, rows of `critical_batch_size`) of each group; laws: their rows of the laws in
    x = target_loss, where several targets are known. Arrows: "at least" and "at most".
    The other definitions and exact values are drawn where there is only one group.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        colors = style.target_colors(len(groups))
        targets = sorted(critical_batch_size["target_loss"].unique())
        x_label = "target held-out loss (harder to the right)"
        on_log = style.value_axis(ax, "x", x_label, [targets], minor=False)
        for i, (label, rows) in enumerate(groups):
            step = _step(targets, len(groups), on_log) * (i - (len(groups) - 1) / 2)
            rows = rows.assign(x=_beside(rows["target_loss"], np.exp(-step), targets, on_log))
            _plot_group(ax, rows, label, look(i, colors[i]))
        if len(groups) == 1:
            _plot_others(ax, critical_batch_size, targets, on_log)
        style.log_axis(ax, "y", "critical batch size (examples)")
        ax.xaxis.set_major_locator(FixedLocator(_apart(targets, on_log)))
        if targets:
            ax.set_xlim(
                *(
                    _beside(end, 1.6**side, targets, on_log)
                    for end, side in ((max(targets), 1), (min(targets), -1))
                )
            )
        for rows, color in zip(laws, colors, strict=False):
            _draw_target_laws(ax, rows, targets, color, named=len(groups) == 1)
        style.legend_below(figure, ax, columns=2 if len(groups) == 1 else 3)
    return figure


def _plot_others(ax: Axes, table: pd.DataFrame, targets: Sequence[float], on_log: bool) -> None:
    """The other definitions and the exact values, each at its own place beside the target."""
    step = _step(targets, len(_OTHERS) + 1, on_log)
    for column, label, marker, place in _OTHERS:
        rows = table.dropna(subset=column)
        if len(rows):
            ink = style.INK if column.startswith("exact") else style.MUTED
            x = _beside(rows["target_loss"], np.exp(-step * place), targets, on_log)
            ax.plot(
                x, rows[column], ls="", marker=marker, color=ink, mfc="none",
                ms=8 if marker in "+x" else 6, label=label,
            )  # fmt: skip
            tell(ax, rows.drop(columns=_FIT), x, column, also={column: label})


def _step(targets: Sequence[float], n: int, on_log: bool) -> float:
    """Between n points side by side at a target, so that none comes near to those of the next."""
    places = np.log(targets) if on_log else np.asarray(targets) * 3 / (np.ptp(targets) or 1.0)
    return min(_STEP, _SHARE * np.diff(places).min(initial=np.inf) / n)


def _beside(target: Any, shift: float, targets: Sequence[float], on_log: bool) -> Any:
    """The place of a target moved by a factor; on a linear axis by as much of its width."""
    if on_log:
        return target * shift
    return target + np.log(shift) * (max(targets) - min(targets) or 1.0) / 3


def _apart(targets: Sequence[float], on_log: bool) -> list[float]:
    """The targets without those whose labels would run into a lower one's."""
    places = np.log(targets) if on_log else np.asarray(targets, float)
    least = max(0.02 if on_log else 0.0, 0.1 * np.ptp(places)) if len(places) else 0.0
    shown: list[int] = []
    for i, place in enumerate(places):
        if not shown or place - places[shown[-1]] > least:
            shown.append(i)
    return [targets[i] for i in shown]


def _plot_group(ax: Axes, own: pd.DataFrame, label: str, shown: Look) -> None:
    """A group's points; what is known on one side is a hollow marker with an arrow."""
    known = own.dropna(subset=_FIT)
    if len(known):
        name = (
            style.plain_text(label)
            or r"$E_\mathrm{min}/S_\mathrm{min}$ from the fit, 95 % interval"
        )
        ax.errorbar(
            known["x"], known[_FIT], bars(known[_FIT], known["low"], known["high"]),
            **{**shown, "ls": "-"}, lw=1, label=name, elinewidth=1.6, capsize=3, ms=7, zorder=3,
        )  # fmt: skip
        tell(ax, known, "x", _FIT, label, interval_of=_FIT)
    for bound, side in (("at_least", "lolims"), ("at_most", "uplims")):
        rows = own[own[_FIT].isna() & own[bound].notna()]
        if len(rows):
            text = bound.replace("_", " ")
            ax.errorbar(
                rows["x"], rows[bound], _ARROW * rows[bound], **{**shown, "ls": "", side: True},
                ms=7, mfc="white", label=f"{style.plain_text(label)} {text}" if label else text,
            )  # fmt: skip
            tell(ax, rows, "x", bound, label, also={bound: f"critical batch size {text}"})


def _draw_target_laws(
    ax: Axes, laws: pd.DataFrame, targets: Sequence[float], color: Any, *, named: bool
) -> None:
    """The laws of one group in B_crit against the target, over the range of its targets.

    named: all of them with their exponents in the legend; else one, without.
    """
    known = laws[laws["exponent"].notna()]
    for law in known.iloc[: None if named else 1].to_dict("records"):
        floor = 0.0 if law["offset_is"] == "zero" else law["offset"]
        dense = floor + np.geomspace(min(targets) - floor, max(targets) - floor, 100)
        line = {"color": color, "ls": _LINE_OF[law["offset_is"]], "lw": 1.1, "zorder": 1}
        ax.plot(dense, law_curve(law, dense), **line, label=_law_words(law) if named else None)


_LINE_OF = {"recorded": (0, (6, 2, 1, 2)), "zero": (0, (5, 2)), "free": (0, (1, 1.4))}


def _law_words(law: Mapping[Any, Any]) -> str:
    if law["offset_is"] == "zero":
        return rf"$\propto L^k$, $k$ = {law_interval(law)}"
    how = "fitted" if law["offset_is"] == "free" else "recorded"
    floor = rf"$L_\infty$ = {style.number(law['offset'])} {how}"
    return rf"$\propto (L - L_\infty)^k$, $k$ = {law_interval(law)}, {floor}"


TOPIC = Topic(
    "critical_batch_size",
    scope="all_groups",
    frames=lambda study, _: {"critical_batch_size": critical_batch_size_frame(study)},
    drawings=drawings,
    quantities={"critical_batch_size": critical_batch_sizes},
)
