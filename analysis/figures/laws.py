"""How the answer moves with model size: measured points, power laws, curves of all sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.series import look, ordered_look
from analysis.fit.fitting import FitResult
from analysis.fit.law_fit import predict
from analysis.fit.scaling_laws import OWN_TARGETS

_QUANTITIES = (
    ("critical_batch_size", "critical batch size"),
    ("min_steps", r"fewest steps $S_\mathrm{min}$"),
    ("min_examples", r"fewest examples $E_\mathrm{min}$"),
)


def law_curve(law: Mapping[Any, Any], x: np.ndarray) -> np.ndarray:
    """y of a row of the laws at x; see scaling_laws.law_frame."""
    parameters = np.array([np.log(law["coefficient"]), law["exponent"], law["offset"]])
    if law["form"] != "power":
        return predict(law["form"], parameters, x)
    if law["x"] == "target_loss":
        return predict("power", parameters, x - law["offset"])
    return law["offset"] + predict("power", parameters, x)


def exponent_words(law: Mapping[Any, Any]) -> str:
    """ "exponent 0.52 (0.40 to 0.63)"."""
    return f"exponent {_with_interval(law)}"


def _with_interval(law: Mapping[Any, Any]) -> str:
    digits = 2 if abs(law["exponent"]) >= 0.1 else 3
    text = f"{law['exponent']:.{digits}f}"
    if np.isfinite(law["exponent_low"]) and np.isfinite(law["exponent_high"]):
        text += f" ({law['exponent_low']:.{digits}f} to {law['exponent_high']:.{digits}f})"
    return text


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
        own = [(size, fit) for size, fit in sized_fits if fit.target_loss == target]
        shown = look(i, style.target_colors(len(targets))[i])
        of_target = laws[(laws["y"] == name) & (laws["target_loss"] == target)]
        _plot_quantity(ax, own, name, of_target, shown, f"target {target:.3g}")


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
        words += f"\n{exponent_words(row)}"
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
            own = points[points["examples"] == budget]
            shown = ordered_look(i, len(budgets))
            law = laws[(laws["examples"] == budget) & laws["exponent"].notna()]
            label = style.number(budget)
            if len(law):
                row = law.iloc[-1].to_dict()  # with a free floor where there is one
                dense = np.geomspace(own["model_size"].min(), own["model_size"].max(), 50)
                ax.plot(dense, law_curve(row, dense), color=shown["color"], ls=shown["ls"], lw=1.2)
                label += f": {exponent_words({**row, 'exponent_low': np.nan})}"
            ax.plot(own["model_size"], own["loss"], **{**shown, "ls": ""}, label=label, zorder=3)
        style.size_axis(ax, points["model_size"].unique())
        style.value_axis(ax, "y", "held-out loss (best B, lr)", [points["loss"]])
        style.legend_beside(figure, ax, "examples seen")
    return figure


def draw_target_laws(
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
        return rf"$\propto L^k$, $k$ = {_with_interval(law)}"
    how = "fitted" if law["offset_is"] == "free" else "recorded"
    floor = rf"$L_\infty$ = {style.number(law['offset'])} {how}"
    return rf"$\propto (L - L_\infty)^k$, $k$ = {_with_interval(law)}, {floor}"
