"""The study's answer in plain words, for the terminal and the head of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.fit.fit_result import FitResult
from analysis.groups import group_label, listed, select, their_name
from analysis.measure.frontier import usable
from analysis.read.steps import NO_TARGET
from analysis.result import StudyResult
from analysis.topics.critical_batch_size import critical_words
from analysis.topics.final_loss import outcome_lead
from analysis.topics.recommendations import FAST, FEWEST_STEPS
from analysis.topics.training_length import length_lines
from analysis.topics.twice_the_compute import twice_lines
from analysis.words import USUAL, Units, between, bracketed, rounded, size_words, span_words

MEANING = {
    "economical": "20 % more examples than the fewest possible (a fifth of the critical batch "
    "size): choose it when compute is what you pay for.",
    "balanced": "Twice the fewest steps and twice the fewest examples (the critical batch size): "
    "where time and compute are worth the same to you.",
    FEWEST_STEPS: "20 % more steps than the fewest possible (five times the critical batch size). "
    "Larger batches save hardly any steps; whether they save time is unknown, because no steps "
    "were timed.",
    FAST: "The least time to the target of the batch sizes whose steps were timed: choose it when "
    "only time counts.",
}
_MOST_NAMED = 6  # groups in one sentence
TITLES = {FEWEST_STEPS: "fewest steps"}


@dataclass
class Option:
    """One named batch size, its numbers as text; name: as in tables, title: as it is read;
    batch_units, units: the batch size and the examples in units, "" without; tuned: values of what
    is tuned beside lr."""

    name: str
    title: str
    batch_size: str
    steps: str
    steps_range: str
    examples: str
    examples_range: str
    lr: str
    lr_range: str
    tuned: dict[str, str]
    extrapolated: bool
    meaning: str
    warning: str
    batch_units: str = ""
    units: str = ""


@dataclass
class Answer:
    """The answer for one target of one group."""

    group: str
    target: str
    goal: str
    share: str
    critical: str
    fit: FitResult
    options: list[Option] = field(default_factory=list)


def answers(result: StudyResult) -> list[Answer]:
    """An answer for each group and target: a group's headline first, then its hardest target."""
    entries = []
    for group in result.groups:
        trials = select(result.trials, group)
        first = result.headline(group)
        for fit in sorted(
            result.fits_of(group), key=lambda fit: (fit is not first, fit.target_loss)
        ):
            where = group | {"target_loss": fit.target_loss}
            rows = select(result.frames["recommendations"], where)
            sizes = select(result.frontier, where)["batch_size"]
            clock = select(result.frames["batch_size_choices"], where)
            entries.append(
                Answer(
                    group=group_label(group),
                    target=rounded(fit.target_loss),
                    goal=goal(rounded(fit.target_loss), result),
                    share=_share(fit.target_loss, trials),
                    critical=critical_words(fit, result.units),
                    fit=fit,
                    options=[
                        option_of(row, fit, sizes, clock, result.units, result.tuned[1:])
                        for row in rows.to_dict("records")
                    ],
                )
            )
    return entries


def harder_words(entries: list[Answer]) -> str:
    """ "not identified at the harder target 0.1", of the answers of one group."""
    harder = [a.target for a in entries if a.fit.target_loss < entries[0].fit.target_loss]
    if not harder:
        return ""
    return f"not identified at the harder target{'s' * (len(harder) > 1)} {listed(harder)}"


def not_identified(fit: FitResult) -> str:
    """What to do when there are no named batch sizes to give."""
    if fit.at_least is not None:
        advice = fit.next_step or "try larger batch sizes"
        return (
            f"Up to a batch size of about {size_words(fit.at_least)}, doubling the batch still "
            f"nearly halves the steps. To find where that ends, {advice}."
        )
    if fit.at_most is not None:
        advice = fit.next_step or "try smaller batch sizes"
        return (
            f"From a batch size of about {size_words(fit.at_most)} on, larger batches save "
            f"hardly any steps. Smaller batches would reach the target with fewer examples: to "
            f"find the knee, "
            f"{advice}."
        )
    return f"No batch size can be recommended: {fit.reason or 'there is no fit'}."


def overview(result: StudyResult) -> list[dict[str, str]]:
    """A row a group, as text: its headline's target, B_crit, S_min, E_min and best lr."""
    rows = []
    for group in result.groups:
        fit = result.headline(group)
        if fit is not None:
            row = overview_row(fit, result.frontier_of(fit), result.units)
            rows.append({"label": group_label(group)} | row)
    return rows


def overview_row(fit: FitResult, frontier: pd.DataFrame, units: Units = USUAL) -> dict[str, str]:
    """Target, B_crit, S_min, E_min and best lr of a fit, as text; frontier: its rows."""
    return {
        "target": rounded(fit.target_loss),
        "critical": critical_words(fit, units).replace("95 % interval ", ""),
        "min_steps": _with_interval(fit, "min_steps"),
        "min_examples": _with_interval(fit, "min_examples"),
        "best_lr": best_lr_words(frontier),
    }


def overview_lead(result: StudyResult) -> str:
    """One sentence: the critical batch size of each group, or how far they reach."""
    rows = overview(result)
    known = [row for row in rows if not row["critical"].startswith("not")]
    targets = {row["target"] for row in rows}
    of = goal(targets.pop(), result) if len(targets) == 1 else "its own target"
    start = f"To reach {of}, the critical batch size is "
    values = listed([f"{row['critical']} for {row['label']}" for row in known[:_MOST_NAMED]])
    if len(known) > _MOST_NAMED:
        values += f", and others (the table lists all {len(rows)} groups)"
    unknown = [row["label"] for row in rows if row not in known]
    if not known:
        return f"{start}not known for any of the {len(rows)} groups."
    rest = listed(unknown) if len(unknown) <= _MOST_NAMED else f"{len(unknown)} other groups"
    return f"{start}{values}{f'; it is not known for {rest}' if unknown else ''}."


