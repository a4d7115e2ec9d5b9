"""How does the answer move with the target and with the model size? Power laws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.caveats import Caveat
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.overlaid import plot_overlaid_lr, plot_overlaid_steps
from analysis.figures.series import look, ordered_look
from analysis.fit.fit_result import FitResult
from analysis.fit.law_fit import FEWEST_FOR_CLAIM
from analysis.fit.scaling_laws import OWN_TARGETS, law_caveats, law_curve, law_frame
from analysis.groups import group_label, listed, select
from analysis.study import Group, Study
from analysis.topics.topic import (
    Cell,
    Frames,
    Part,
    Section,
    Table,
    Topic,
    at_target,
    group_cells,
    group_head,
)
from analysis.words import law_interval, percent, rounded, short_number
from scaling.schema import target_label

_QUANTITIES = (
    ("critical_batch_size", "critical batch size"),
    ("min_steps", r"fewest steps $S_\mathrm{min}$"),
    ("min_examples", r"fewest examples $E_\mathrm{min}$"),
)
_NAMES = {
    "critical_batch_size": "critical batch size", "min_steps": "fewest steps",
    "min_examples": "fewest examples", "target_loss": "target loss", "model_size": "model size",
    "batch_size": "batch size", "steps": "steps", "loss": "held-out loss", "compute": "compute",
}  # fmt: skip


def drawings(part: Part) -> Iterator[Drawing]:
    family = part.family
    assert family
    if len(set(family.sizes)) < 2:
        return
    sized = [
        (float(member.model_size or 0), fit)
        for member in family.members
        for fit in part.study.fits
        if fit.group == member.group
    ]
    targets = sorted({fit.target_loss for _, fit in sized})
    for i, target in enumerate(targets):
        yield from _overlays(part.frames, sized, target, folded=i > 0)
    laws = part.frames["laws"]
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
    points = part.frames["loss_by_size"]
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
    frames: Frames,
    sized: list[tuple[float, Any]],
    target: float,
    folded: bool,
) -> Iterator[Drawing]:
    """S(B) and the best lr of all sizes at one target."""
    suffix = f"_{target_label(target)}" if folded else ""
    rows = at_target(frames["steps_by_batch_size"], target)
    curves = [
        (short_number(size), select(rows, fit.group), fit)
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
        rows.reset_index(drop=True),
        folded=folded,
    )
    yield Drawing(
        "best_lr_of_all_model_sizes" + suffix,
        f"Best learning rate of all model sizes, target {target:.3g}",
        "With 95 % intervals, never narrower than half the spacing of the grid; hollow: at the "
        "edge of the tried learning rates.",
        plot_overlaid_lr([(size, points) for size, points, _ in curves], "model size"),
        "best_lr",
        at_target(frames["best_lr"], target).reset_index(drop=True),
        folded=folded,
    )


def plot_laws_in_model_size(
    sized_fits: Sequence[tuple[float, FitResult]], laws: pd.DataFrame
) -> Figure:
    """B_crit, S_min and E_min against model size, a panel each, a colour a target.

    sized_fits: (model size, fit) of one family; laws: its rows in x = model_size. Bars are 95 %
    intervals, hollow arrows the bounds of what is not identified; a law's label has its exponent.
    Where each size has one target of its own, all of them are one series.
    """
    across = laws["definition"] == OWN_TARGETS
    with style.house_style():
        figure, axes = style.new_panels(3, 8.6)
        for ax, (name, label) in zip(axes, _QUANTITIES, strict=True):
            if across.any():
                shown, law = look(0, style.target_colors(1)[0]), laws[across & (laws["y"] == name)]
                _plot_quantity(ax, sized_fits, name, law, shown, "each at its own target")
            else:
                _plot_targets(ax, sized_fits, name, laws)
            style.log_axis(ax, "y", label)
            style.legend_right(ax)
        sizes = sorted({size for size, _ in sized_fits})
        style.size_axis(axes[-1], sizes)
    return figure


def _plot_targets(
    ax: Axes, sized_fits: Sequence[tuple[float, FitResult]], name: str, laws: pd.DataFrame
) -> None:
    targets = sorted({fit.target_loss for _, fit in sized_fits})
    for i, target in enumerate(targets):
        fits = [(size, fit) for size, fit in sized_fits if fit.target_loss == target]
        shown = look(i, style.target_colors(len(targets))[i])
        of_target = laws[(laws["y"] == name) & (laws["target_loss"] == target)]
        _plot_quantity(ax, fits, name, of_target, shown, f"target {target:.3g}")


def _plot_quantity(
    ax: Axes,
    sized_fits: Sequence[tuple[float, FitResult]],
    name: str,
    laws: pd.DataFrame,
    shown: dict[str, Any],
    words: str,
) -> None:
    known = [(size, fit) for size, fit in sized_fits if getattr(fit, name) is not None]
    law = laws[laws["exponent"].notna()]
    if len(law):
        row = law.iloc[0].to_dict()
        dense = np.geomspace(min(s for s, _ in known), max(s for s, _ in known), 50)
        ax.plot(dense, law_curve(row, dense), color=shown["color"], ls=shown["ls"], lw=1.2)
        words += f"\nexponent {law_interval(row)}"
    if known:
        values = np.array([getattr(fit, name) for _, fit in known])
        bounds = [fit.ci95.get(name, (None, None)) for _, fit in known]
        ends = np.array([[np.nan if end is None else end for end in pair] for pair in bounds])
        bars = np.nan_to_num(np.maximum([values - ends[:, 0], ends[:, 1] - values], 0.0))
        ax.errorbar(
            [size for size, _ in known], values, bars, **{**shown, "ls": ""}, label=words,
            elinewidth=1.2, capsize=2.5, zorder=3,
        )  # fmt: skip
    if name != "critical_batch_size":
        return
    for size, fit in sized_fits:
        for bound, arrow in ((fit.at_least, "^"), (fit.at_most, "v")):
            if fit.critical_batch_size is None and bound is not None:
                ax.plot(size, bound, ls="", marker=arrow, ms=8, color=shown["color"], mfc="white")


def plot_loss_against_model_size(laws: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Least loss after equal examples against model size, a colour a budget, with its power law.

    laws: rows of one family with y = loss, x = model_size and examples; points: columns examples,
    model_size, loss.
    """
    with style.house_style():
        figure, ax = style.new_axes(4.6)
        budgets = sorted(points["examples"].unique())
        for i, budget in enumerate(budgets):
            of_budget = points[points["examples"] == budget]
            shown = ordered_look(i, len(budgets))
            law = laws[(laws["examples"] == budget) & laws["exponent"].notna()]
            label = style.number(budget)
            if len(law):
                row = law.iloc[-1].to_dict()  # with a free floor where there is one
                dense = np.geomspace(
                    of_budget["model_size"].min(), of_budget["model_size"].max(), 50
                )
                ax.plot(dense, law_curve(row, dense), color=shown["color"], ls=shown["ls"], lw=1.2)
                label += f": exponent {law_interval({**row, 'exponent_low': np.nan})}"
            ax.plot(
                of_budget["model_size"],
                of_budget["loss"],
                **{**shown, "ls": ""},
                label=label,
                zorder=3,
            )
        style.size_axis(ax, points["model_size"].unique())
        style.value_axis(ax, "y", "held-out loss (best B, lr)", [points["loss"]])
        style.legend_beside(figure, ax, "examples seen")
    return figure


