"""Which batch size and lr end lowest after D examples? Of tables with one final loss a run.

That is another question than the steps to a target: a small batch reaches every target with few
examples, but has to be tuned for its many steps; after D examples some batch size ends lowest, and
which one moves with D.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import bars_of, explain_hollow, ordered_look, plot_points
from analysis.figures.tooltips import tell
from analysis.fit.length_laws import BEST, LENGTH_LAW_COLUMNS, length_laws, predict_law
from analysis.groups import group_label, listed, select
from analysis.measure.best_batch_size import best_batch_sizes, length_frame
from analysis.measure.model_sizes import Family
from analysis.study import Study, join
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
from analysis.words import (
    between,
    bracketed,
    law_interval,
    percent,
    rounded,
    short_number,
    size_words,
)

_SYMBOLS = {"batch_size": "B", "examples": "D", "model_size": "N"}
_LENGTH = "training length D (examples)"


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    groups = [group for group in study.measured if group.final_losses]
    if not groups:
        return {}
    lengths = join([length_frame(of.final_losses, of.group) for of in groups])
    best = join([best_batch_sizes(of.final_losses, of.group) for of in groups])
    laws = [_laws_of(family, lengths, best) for family in study.families]
    return {"loss_by_length": lengths, "best_batch_size": best, "length_laws": join(laws)}


def _laws_of(family: Family, lengths: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    parts = [
        pd.concat(
            [
                select(frame, member.group).assign(model_size=member.model_size or 0.0)
                for member in family.members
            ]
        )
        for frame in (lengths, best)
    ]
    return length_laws(*parts).assign(**family.others)


def drawings(part: Part) -> Iterator[Drawing]:
    if "loss_by_length" not in part.frames:
        return
    assert part.family
    best, laws = part.frames["best_batch_size"], part.frames["length_laws"]
    series = [
        (size or "best batch size", select(best, member.group), float(member.model_size or 0))
        for member, size in zip(part.family.members, part.family.labels, strict=True)
    ]
    if best["examples"].nunique() > 1:
        yield Drawing(
            "best_batch_size_against_length",
            "Best batch size and learning rate against training length",
            "Of each training length the batch size that ends with the least loss, and its "
            "learning rate, between those tried; lines are the power laws. Hollow: at an edge of "
            "what was tried.",
            partial(plot_best, series, laws[laws["at"] == BEST]),
            "best_batch_size",
            best,
        )
    for member, size in zip(part.family.members, part.family.labels, strict=True):
        rows = select(part.frames["loss_by_length"], member.group)
        yield Drawing(
            "loss_against_batch_size" + (f"_{size.replace(' ', '')}" if size else ""),
            "Final loss against batch size" + (f", model size {size}" if size else ""),
            "A line a training length: the least final loss over the learning rates, with 95 % "
            "intervals where there are 3 seeds or more. Stars are the best batch sizes. Hollow: "
            "the best learning rate is at the edge of those tried.",
            partial(plot_losses, rows, select(best, member.group)),
            "loss_by_length",
            rows,
            folded=member is not part.family.members[0],
        )


def plot_losses(rows: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Final loss against batch size, a line a training length.

    rows: measure.best_batch_size.length_frame of one group; best: best_batch_sizes of it.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        lengths = sorted(rows["examples"].unique())
        for i, length in enumerate(lengths):
            of_length = rows[rows["examples"] == length].sort_values("batch_size")
            shown = ordered_look(i, len(lengths))
            color = shown["color"]
            ax.plot(of_length["batch_size"], of_length["loss"], color=color, ls=shown["ls"], lw=1.1)
            plot_points(ax, of_length, "loss", shown)
            ax.plot([], [], **shown, label=style.number(length))
            star = best[(best["examples"] == length) & ~best["batch_size_at_edge"].astype(bool)]
            ax.plot(star["batch_size_refined"], star["loss"], ls="", marker="*", ms=13,
                    color=color, mec="white", zorder=4)  # fmt: skip
        explain_hollow(ax, rows)
        style.batch_size_axis(ax, rows["batch_size"])
        style.value_axis(ax, "y", "final held-out loss", [rows["loss"]])
        style.legend_beside(figure, ax, "examples D")
    return figure


def plot_best(series: list[tuple[str, pd.DataFrame, float]], laws: pd.DataFrame) -> Figure:
    """Best batch size and lr against training length, a panel each, with their power laws.

    series: (label, best_batch_sizes of one model size, that size); laws: of length_laws at the best
    batch size, those in D and N where there are such.
    """
    with style.house_style():
        figure, axes = style.new_panels(2, 6.4)
        for ax, y in zip(axes, ("batch_size", "lr"), strict=True):
            law = _widest(laws[(laws["y"] == y) & laws["exponent"].notna()])
            for i, (label, rows, model_size) in enumerate(series):
                shown = ordered_look(i, len(series))
                hollow = rows["batch_size_at_edge"].astype(bool)
                if y == "lr":
                    hollow = hollow | rows["lr_at_edge"].astype(bool)
                    rows = rows.drop(columns="lr").rename(columns={"lr_refined": "lr"})
                else:
                    rows = rows.assign(batch_size=rows["batch_size_refined"])
                _plot_points(ax, rows, "examples", y, hollow, shown)
                ax.plot([], [], **shown, label=label)
                if len(law) and rows["examples"].nunique() > 1:
                    x = rows["examples"].sort_values().to_numpy(float)
                    line = predict_law(law, {"examples": x, "model_size": 0 * x + model_size})
                    ax.plot(x, line, color=shown["color"], ls=shown["ls"], lw=1.1)
            style.log_axis(ax, "y", "best batch size" if y == "batch_size" else "best lr")
        style.log_axis(axes[-1], "x", _LENGTH)
        style.legend_below(figure, axes[0], 5)
    return figure


def _plot_points(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, hollow: pd.Series, shown: dict[str, Any]
) -> None:
    """With intervals where the frame has them, and what is known of each."""
    if f"{y}_low" in rows:
        ax.errorbar(rows[x], rows[y], bars_of(rows, y), ls="", color=shown["color"], lw=1)
    hollow = hollow.astype(bool)
    for where, face in ((~hollow, shown["color"]), (hollow, "white")):
        ax.plot(rows.loc[where, x], rows.loc[where, y], **{**shown, "ls": ""}, mfc=face, zorder=3)
    tell(ax, rows, x, y)


def _widest(laws: pd.DataFrame) -> pd.DataFrame:
    """The rows of the law in D and N, if there is one, else of that in D."""
    sized = laws[laws["law"].isin(laws.loc[laws["x"] == "model_size", "law"])]
    return sized if len(sized) else laws


def section(study: Study, frames: Frames) -> Section | None:
    if "best_batch_size" not in frames:
        return None
    best, laws = frames["best_batch_size"], frames["length_laws"]
    rows = []
    for group in study.groups:
        of_group = select(best, group).to_dict("records")
        name = [replace(cell, rows=len(of_group)) for cell in group_cells(study, group)]
        rows += [[*([] if i else name), *_cells(row)] for i, row in enumerate(of_group)]
    head = ["examples D", "best batch size", "loss within 0.5 %", "within 1 %", "learning rate"]
    sentences = law_sentences(laws)
    return Section(
        "length",
        "Training length",
        [
            "Which batch size ends with the least loss after D examples, each run with a schedule "
            "made for its length, and between which batch sizes the loss is within 0.5 % and 1 % "
            "of the least. The critical batch size answers another question: what a larger batch "
            "costs on the way to one loss."
        ],
        Table([*group_head(study), *head, "loss"], rows) if rows else None,
        notes=_notes(frames["loss_by_length"], best),
        list_head="Power laws (95 % intervals from the scatter about the law):",
        listed=sentences,
    )


def _notes(lengths: pd.DataFrame, best: pd.DataFrame) -> list[str]:
    notes = []
    if (best["batch_size_at_edge"] | best["lr_at_edge"]).any():
        notes.append("(edge): the smallest or largest that was tried.")
    error = float(((lengths["loss_high"] - lengths["loss_low"]) / (2 * lengths["loss"])).median())
    if error > _RESOLVED:  # not of NaN, where there are too few seeds to know
        notes.append(
            f"The seeds leave losses uncertain by {100 * error:.2g} % (95 %), so that batch sizes "
            "within 0.5 % and 1 % are not told from others; the interval of the best one allows "
            "for it."
        )
    return notes


_MOST_LINES = 6
_RESOLVED = 0.01  # the wider of the two ranges about the least loss


def length_lines(frames: Frames) -> list[str]:
    """Of one group a line a length, the longest last: which batch size and lr end lowest."""
    best = frames.get("best_batch_size", pd.DataFrame())
    if best.empty or best["examples"].duplicated().any():  # several groups: the table has them
        return []
    return [
        f"after {short_number(row['examples'])} examples: batch size "
        f"{size_words(row['batch_size_refined'])}"
        f"{bracketed(between(row['batch_size_low'], row['batch_size_high']))} ends lowest, with a "
        f"loss of {row['loss']:.4g} at lr {rounded(row['lr_refined'])}"
        f"{' (the smallest or largest batch size tried)' if row['batch_size_at_edge'] else ''}"
        for row in best.sort_values("examples").tail(_MOST_LINES).to_dict("records")
    ]


def _cells(row: Mapping[Any, Any]) -> list[Cell]:
    edge = " (edge)"
    size = size_words(row["batch_size_refined"])
    return [
        Cell(short_number(row["examples"])),
        Cell(
            size + (edge if row["batch_size_at_edge"] else ""),
            between(row["batch_size_low"], row["batch_size_high"]),
        ),
        Cell(_range(row, "half_percent")),
        Cell(_range(row, "one_percent")),
        Cell(rounded(row["lr_refined"]) + (edge if row["lr_at_edge"] else "")),
        Cell(f"{row['loss']:.4g}"),
    ]


def _range(row: Mapping[Any, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return between(low, high) or "all tried"


def law_sentences(laws: pd.DataFrame) -> list[str]:
    """A sentence a law: "best batch size ~ D^0.61 (0.48 to 0.74); 17 points, misfit 21 %"."""
    others = [name for name in laws if name not in LENGTH_LAW_COLUMNS]
    sentences = []
    for _, rows in laws.groupby([*others, "law", "at"], sort=False, dropna=False):
        first: Mapping[Any, Any] = rows.iloc[0].to_dict()
        label = group_label({str(name): first[str(name)] for name in others})
        what = "best batch size" if first["y"] == "batch_size" else "best learning rate"
        what = f"{label + ': ' if label else ''}{what}"
        what += "" if first["at"] == BEST else " of every batch size"
        if first["reason"]:
            names = listed([_SYMBOLS[x] for x in rows["x"]])
            sentences.append(f"{what} in {names}: no law, as {first['reason']}.")
            continue
        powers = " ".join(
            f"{_SYMBOLS[row['x']]}^{law_interval(row)}" for row in rows.to_dict("records")
        )
        misfit = percent(100 * first["rmse_log"]).lstrip("+")
        sentences.append(f"{what} ~ {powers}; {first['n']} points, misfit {misfit}.")
    return sentences


TOPIC = Topic("training_length", scope="family", frames=_frames, drawings=drawings, section=section)
