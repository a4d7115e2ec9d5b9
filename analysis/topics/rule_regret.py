"""What does a rule for the learning rate cost, instead of tuning it at each batch size?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import look
from analysis.figures.tooltips import tell
from analysis.groups import prefixed, select
from analysis.measure.model_sizes import MeasuredGroup
from analysis.measure.rule_regret import (
    OUTSIDE,
    REGRET_COLUMNS,
    RUN,
    LrRule,
    Tried,
    default_reference,
    regret_rows,
)
from analysis.read.recorded_rules import FOLLOWS, NOTHING, RecordedRule, recorded_rules
from analysis.study import Study
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
    hardest,
)
from analysis.words import bracketed, rounded, size_words
from scaling.rules import EXPONENTS
from scaling.schema import CENSORED, DIVERGED, target_label

_IDENTITY = ["rule", "exponent", "batch_scale", "reference_batch_size", "reference_lr"]
_NAMES = {"sqrt": "square-root"}  # the others as they are


def regret_frame(study: Study) -> pd.DataFrame:
    """The regret of rules at every batch size whose lr was tuned; see measure.rule_regret.

    Rules that made trials of the study, and constant, sqrt and linear from their batch size,
    otherwise from the smallest with a best lr inside of those tried. Columns: group..,
    REGRET_COLUMNS. No rows where more than the lr was tuned, or runs have one loss each.
    """
    recorded = recorded_rules(study.trials)
    rows: list[dict[str, Any]] = []
    for group in study.measured if len(study.tuned) == 1 else ():
        if group.final_losses or select(study.cells, group.group)["lr"].isna().all():
            continue
        tuned = next((one for one in study.measured if _is_base(one, group)), group)
        for k, target in enumerate(group.targets):
            pair = [_tried(study, one, target) for one in (group, tuned)]
            if pair[0] is None or pair[1] is None:
                continue
            own = group.group.get(FOLLOWS, NOTHING)
            rules = _rules(pair[0], [rule for rule in recorded if rule.follows == own])
            for rule, is_recorded in rules:
                other = pair[1] if is_recorded else pair[0]
                of_rule = regret_rows(rule, pair[0], other)
                place = {**group.group, "target_loss": group.targets[k]}
                rows += [place | row for row in of_rule]
    return pd.DataFrame(rows, columns=[*study.group_by, *REGRET_COLUMNS])


def _is_base(other: MeasuredGroup, group: MeasuredGroup) -> bool:
    """It differs from the group only in that nothing but lr follows the batch size."""
    return FOLLOWS in group.group and other.group == group.group | {FOLLOWS: NOTHING}


def _tried(study: Study, group: MeasuredGroup, target: float) -> Tried | None:
    if target not in group.targets:
        return None
    cells = at_target(select(study.cells, group.group), target)
    return Tried(cells, at_target(group.frontier, target), group.draws, group.targets.index(target))


def _rules(tried: Tried, recorded: Sequence[RecordedRule]) -> list[tuple[LrRule, bool]]:
    """Those recorded, then the default ones; whether each is recorded."""
    rules = [
        LrRule(rule.name, rule.batch_size, rule.exponent, rule.batch_scale, rule.lr)
        for rule in recorded
    ]
    reference = rules[0].batch_size if rules else default_reference(tried.frontier)
    if reference is None:
        return []
    names = {rule.name for rule in rules}
    defaults = [LrRule(name, reference) for name in EXPONENTS if name not in names]
    return [(rule, True) for rule in rules] + [(rule, False) for rule in defaults]


def rule_name(row: Mapping[Any, Any]) -> str:
    """How a row's rule is called in sentences, "square root" or "power (exponent 0.3)"."""
    name = _NAMES.get(row["rule"], str(row["rule"]))
    if row["rule"] == "power":
        return f"{name} (exponent {row['exponent']:g})"
    if row["rule"] == "saturating":
        return f"{name} (batch scale {row['batch_scale']:g})"
    return name


def section(study: Study, frames: Frames) -> Section | None:
    """At each group's hardest target: a sentence and a row a rule, a column a batch size."""
    regrets = frames["rule_regret"]
    if study.is_about_losses or regrets.empty:
        return None
    sentences, rows = [], []
    sizes = sorted(regrets["batch_size"].unique())
    for group in study.groups:
        of_group = hardest(select(regrets, group))
        for _, of_rule in of_group.groupby(_IDENTITY, sort=False, dropna=False):
            if said := _sentence(of_rule):
                sentences.append(prefixed(group, said))
            of_size = {row["batch_size"]: row for row in of_rule.to_dict("records")}
            first = next(iter(of_size.values()))
            name = f"{rule_name(first)} from {size_words(first['reference_batch_size'])}"
            cells = [_cell(of_size[size]) if size in of_size else Cell("") for size in sizes]
            rows.append([*group_cells(study, group), Cell(name, is_text=True), *cells])
    head = [*group_head(study), "rule", *map(size_words, sizes)]
    return Section(
        "rule-regret", "Rules instead of tuning", [_INTRO], Table(head, rows),
        list_head="At the largest batch size at which it is known:", listed=sentences,
    )  # fmt: skip