def section(study: Study, frames: Frames) -> Section | None:
    """Exponents of B_crit, S_min, E_min and the loss surface; what ten times the compute buys."""
    if study.is_about_losses:
        return None
    laws = frames["laws"]
    shown = laws[laws["y"].isin(["critical_batch_size", "min_steps", "min_examples"])]
    every = pd.concat([shown, laws[laws["form"] == "two_powers"]])
    known = every["exponent"].notna()
    rows = [
        [*group_cells(study, _group_of(law, study.group_by)), *_cells(law)]
        for law in every[known].to_dict("records")
    ]
    in_compute = laws[laws["x"] == "compute"]
    budgets = [
        _ten_times(own, group_label(family.others))
        for family in study.families
        if len(own := select(in_compute, family.others))
    ]
    unknown = _unknown(every[~known])
    if not (rows or budgets or unknown):
        return None
    head = ["of", "in", "at", "exponent", "leaving one out", "misfit", "points"]
    others = " for the others" if rows else ""
    return Section(
        "laws",
        "Laws",
        [*budgets, *([_HOW] if rows else [])],
        Table([*group_head(study), *head], rows) if rows else None,
        list_head=f"No law{others} (the table laws.csv has each):",
        listed=unknown,
    )


_HOW = Markup(
    "Power laws y &prop; x<sup>exponent</sup>; in the target loss above the irreducible loss. "
    "Intervals hold the noise of the seeds; the next column shows how far one point moves the "
    "exponent."
)


