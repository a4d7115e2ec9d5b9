"""One page of many studies, from the reports that were written of each: what holds, what does not.

Only each report's summary.json (the public contract) and its first figure are read; nothing is
analysed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.figures.looks import for_page
from analysis.groups import file_name
from analysis.report.files import MIME, csv_bytes, data_uri, file_errors, write_file
from analysis.report.page import environment
from analysis.report.prediction_table import Block, blocks
from analysis.report.predictions import COLUMNS, HOLDS
from scaling.commands import command

PAGE, TABLE = "all.html", "all.csv"
_NUMBERS = ("predicted", "tolerance", "measured", "standard_error", "low", "high")
_NOTHING = dict.fromkeys(COLUMNS, "") | dict.fromkeys(_NUMBERS)  # what an older report lacks

# quantity of a prediction -> how the name of the figure that shows it begins
_FIGURES = {
    "best_one_step_lr": "one_step_lr",
    **dict.fromkeys(
        ("best_lr", "lr_saturation", "lr_slope_small_batches", "lr_slope_large_batches"),
        "best_lr_against_batch_size",
    ),
    "noise_scale_over_exact": "simple_noise_scale_from_examples",
    "loss_over_larger_model": "twice_the_compute",
}


@dataclass
class StudyReport:
    """What one report says. link: from the page to it; None where there is no report yet.

    predictions: rows of analysis.report.predictions.check_predictions. figure: of what was
    predicted, as {title, caption, image, downloads: {format: data URI}}.
    """

    study: str
    question: str = ""
    answer: list[str] = field(default_factory=list)
    verdict: str = ""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    figure: dict[str, Any] | None = None
    link: str | None = None

    @property
    def command(self) -> str:
        """What writes the report."""
        return command("report", f"study={self.study}")

    @property
    def broken(self) -> list[dict[str, Any]]:
        """Predictions that do not hold, or were not measured."""
        return [row for row in self.predictions if row["holds"] != HOLDS]

    @property
    def blocks(self) -> list[Block]:
        return blocks(self.predictions)

    @property
    def sound(self) -> bool:
        return self.link is not None and not self.broken

    @property
    def held(self) -> str:
        """ "10 of 11 hold", for the list of studies."""
        if self.link is None:
            return "no report"
        if not self.predictions:
            return "nothing predicted"
        n = len(self.predictions)
        return f"{n - len(self.broken)} of {n} hold"


def read_report(study: str, folder: Path) -> StudyReport:
    """The report of the study under `folder`; AnalysisError if it cannot be read."""
    of_study = folder / file_name(study)
    try:
        summary = json.loads((of_study / "summary.json").read_text(encoding="utf-8"))
        figures = summary.get("figures") or []
        predicted = [_NOTHING | row for row in summary.get("predictions") or []]
        return StudyReport(
            study=study,
            question=summary.get("question") or "",
            answer=list(summary.get("answer") or []),
            verdict=summary.get("verdict") or "",
            predictions=predicted,
            figure=_figure(of_study, _main(figures, predicted)) if figures else None,
            link=os.path.join(file_name(study), "report.html"),
        )
    except FileNotFoundError:
        return StudyReport(study)
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise AnalysisError(
            f"{of_study}: is not a readable report ({error}); write it again with "
            + command("report", f"study={study}")
        ) from None


def _main(figures: list[dict[str, Any]], predicted: list[dict[str, Any]]) -> dict[str, Any]:
    """The figure of the first quantity that has one, of all groups if there is such; else the first
    of the report."""
    wanted = [_FIGURES[row["quantity"]] for row in predicted if row["quantity"] in _FIGURES]
    shown = [figure for figure in figures if wanted and figure["name"].startswith(wanted[0])]
    shown.sort(key=lambda figure: "of_all" not in figure["name"])
    return (shown or figures)[0]


def _figure(folder: Path, figure: dict[str, Any]) -> dict[str, Any]:
    name = str(figure["name"])
    if Path(name).name != name:
        raise ValueError(f"{name} is not the name of a figure")
    images = {"svg": (folder / "figures" / f"{name}.svg").read_bytes()}
    with suppress(FileNotFoundError):  # figures.formats
        images["pdf"] = (folder / "figures" / f"{name}.pdf").read_bytes()
    return {
        **{key: figure[key] for key in ("name", "title", "caption")},
        "image": data_uri(for_page(images["svg"]), MIME["svg"]),
        "downloads": {kind: data_uri(content, MIME[kind]) for kind, content in images.items()},
    }


def ordered(reports: Sequence[StudyReport]) -> list[StudyReport]:
    """What does not hold comes first, then what has no report, else as they were named."""
    return sorted(reports, key=lambda one: (not one.broken, one.link is not None))


def all_rows(reports: Sequence[StudyReport]) -> pd.DataFrame:
    """The rows of all tables of predictions, with the study."""
    rows = [
        {"study": report.study} | row for report in ordered(reports) for row in report.predictions
    ]
    return pd.DataFrame(rows, columns=None if rows else ["study"])


def all_lines(reports: Sequence[StudyReport]) -> list[str]:
    """For the terminal: a line a study."""
    return [
        f"{report.study}: {report.verdict or report.held}"
        + ("" if report.link else f"; {report.command}")
        for report in ordered(reports)
    ]


def lead(reports: Sequence[StudyReport]) -> str:
    rows = [row for report in reports for row in report.predictions]
    n_broken = sum(len(report.broken) for report in reports)
    sentence = f"{len(rows) - n_broken} of {len(rows)} predictions of {len(reports)} studies hold."
    absent = [report.study for report in reports if report.link is None]
    return f"{sentence} There is no report of {', '.join(absent)}." if absent else sentence


def write_all(studies: Sequence[str], folder: Path, commands: Sequence[str]) -> list[StudyReport]:
    """Write all.html and all.csv beside the studies' reports in `folder`; what was read.

    Raises AnalysisError if a report cannot be read or the page not be written.
    """
    reports = [read_report(study, folder) for study in studies]
    if all(report.link is None for report in reports):
        raise AnalysisError(
            f"all=[{','.join(studies)}]: {folder} has no report of any of them; write them first, "
            + command("report", f"study={studies[0]}")
        )
    table = csv_bytes(all_rows(reports))
    page = environment().get_template("all.html.j2")
    content = page.render(
        reports=ordered(reports),
        lead=lead(reports),
        sound=all(report.sound for report in reports),
        table=data_uri(table, MIME["csv"]),
        commands=commands,
    )
    with file_errors(folder):
        write_file(folder / TABLE, table)
        write_file(folder / PAGE, content.encode())
    return reports