_INTRO = (
    "A rule takes the best learning rate of one batch size and moves it by a formula. The extra "
    "steps are those to the hardest target, over the fewest of all learning rates tried at that "
    "batch size (95 % interval): a column for each."
)


def _sentence(rows: pd.DataFrame) -> str:
    """Of one rule, at the largest batch size at which its steps are known."""
    others = rows[rows["batch_size"] != rows["reference_batch_size"]]
    known = others[others["regret"].notna() | (others["how"] == DIVERGED)]
    if known.empty:
        return ""
    row = known.sort_values("batch_size").to_dict("records")[-1]
    start, size = (size_words(row[name]) for name in ("reference_batch_size", "batch_size"))
    text = f"With the {rule_name(row)} rule from batch size {start}, batch size {size} "
    if row["how"] == DIVERGED:
        return text + f"diverges (lr {row['lr']:.3g})."
    if 100 * row["regret"] < 0.5:
        high = row["regret_high"]
        most = f" (at most {_number(high)} % more)" if np.isfinite(high) else ""
        return text + f"takes as many steps as with its own best lr{most}."
    text += f"takes {_number(row['regret'])} % more steps{bracketed(_interval(row))}"
    return text + " than with its own best lr."


def _interval(row: Mapping[Any, Any]) -> str:
    """In percent: "9 to 30", "at least 9" or nothing."""
    low, high = row["regret_low"], row["regret_high"]
    if np.isnan(low):
        return ""
    return f"{_number(low)} to {_number(high)}" if np.isfinite(high) else f"at least {_number(low)}"


def _number(share: float) -> str:
    """In percent, without the sign."""
    return rounded(round(100 * share, 1 if share < 0.1 else 0))


def _cell(row: Mapping[Any, Any]) -> Cell:
    text = f"{_number(row['regret'])} %" if np.isfinite(row["regret"]) else str(row["how"])
    if row["how"] == CENSORED:
        text = "not reached"
    if row["how"] == OUTSIDE:
        text = "lr not tried"
    return Cell(text, _interval(row))


def drawings(part: Part) -> Iterator[Drawing]:
    regrets = part.frames["rule_regret"]
    for i, target in enumerate(part.targets):
        rows = at_target(regrets, target)
        if rows["regret"].notna().any():
            yield Drawing(
                "rule_regret" + (f"_{target_label(target)}" if i else ""),
                f"Extra steps of rules for the learning rate, target {target:.3g}",
                "Steps to the target at the learning rate that a rule gives, over the fewest of "
                "all learning rates tried at that batch size. Bands: 95 %. A line ends where the "
                "rule's learning rate diverged or was not tried. Hollow: interpolated between "
                "two learning rates.",
                partial(plot_regret, rows),
                "rule_regret",
                rows,
                folded=i > 0,
            )


def plot_regret(regrets: pd.DataFrame) -> Figure:
    """Regret in % against batch size, a line a rule with its band; rows of one group and target."""
    with style.house_style():
        figure, ax = style.new_axes(4.6)
        series = list(regrets.groupby(_IDENTITY, sort=False, dropna=False))
        for i, (_, rows) in enumerate(series):
            rows = rows.dropna(subset="regret").sort_values("batch_size")
            if rows.empty:
                continue
            shown = look(i, style.target_colors(len(series))[i])
            values = 100 * rows[["regret", "regret_low", "regret_high"]]
            band = values["regret_low"], values["regret_high"]
            ax.fill_between(rows["batch_size"], *band, color=shown["color"], alpha=0.15, lw=0)
            row = rows.to_dict("records")[0]
            name = f"{rule_name(row)}, from {size_words(row['reference_batch_size'])}"
            ax.plot(rows["batch_size"], values["regret"], **{**shown, "marker": ""})
            run = (rows["how"] == RUN).to_numpy()
            for where, face in ((run, shown["color"]), (~run, "white")):
                points = {**shown, "ls": "", "mfc": face}
                ax.plot(rows["batch_size"][where], values["regret"][where], **points, zorder=3)
            ax.plot([], [], **shown, label=name)
            tell(ax, rows, "batch_size", values["regret"], name)
        ax.axhline(0, color=style.INK, lw=0.8, ls=(0, (2, 3)))
        style.batch_size_axis(ax, regrets["batch_size"])
        most = 100 * float(np.nanmax(regrets[["regret", "regret_high"]].to_numpy(float)))
        ax.set_yscale("symlog", linthresh=10)
        ax.set_ylim(-2, max(10.0, 1.3 * most))
        ax.yaxis.set_major_locator(FixedLocator([0, 5, 10, 20, 50, *10.0 ** np.arange(2, 9)]))
        ax.yaxis.set_major_formatter(lambda value, _: style.number(value))
        ax.set_ylabel("extra steps (%)")
        style.legend_below(figure, ax)
    return figure


TOPIC = Topic(
    "rule_regret",
    scope="group",
    frames=lambda study, _: {"rule_regret": regret_frame(study)},
    drawings=drawings,
    section=section,
)