def _group_of(law: Mapping[Any, Any], group_by: Sequence[str]) -> Group:
    return {name: law[name] for name in group_by if pd.notna(law[name])}


def _cells(law: Mapping[Any, Any]) -> list[Cell]:
    fixed = f"target {rounded(law['target_loss'])}" if pd.notna(law["target_loss"]) else ""
    if law["definition"] == OWN_TARGETS:
        fixed = "each size at its own target"
    offset = ""
    if law["x"] == "target_loss" and law["offset_is"] != "zero":
        how = "fitted" if law["offset_is"] == "free" else "recorded"
        offset = f"irreducible loss {rounded(law['offset'])} ({how})"
    left_out = f", {law['n_left_out']} left out" if law["n_left_out"] else ""
    form = " (two powers)" if law["form"] == "two_powers" else ""
    return [
        Cell(_NAMES[law["y"]] + form, is_text=True),
        Cell(_NAMES[law["x"]], is_text=True),
        Cell(", ".join(text for text in (fixed, offset) if text), is_text=True),
        Cell(f"{law['exponent']:.2f}", _span(law["exponent_low"], law["exponent_high"])),
        Cell(_span(law["exponent_without_one_low"], law["exponent_without_one_high"])),
        Cell(percent(100 * law["rmse_log"]).lstrip("+")),
        Cell(f"{law['n']}{left_out}"),
    ]


def _span(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}" if np.isfinite([low, high]).all() else ""


def _unknown(laws: pd.DataFrame) -> list[str]:
    """Why there is no law, a sentence a reason; the table has them one by one."""
    sentences = []
    for reason, rows in laws.groupby("reason", sort=False):
        pairs = dict.fromkeys(zip(rows["y"], rows["x"], strict=True))
        names = listed([f"{_NAMES[y]} in {_NAMES[x]}" for y, x in pairs])
        sentences.append(f"{names}: {reason}.")
    return [text[0].upper() + text[1:] for text in sentences]


def _ten_times(laws: pd.DataFrame, label: str) -> str:
    """What ten times the compute should be spent on, or why that is not known."""
    parts, missing = [], []
    for law in laws[laws["y"] != "loss"].to_dict("records"):
        if pd.isna(law["exponent"]) or law["n"] < FEWEST_FOR_CLAIM:
            missing.append(law["reason"] or _few_budgets(law["n"]))
            continue
        low, high = (10 ** law[f"exponent_{end}"] for end in ("low", "high"))
        known = f" ({rounded(low)} to {rounded(high)})" if np.isfinite([low, high]).all() else ""
        parts.append(f"{_NAMES[law['y']]} times {rounded(10 ** law['exponent'])}{known}")
    text = "Ten times the compute: " + ", ".join(parts) + "." if parts else ""
    if missing:
        unknown = "; ".join(dict.fromkeys(missing))
        text += f"{' ' if text else ''}Not known for the rest" if parts else "Not known"
        text += f": {unknown}. Train beyond that edge to find out."
    return f"{label}: {text}" if label else text


def _few_budgets(n: int) -> str:
    return f"the best lies inside what was trained at {n} budgets, a claim needs {FEWEST_FOR_CLAIM}"


def caveats(study: Study, frames: Frames) -> list[tuple[Group | None, Caveat | str]]:
    return [(None, sentence) for sentence in law_caveats(study.families, frames["laws"])]


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    laws, losses = law_frame(
        study.fits, study.measured, study.families, study.frontier,
        n_bootstrap=study.n_bootstrap, seed=study.seed,
    )  # fmt: skip
    return {"laws": laws, "loss_by_size": losses}


TOPIC = Topic(
    "laws",
    scope="family",
    frames=_frames,
    drawings=drawings,
    section=section,
    caveats=caveats,
)
