"""The report that sets studies side by side: one table, what they differ in, figures in one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import plot_overlaid_lr, plot_overlaid_steps
from analysis.groups import listed
from analysis.report.answers import overview_row
from analysis.report.compare import Comparison, Entry
from analysis.report.differences import questions
from analysis.report.files import csv_bytes, file_errors, write_file
from analysis.report.latex import FIT_HEAD, escape, fit_cells, table, with_interval
from analysis.report.page import environment, fold, show
from analysis.report.summary import SUMMARY_FORMAT, plain
from analysis.words import between, bracketed, rounded
from scaling.schema import target_label

_MOST_SAID = 6  # pairs in front of the table
_NAMES = {
    "critical_batch_size": "critical batch size",
    "min_steps": "fewest steps",
    "min_examples": "fewest examples",
}


def write_comparison(
    comparison: Comparison, output_dir: str | Path, commands: Sequence[str] = ()
) -> Path:
    """Write report.html, summary.json, figures/* and tables/*.{csv,tex}; the page's path.

    Raises AnalysisError if output_dir cannot be written.
    """
    folder = Path(output_dir)
    with file_errors(output_dir):
        shown = []
        for drawing in draw_comparison(comparison):
            images = style.render_all(drawing.figure)
            for kind, content in images.items():
                write_file(folder / "figures" / f"{drawing.name}.{kind}", content)
            shown.append(show(drawing, images, len(shown)))
        for name in ("rows", "ratios", "frontier"):
            content = csv_bytes(getattr(comparison, name))
            write_file(folder / "tables" / f"{name}.csv", content)
        write_file(folder / "tables" / "comparison.tex", latex_table(comparison).encode())
        text = json.dumps(comparison_summary(comparison), indent=2, allow_nan=False) + "\n"
        write_file(folder / "summary.json", text.encode())
        page = environment().get_template("compare.html.j2")
        content = page.render(_page(comparison), figures=fold(shown), commands=commands)
        write_file(folder / "report.html", content.encode())
    return folder / "report.html"


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """What programs read: the rows and ratios, null for what is not known."""
    known = {
        name: frame.astype(object).where(frame.notna(), None).to_dict("records")
        for name, frame in (("rows", comparison.rows), ("ratios", comparison.ratios))
    }
    return plain(
        {"format": SUMMARY_FORMAT, "compare": comparison.studies, **known}
        | {"differing": comparison.differing, "warnings": comparison.warnings}
    )


def comparison_lead(comparison: Comparison) -> list[str]:
    """Plain sentences: the question, and the ratios of the hardest common target."""
    params = questions(comparison.differing)
    sentences = []
    if len(params) == 1:
        values = listed(comparison.differing[params[0]])
        sentences.append(f"The studies differ in {params[0]}: {values}.")
    ratios = comparison.ratios
    hardest = ratios[ratios["target_loss"] == ratios["target_loss"].min()]
    for (study, group), rows in list(hardest.groupby(["study", "group"], sort=False))[:_MOST_SAID]:
        times = [
            f"{_NAMES[row['quantity']]} {_ratio_words(row)}" for row in rows.to_dict("records")
        ]
        where = f" ({group})" if group else ""
        target, of = rounded(rows["target_loss"].iloc[0]), rows["of"].iloc[0]
        sentences.append(
            f"At target loss {target}, {study}{where} against {of}: {', '.join(times)}."
        )
    return sentences or ["No ratio can be given; the table lists what is known of each study."]


def draw_comparison(comparison: Comparison) -> Iterator[Drawing]:
    """S(B) and the best lr of all studies: a figure each a common target, else one of its own."""
    hollow = "At hollow points the best lr is the smallest or largest that was tried."
    for i, (label, entries) in enumerate(_by_target(comparison).items()):
        named = [(entry.name, entry.frontier, entry.fit) for entry in entries]
        known = [entry for entry in entries if entry.frontier["steps"].notna().any()]
        if not known:
            continue
        end, to = "", "each study's hardest target"
        if label:
            end, to = f"_{label}", f"target {rounded(entries[0].fit.target_loss)}"
        yield Drawing(
            f"steps_against_batch_size{end}",
            f"Steps to {to} against batch size",
            "Points with 95 % intervals, fits with their bands; upright strokes mark the critical "
            f"batch sizes. {hollow}",
            partial(plot_overlaid_steps, named),
            "frontier",
            comparison.frontier,
            folded=i > 0,
        )
        if any(entry.frontier["lr"].notna().any() for entry in known):
            yield Drawing(
                f"best_lr_against_batch_size{end}",
                f"Best learning rate for {to} against batch size",
                f"Bars are 95 % intervals. {hollow}",
                partial(plot_overlaid_lr, [(entry.name, entry.frontier) for entry in entries]),
                "frontier",
                comparison.frontier,
                folded=i > 0,
            )


def _by_target(comparison: Comparison) -> dict[str, list[Entry]]:
    """The entries of each figure: of a common target, hardest first; else the hardest of each."""
    ordered = sorted(comparison.entries, key=lambda entry: entry.fit.target_loss)
    of_target: dict[str, list[Entry]] = {}
    if comparison.common_targets:
        for entry in ordered:
            of_target.setdefault(target_label(entry.fit.target_loss), []).append(entry)
    else:
        hardest = {entry.name: entry for entry in reversed(ordered)}
        of_target[""] = list(hardest.values())
    order = {name: i for i, name in enumerate(comparison.studies)}
    return {
        label: sorted(of_label, key=lambda e: order[e.study])
        for label, of_label in of_target.items()
    }


def latex_table(comparison: Comparison) -> str:
    """The rows as LaTeX, with the ratio of B_crit to the first study's."""
    head = ["target loss", "study", *FIT_HEAD, f"ratio to {escape(comparison.studies[0])}"]
    rows = []
    for entry in _ordered(comparison):
        ratio = _ratio_of(comparison, entry)
        text = with_interval(ratio["ratio"], ratio["low"], ratio["high"]) if ratio else ""
        target = rounded(entry.fit.target_loss)
        rows.append([target, escape(entry.name), *fit_cells(entry.fit), text])
    return table(head, rows, "rl" + "r" * (len(head) - 2))


def _page(comparison: Comparison) -> dict[str, Any]:
    entries = _ordered(comparison)
    rows = []
    for entry in entries:
        ratio = _ratio_of(comparison, entry)
        words = _ratio_words(ratio).replace(" times", "") if ratio else ""
        row = overview_row(entry.fit, entry.frontier)
        rows.append(row | {"name": entry.name, "ratio": words})
    shared = [r for r in comparison.results if r.study in comparison.studies]
    trials = {r.study: f"{len(r.trials):,} trials" for r in shared if len(r.trials)}
    return {
        "title": " and ".join(comparison.studies),
        "facts": list(trials.items()),
        "lead": comparison_lead(comparison),
        "rows": rows,
        "with_ratio": any(row["ratio"] for row in rows),
        "base": comparison.studies[0],
        "studies": comparison.studies,
        "differing": comparison.differing,
        "warnings": comparison.warnings,
        "own_warnings": {r.study: r.warnings for r in comparison.results},
    }


def _ordered(comparison: Comparison) -> list[Entry]:
    """Hardest target first, studies as they were named."""
    order = {name: i for i, name in enumerate(comparison.studies)}
    if comparison.common_targets:
        return sorted(comparison.entries, key=lambda e: (e.fit.target_loss, order[e.study]))
    return sorted(comparison.entries, key=lambda e: (order[e.study], e.group, e.fit.target_loss))


def _ratio_of(comparison: Comparison, entry: Entry) -> dict[Any, Any] | None:
    ratios = comparison.ratios
    rows = ratios[
        (ratios["quantity"] == "critical_batch_size")
        & (ratios["study"] == entry.study)
        & (ratios["group"] == entry.group)
        & (ratios["target_loss"] == entry.fit.target_loss)
    ]
    return rows.iloc[0].to_dict() if len(rows) else None


def _ratio_words(row: dict[Any, Any]) -> str:
    return f"{rounded(row['ratio'])} times{bracketed(between(row['low'], row['high']))}"
