"""The study's answer as Markdown, for the note of the sweep's run in MLflow."""

from __future__ import annotations

import html
from collections.abc import Mapping

from analysis.report.answers import Answer, answers, not_identified
from analysis.result import StudyResult
from analysis.topics.final_loss import outcome_lead, outcome_rows
from analysis.topics.training_length import length_lines
from analysis.words import bracketed, rounded
from scaling import schema

PART_LENGTH = 800  # of a question, a command or a grid in a note
NOTE_LENGTH = 7500  # MLflow cuts tags at 8000 characters without a word


def markdown(
    result: StudyResult, warnings: list[str], sweep: Mapping[str, str] | None = None
) -> str:
    """Question, command, grid and answer as Markdown, for the note of the sweep's run in MLflow.

    sweep: its tags. Markup in names is made harmless; (REPORT) stands for the report's address.
    """
    sweep = sweep or {}
    question = sweep.get(schema.QUESTION) or f"{result.study}: how large a batch is worth it?"
    lines = [f"**{schema.note_text(question[:PART_LENGTH])}**", ""]
    if result.is_about_losses:
        lines += _outcome_lines(result)
    else:
        lines += [f"- {line}" for line in length_lines(result.frames)]
        lines += [""] if lines[-1] else []
        for answer in answers(result):
            lines += _answer_markdown(answer, result.units.examples)
    lines += [
        "",
        "Intervals are 95 %. [The whole report](REPORT) is the artifact "
        "`report/report.html` of this run; figures and tables lie beside it.",
    ]
    if warnings:
        lines += ["", "**How far to trust it**", ""]
        lines += [f"- {html.escape(warning, quote=False)}" for warning in warnings]
    text = "\n".join([*lines, *_asked(sweep)])
    return text if len(text) <= NOTE_LENGTH else text[: NOTE_LENGTH - 2].rsplit("\n", 1)[0] + "\n…"


def _asked(sweep: Mapping[str, str]) -> list[str]:
    """With which command the sweep was started, and what it tried."""
    lines = []
    if "command" in sweep:
        lines += ["", schema.note_code(sweep["command"][:PART_LENGTH]), ""]
    if schema.GRID in sweep:
        grid = sweep[schema.GRID]
        shown = grid if len(grid) <= PART_LENGTH else f"{grid[:PART_LENGTH]}…"
        lines += [f"- {_cell(part)}" for part in shown.split("; ")]
    return lines


def _answer_markdown(answer: Answer, examples: str) -> list[str]:
    where = f"{_cell(answer.group)}, " if answer.group else ""
    share = f" ({answer.share})" if answer.share else ""
    lines = [f"**{where}target loss {answer.target}**{share}: "]
    lines += [f"critical batch size {answer.critical}", ""]
    if not answer.options:
        return [*lines, html.escape(not_identified(answer.fit)), ""]
    lines += [f"| | batch size | lr | steps | {examples} |", "|---|---|---|---|---|"]
    return [
        *lines,
        *(
            f"| {o.title}{' (extrapolated)' if o.extrapolated else ''} | {o.batch_size}"
            f" | {o.lr}{bracketed(o.lr_range)}"
            f" | {o.steps}{bracketed(o.steps_range)}"
            f" | {o.examples}{bracketed(o.examples_range)} |"
            for o in answer.options
        ),
        "",
    ]


def _outcome_lines(result: StudyResult) -> list[str]:
    lines = [html.escape(outcome_lead(result), quote=False), ""]
    targets = [f"steps to {rounded(target)}" for target in result.targets]
    head = ["trials", "lr", "held-out loss", "accuracy", *targets]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in outcome_rows(result):
        loss = f"{row['loss']}{bracketed(row['loss_range'])}"
        cells = [_cell(row["label"]), row["lr"], loss, row["accuracy"], *row["steps"]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    """A name inside Markdown: no markup of its own, no new column."""
    return html.escape(text, quote=False).replace("|", "\\|")
