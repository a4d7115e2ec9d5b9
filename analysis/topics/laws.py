"""How does the answer move with the target and with the model size? Power laws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.caveats import Caveat
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import Look, bars, look, ordered_look
from analysis.figures.tooltips import tell
from analysis.fit.compute_frontier import ten_times_words
from analysis.fit.fit_caveats import law_caveats
from analysis.fit.fit_result import FitResult
from analysis.fit.scaling_laws import OWN_TARGETS, law_curve, law_frame
from analysis.groups import group_label, listed, select
from analysis.study import Group, Study
from analysis.topics.topic import (
    Cell,
    Frames,
    Part,
    Section,
    Table,
    Topic,
    group_cells,
    group_head,
)
from analysis.words import law_interval, percent, rounded

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
    sized = part.sized_fits
    if len({size for size, _ in sized}) < 2:
        return
    laws = part.frames["laws"]
    in_size = laws[laws["x"] == "model_size"]
    if any(fit.critical_batch_size is not None for _, fit in sized):
        yield Drawing(
            "laws_in_model_size",
            "Critical batch size, steps and examples against model size",
            "Each model size's fit with its 95 % interval, and power laws through the fits (the "
            "interval of an exponent reflects the noise of the seeds). Hollow arrows are bounds "
            "where the critical batch size is not identified; the law leaves them out.",
            partial(plot_laws_in_model_size, sized, in_size),
            "laws",
            laws,
        )
    points = part.frames["loss_by_size"]
    if len(points):
        yield Drawing(
            "loss_against_model_size",
            "Held-out loss against model size at equal examples",
            "The lowest mean loss over batch sizes and learning rates after the same number of "
            "examples, with a power law for each number (table: laws).",
            partial(
                plot_loss_against_model_size,
                in_size[(in_size["y"] == "loss") & in_size["examples"].notna()],
                points,
            ),
            "loss_by_size",
            points,
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
    known = sorted({fit.target_loss for _, fit in sized_fits})
    targets = [None] if across.any() else known
    colors = style.target_colors(len(targets))
    with style.house_style():
        figure, axes = style.new_panels(3, 8.6)
        for ax, (name, label) in zip(axes, _QUANTITIES, strict=True):
            for i, target in enumerate(targets):
                fits = [(n, fit) for n, fit in sized_fits if target in (None, fit.target_loss)]
                at = across if target is None else laws["target_loss"] == target
                words = "each at its own target" if target is None else f"target {target:.3g}"
                law = laws[at & (laws["y"] == name)]
                _plot_quantity(ax, fits, name, law, look(i, colors[i]), words)
            style.log_axis(ax, "y", label)
            style.legend_right(ax)
        style.size_axis(axes[-1], {size for size, _ in sized_fits})
    return figure


def _plot_quantity(
    ax: Axes,
    sized_fits: Sequence[tuple[float, FitResult]],
    name: str,
    laws: pd.DataFrame,
    shown: Look,
    words: str,
) -> None:
    known = [(size, fit) for size, fit in sized_fits if getattr(fit, name) is not None]
    sizes = pd.Series([size for size, _ in known], dtype=float)
    law = laws[laws["exponent"].notna()]
    if len(law):
        words += f"\nexponent {law_interval(_plot_law(ax, law.iloc[0], sizes, shown))}"
    if known:
        values = pd.Series([getattr(fit, name) for _, fit in known], dtype=float)
        bounds = [fit.ci95.get(name, (None, None)) for _, fit in known]
        ends = pd.DataFrame(bounds, columns=pd.Index(["low", "high"]), dtype=float)
        ax.errorbar(
            sizes, values, bars(values, ends["low"], ends["high"]), **{**shown, "ls": ""},
            label=words, elinewidth=1.2, capsize=2.5, zorder=3,
        )  # fmt: skip
        tell(ax, _told(known, name, ends), "model_size", "value", also={"value": _NAMES[name]})
    if name != "critical_batch_size":
        return
    for size, fit in sized_fits:
        for bound, arrow in ((fit.at_least, "^"), (fit.at_most, "v")):
            if fit.critical_batch_size is None and bound is not None:
                ax.plot(size, bound, ls="", marker=arrow, ms=8, color=shown["color"], mfc="white")


def _told(known: Sequence[tuple[float, FitResult]], name: str, ends: pd.DataFrame) -> pd.DataFrame:
    rows = [(size, fit.target_loss, getattr(fit, name)) for size, fit in known]
    frame = pd.DataFrame(rows, columns=pd.Index(["model_size", "target_loss", "value"]))
    return frame.assign(value_low=ends["low"], value_high=ends["high"])


def _plot_law(ax: Axes, law: pd.Series, sizes: pd.Series, shown: Look) -> dict[Any, Any]:
    """The law's line over these model sizes; returns its row."""
    row = law.to_dict()
    dense = np.geomspace(sizes.min(), sizes.max(), 50)
    ax.plot(dense, law_curve(row, dense), color=shown["color"], ls=shown["ls"], lw=1.2)
    return row


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
            sizes, shown = of_budget["model_size"], ordered_look(i, len(budgets))
            law = laws[(laws["examples"] == budget) & laws["exponent"].notna()]
            label = style.number(budget)
            if len(law):  # with a free floor where there is one
                row = _plot_law(ax, law.iloc[-1], sizes, shown)
                label += f": exponent {law_interval({**row, 'exponent_low': np.nan})}"
            ax.plot(sizes, of_budget["loss"], **{**shown, "ls": ""}, label=label, zorder=3)
            tell(ax, of_budget, "model_size", "loss")
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
        ten_times_words(of_family, group_label(family.others))
        for family in study.families
        if len(of_family := select(in_compute, family.others))
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
        list_head=f"No law{others} (see laws.csv for each of them):",
        listed=unknown,
    )


_HOW = Markup(
    "Power laws y &prop; x<sup>exponent</sup>; in the target loss above the irreducible loss. "
    "Intervals reflect the noise of the seeds; the next column shows how far leaving out one point "
    "moves the exponent."
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


def caveats(study: Study, frames: Frames) -> list[tuple[Group | None, Caveat | str]]:
    return [(None, sentence) for sentence in law_caveats(study.families, frames["laws"])]


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    laws, losses = law_frame(
        study.fits, study.measured, study.families, study.frontier,
        n_bootstrap=study.n_bootstrap, seed=study.seed,
    )  # fmt: skip
    return {"laws": laws, "loss_by_size": losses}


TOPIC = Topic(
    "laws", scope="family", frames=_frames, drawings=drawings, section=section, caveats=caveats
)
