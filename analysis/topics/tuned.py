"""How do the other tuned hyperparameters move with the batch size? Their best values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.tooltips import tell
from analysis.groups import group_label, select, their_name
from analysis.measure.model_sizes import MeasuredGroup
from analysis.study import Study
from analysis.topics.topic import Frames, Part, Section, Topic, hardest
from analysis.words import rounded, size_words
from scaling.schema import REACHED

TUNED_COLUMNS = [
    "target_loss", "batch_size", "hyperparameter", "value", "value_low", "value_high", "at_edge",
    "lr",
]  # fmt: skip


def best_tuned(study: Study) -> pd.DataFrame:
    """The best value of what is tuned beside lr, a row a group, target, batch size and name of it.

    Columns: group.., TUNED_COLUMNS. value_low, value_high: 95 % of the best values in resamples of
    the seeds, among the settings that were tried with all of them; NaN where it is no number or
    curves were not read. at_edge: the least or greatest of three values or more.
    """
    rows = []
    for group in study.measured:
        reached = group.frontier[group.frontier["outcome"] == REACHED]
        for row in reached.to_dict("records"):
            for number, name in enumerate(study.tuned[1:]):
                low, high = _interval(group, row, number)
                rows.append({
                    **group.group, "target_loss": row["target_loss"],
                    "batch_size": row["batch_size"], "hyperparameter": their_name(name),
                    "value": row[name], "value_low": low, "value_high": high,
                    "at_edge": bool(row[f"{name}_at_edge"]), "lr": row["lr"],
                })  # fmt: skip
    return pd.DataFrame(rows, columns=[*study.group_by, *TUNED_COLUMNS])


def _interval(group: MeasuredGroup, row: dict[Any, Any], number: int) -> tuple[float, float]:
    """Of the number-th tuned column beside lr."""
    size = row["batch_size"]
    tried = [cell.tuned[number] for cell in group.cells if cell.batch_size == size and cell.tuned]
    drawn = group.draws[size].best[group.targets.index(row["target_loss"])]
    drawn = drawn[drawn >= 0]
    values = pd.to_numeric(pd.Series(tried, dtype=object), errors="coerce").to_numpy(float)
    if not len(values) or np.isnan(values).any() or not len(drawn):
        return np.nan, np.nan
    low, high = np.percentile(values[drawn], [2.5, 97.5], method="nearest")
    return float(low), float(high)


def drawings(part: Part) -> Iterator[Drawing]:
    best = part.frames["best_tuned"]
    for name, rows in best.groupby("hyperparameter", sort=False):
        column = next(one for one in part.study.tuned[1:] if their_name(one) == name)
        tried = sorted(part.frames["steps_by_lr"][column].dropna().unique())
        yield Drawing(
            f"best_{name}_against_batch_size",
            f"Best {name} against batch size",
            f"The {name} with which the target was reached in the fewest steps, each at its own "
            "best learning rate; lines hold 95 % of the resamples of the seeds. The values that "
            "were tried stand equally far apart.",
            partial(plot_best_tuned, rows, tried, str(name)),
            "best_tuned",
            rows.reset_index(drop=True),
        )


def plot_best_tuned(best: pd.DataFrame, tried: Sequence[Any], name: str) -> Figure:
    """Best value of one hyperparameter against batch size, a series a target.

    best: rows of best_tuned of one group; tried: all values, in order. Hollow: at an end of them.
    """
    with style.house_style():
        figure, ax = style.new_axes(4.2)
        targets = sorted(best["target_loss"].unique(), reverse=True)
        for target, color in zip(targets, style.target_colors(len(targets)), strict=True):
            rows = best[best["target_loss"] == target].sort_values("batch_size")
            at = _places(rows["value"], tried)
            low, high = (_places(rows[f"value_{end}"], tried) for end in ("low", "high"))
            ax.vlines(rows["batch_size"], low, high, color=color, lw=1.2, alpha=0.6)
            ax.plot(rows["batch_size"], at, color=color, lw=1.2, label=f"target {target:.3g}")
            for hollow in (False, True):
                where = (rows["at_edge"].astype(bool) == hollow).to_numpy()
                face = "white" if hollow else color
                ax.plot(
                    rows["batch_size"][where], at[where], ls="", marker="o", ms=6, mec=color,
                    mfc=face, zorder=4,
                )  # fmt: skip
            tell(ax, rows, "batch_size", at, f"target {target:.3g}", also={"value": name})
        if best["at_edge"].any():
            ax.plot(
                [], [], ls="", marker="o", mec=style.INK, mfc="white",
                label="hollow: at an end of the values",
            )  # fmt: skip
        ax.set_yticks(range(len(tried)), [_words(value) for value in tried])
        ax.set_ylim(-0.5, len(tried) - 0.5)
        ax.set_ylabel(style.plain_text(name))
        style.batch_size_axis(ax, best["batch_size"])
        style.legend_below(figure, ax)
    return figure


def _places(values: pd.Series, tried: Sequence[Any]) -> np.ndarray:
    """Where values stand among those that were tried; NaN of what is none of them."""
    place = {value: number for number, value in enumerate(tried)}
    return np.array([place.get(value, np.nan) for value in values], float)


def section(study: Study, frames: Frames) -> Section | None:
    best = frames["best_tuned"]
    if best.empty:
        return None
    sentences = []
    for group in study.groups:
        rows = hardest(select(best, group))
        for name, of_name in rows.groupby("hyperparameter", sort=False):
            label = group_label(group)
            sentence = tuned_sentence(str(name), of_name.sort_values("batch_size"))
            sentences.append(f"{label}: {sentence}" if label else sentence)
    head = "Each setting of these counts at its own best learning rate."
    return Section("tuned", "Other tuned hyperparameters", [head, *sentences])


def tuned_sentence(name: str, rows: pd.DataFrame) -> str:
    """How the best values move from the smallest batch size to the largest.

    >>> tuned_sentence("beta2", pd.DataFrame({
    ...     "target_loss": 0.1, "batch_size": [8, 64, 512], "value": [0.99, 0.95, 0.9],
    ...     "at_edge": [True, False, False]}))
    'The best beta2 falls from 0.99 at batch size 8 to 0.9 at 512 (target loss 0.1); at batch size \
8 it is at an end of the values that were tried.'
    """
    values, sizes = rows["value"].tolist(), rows["batch_size"].tolist()
    ends = f"{size_words(sizes[0])} to {{}} at {size_words(sizes[-1])}"
    numeric = all(isinstance(value, int | float | np.number) for value in values)
    steps = np.diff(np.array(values, float)) if numeric else np.array([1.0, -1.0])
    if len(set(values)) == 1:
        text = f"is {_words(values[0])} at every batch size"
    elif (steps >= 0).all() or (steps <= 0).all():
        verb = "rises" if steps.sum() > 0 else "falls"
        text = f"{verb} from {_words(values[0])} at batch size {ends.format(_words(values[-1]))}"
    else:
        pairs = zip(values, sizes, strict=True)
        of = ", ".join(f"{_words(value)} at batch size {size_words(size)}" for value, size in pairs)
        text = f"moves in no one direction: {of}"
    target = rounded(rows["target_loss"].iloc[0])
    at_edge = rows.loc[rows["at_edge"].astype(bool), "batch_size"]
    where = ", ".join(size_words(size) for size in at_edge)
    edge = f"; at batch size {where} it is at an end of the values that were tried"
    return f"The best {name} {text} (target loss {target}){edge if where else ''}."


def _words(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


TOPIC = Topic(
    "tuned",
    scope="group",
    frames=lambda study, _: {"best_tuned": best_tuned(study)},
    drawings=drawings,
    section=section,
)