def best_lr_words(frontier: pd.DataFrame) -> str:
    """ "0.005 at batch size 8, 0.02 at 256": the smallest and largest usable batch size."""
    points = usable(frontier).dropna(subset="lr").sort_values("batch_size")
    if points.empty:
        return "not known"
    ends = points.iloc[[0, -1] if len(points) > 1 else [0]]
    words = [
        f"{rounded(lr)} at {size_words(size)}" for lr, size in ends[["lr", "batch_size"]].to_numpy()
    ]
    return ", ".join(words)


def _with_interval(fit: FitResult, name: str) -> str:
    interval = between(*fit.ci95.get(name, (None, None)))
    value = rounded(getattr(fit, name))
    return f"{value}{bracketed(interval)}" if value else interval or "not known"


def goal(target: str, result: StudyResult) -> str:
    """What is to be reached; a table of steps may not say at which loss (it stands as 0)."""
    unnamed = result.curves.empty and target == rounded(NO_TARGET)
    return "the target" if unnamed else f"a held-out loss of {target}"


def answer_lines(result: StudyResult) -> list[str]:
    """Lines for a terminal, what the report's head says: the critical batch size and the named
    batch sizes of the headline's target, or a line a group."""
    entries = answers(result)
    if result.is_about_losses:
        return [outcome_lead(result)]
    if not entries:
        return ["no target was reached often enough for an answer"]
    first = entries[0]
    if len({answer.group for answer in entries}) > 1:
        return twice_lines(result, result.frames) + [
            f"{row['label']}: critical batch size {row['critical']} for "
            f"{goal(row['target'], result)}"
            for row in overview(result)
        ]
    units = result.units
    critical = f"critical batch size for {first.goal}: {first.critical}"
    harder = harder_words(entries)
    critical += f" ({harder})" if harder else ""
    lengths = length_lines(result.frames)
    if not first.options:
        return [*lengths, critical, not_identified(first.fit)]
    return [*lengths, critical] + [
        f"{option.title + ':':<14}batch size {option.batch_size:>6}"
        f"{bracketed(option.batch_units)}, lr {option.lr}"
        f"{''.join(f', {name} {value}' for name, value in option.tuned.items())}: "
        f"{option.steps} steps{bracketed(option.steps_range)}, "
        f"{option.examples} {units.examples}{bracketed(option.examples_range)}"
        f"{f', {option.units}' if option.units else ''}"
        f"{' (extrapolated)' if option.extrapolated else ''}"
        for option in first.options
    ]


def option_of(
    row: dict[Any, Any],
    fit: FitResult,
    tried: pd.Series,
    clock: pd.DataFrame,
    units: Units = USUAL,
    tuned: Sequence[str] = (),
) -> Option:
    """tried: the batch sizes of the group; clock: its rows of batch_size_choices; tuned: columns of
    what is tuned beside lr."""
    name = row["name"]
    fastest = clock[clock["name"] == "fastest"] if name == FAST else clock.iloc[:0]
    meaning, warning = MEANING[name], ""
    if row["extrapolated"]:
        warning = f"{_outside(row['batch_size'], fit, tried)}: extrapolated."
    for timed in fastest.to_dict("records"):
        seconds = between(timed["seconds_low"], timed["seconds_high"])
        meaning = (
            f"{rounded(timed['seconds'])} seconds{bracketed(seconds)} on this device. {meaning}"
        )
        if timed["batch_size_at_edge"]:
            warning = "It is the smallest or largest that was timed: others may be faster still."
    return Option(
        name=name,
        title=TITLES.get(name, name),
        batch_size=f"{row['batch_size']:,.0f}",
        steps=rounded(row["steps"]),
        steps_range=between(row["steps_low"], row["steps_high"]),
        examples=rounded(row["examples"]),
        examples_range=between(row["examples_low"], row["examples_high"]),
        lr=rounded(row["lr"]) or "not known",
        lr_range=between(row["lr_low"], row["lr_high"]),
        tuned={their_name(name): _value(row[name]) for name in tuned},
        extrapolated=bool(row["extrapolated"]),
        meaning=meaning,
        warning=warning,
        batch_units=units.in_units(row["batch_size"]),
        units=f"{rounded(row['examples'] * units.units_per_example)} {units.unit}".strip(),
    )


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _outside(batch_size: float, fit: FitResult, tried: pd.Series) -> str:
    """Of which batch sizes it lies outside: all that were tried, or those that could be used."""
    if not tried.min() <= batch_size <= tried.max():
        return f"Outside the batch sizes that were tried ({_ends(tried)})"
    return f"Outside those the fit could use ({_ends(fit.batch_sizes)})"


def _ends(sizes: Iterable[float]) -> str:
    known = list(sizes)
    return span_words(min(known), max(known))


def _share(target: float, trials: pd.DataFrame) -> str:
    """The target as a share of what there was to lose at the start; "" where that is not known."""
    if not {"irreducible_loss", "initial_loss"} <= set(trials):
        return ""
    floor, start = trials["irreducible_loss"].mean(), trials["initial_loss"].mean()
    share = (target - floor) / (start - floor) if start > floor else float("nan")
    of = "excess loss" if floor else "loss"
    return f"{100 * share:.3g} % of the {of} at the start" if share >= 0 else ""
