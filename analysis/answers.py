"""The study's answer in plain words: for the terminal, the MLflow note and the report."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.fitting import FitResult
from analysis.study import StudyResult
from analysis.tables import group_label, groups_of, select

MEANING = {
    "economical": "20 % more examples than the fewest possible (a fifth of the critical batch "
    "size): choose it when compute is what you pay for.",
    "balanced": "Twice the fewest steps and twice the fewest examples (the critical batch size): "
    "where time and compute are worth the same to you.",
    "fast": "20 % more steps than the fewest possible (five times the critical batch size): choose "
    "it when only time counts. Larger batches gain next to nothing.",
}
NOTE_LENGTH = 7500  # MLflow cuts tags at 8000 characters without a word


@dataclass
class Option:
    """One named batch size, its numbers as text."""

    name: str
    batch_size: str
    steps: str
    steps_range: str
    examples: str
    examples_range: str
    lr: str
    lr_range: str
    extrapolated: bool
    meaning: str


@dataclass
class Answer:
    """What there is to say about one target of one group."""

    group: str
    target: str
    share: str
    critical: str
    fit: FitResult
    options: list[Option] = field(default_factory=list)


def answers(result: StudyResult) -> list[Answer]:
    """An answer for each group and target, the hardest target of a group first."""
    found = []
    for group in groups_of(result):
        trials = select(result.trials, group)
        own = [fit for fit in result.fits if fit.group == group]
        for fit in sorted(own, key=lambda fit: fit.target_loss):
            rows = select(result.recommendations, group | {"target_loss": fit.target_loss})
            found.append(
                Answer(
                    group=group_label(group),
                    target=rounded(fit.target_loss),
                    share=_share(fit.target_loss, trials),
                    critical=critical_words(fit),
                    fit=fit,
                    options=[_option(row) for row in rows.to_dict("records")],
                )
            )
    return found


def critical_words(fit: FitResult) -> str:
    """B_crit with its interval, or what is known instead."""
    if fit.critical_batch_size is not None:
        interval = between(*fit.ci95.get("critical_batch_size", (None, None)))
        approximate = ", approximate" if fit.approximate_ci and interval else ""
        return size_words(fit.critical_batch_size) + (
            f" (95 % interval {interval}{approximate})" if interval else ""
        )
    if fit.at_least is not None:
        return f"at least {size_words(fit.at_least)}"
    if fit.at_most is not None:
        return f"at most {size_words(fit.at_most)}"
    return "not known"


def not_identified(fit: FitResult) -> str:
    """What to do when there are no named batch sizes to give."""
    if fit.at_least is not None:
        return (
            f"Up to about batch size {size_words(fit.at_least)}, twice the batch still nearly "
            "halves the steps. Try larger batch sizes to find where that ends."
        )
    if fit.at_most is not None:
        return (
            f"From about batch size {size_words(fit.at_most)} on, a larger batch hardly saves "
            "steps. Smaller batches would reach the target with fewer examples: try them to find "
            "the knee."
        )
    return f"No batch size can be recommended: {fit.reason or 'there is no fit'}."


def answer_lines(result: StudyResult) -> list[str]:
    """Three lines for a terminal: the named batch sizes of the first group's hardest target."""
    first = next(iter(answers(result)), None)
    if first is None:
        return ["no target was reached often enough to say anything"]
    if not first.options:
        critical = f"critical batch size for target loss {first.target}: {first.critical}"
        return [critical, not_identified(first.fit)]
    return [
        f"{option.name + ':':<12}batch size {option.batch_size:>6}, lr {option.lr}: "
        f"{option.steps} steps{_of(option.steps_range)}, {option.examples} examples"
        f"{_of(option.examples_range)} to loss {first.target}"
        for option in first.options
    ]


def markdown(result: StudyResult, warnings: list[str]) -> str:
    """The answer as Markdown, for the note of an MLflow run. Markup in names is made harmless."""
    lines = [f"## {html.escape(result.study)}: how large a batch is worth it?"]
    for answer in answers(result):
        where = f"{html.escape(answer.group)}, " if answer.group else ""
        share = f" ({answer.share})" if answer.share else ""
        lines += ["", f"**{where}target loss {answer.target}**{share}: "]
        lines += [f"critical batch size {answer.critical}", ""]
        if not answer.options:
            lines.append(html.escape(not_identified(answer.fit)))
            continue
        lines += ["| | batch size | lr | steps | examples |", "|---|---|---|---|---|"]
        lines += [
            f"| {o.name} | {o.batch_size} | {o.lr}{_of(o.lr_range)} | {o.steps}{_of(o.steps_range)}"
            f" | {o.examples}{_of(o.examples_range)} |"
            for o in answer.options
        ]
    lines += ["", "Intervals are 95 %. The whole report is the artifact `report/report.html`."]
    if warnings:
        lines += ["", "**How far to trust it**", ""]
        lines += [f"- {html.escape(warning, quote=False)}" for warning in warnings]
    text = "\n".join(lines)
    return text if len(text) <= NOTE_LENGTH else text[: NOTE_LENGTH - 2].rsplit("\n", 1)[0] + "\n…"


def rounded(x: float | None) -> str:
    """Three significant digits without powers of ten: 13,300; 164; 0.0474. Empty if not known."""
    if x is None or pd.isna(x):
        return ""
    return f"{float(f'{x:.3g}'):,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def size_words(batch_size: float | None) -> str:
    """A batch size: whole from 100 on (1,024 is not 1,020), else three digits."""
    big = batch_size is not None and batch_size >= 100
    return f"{batch_size:,.0f}" if big else rounded(batch_size)


def between(low: float | None, high: float | None) -> str:
    """ "1.2 to 3.4", "at least 1.2", "at most 3.4" or nothing."""
    texts = rounded(low), rounded(high)
    if all(texts):
        return f"{texts[0]} to {texts[1]}"
    return f"at least {texts[0]}" if texts[0] else f"at most {texts[1]}" if texts[1] else ""


def _option(row: dict[Any, Any]) -> Option:
    return Option(
        name=row["name"],
        batch_size=f"{row['batch_size']:,.0f}",
        steps=rounded(row["steps"]),
        steps_range=between(row["steps_low"], row["steps_high"]),
        examples=rounded(row["examples"]),
        examples_range=between(row["examples_low"], row["examples_high"]),
        lr=rounded(row["lr"]) or "not known",
        lr_range=between(row["lr_low"], row["lr_high"]),
        extrapolated=bool(row["extrapolated"]),
        meaning=MEANING[row["name"]],
    )


def _share(target: float, trials: pd.DataFrame) -> str:
    """The target as a share of what there was to lose at the start."""
    floor, start = trials["irreducible_loss"].mean(), trials["initial_loss"].mean()
    share = (target - floor) / (start - floor) if start > floor else float("nan")
    of = "excess loss" if floor else "loss"
    return f"{100 * share:.3g} % of the {of} at the start" if pd.notna(share) else ""


def _of(interval: str) -> str:
    return f" ({interval})" if interval else ""
