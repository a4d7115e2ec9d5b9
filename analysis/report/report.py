"""The report: report.html (one self-contained file), figures, tables and summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.caveats import norm_caveats
from analysis.drawings import MOST_GROUPS, left_out_words
from analysis.figures.drawing import Drawing
from analysis.read.pictures import Picture
from analysis.report import answers, latex
from analysis.report.files import csv_bytes, data_uri, file_errors, write_file
from analysis.report.limits import limits
from analysis.report.page import Shown, environment, fold, show, table_html
from analysis.report.prediction_table import blocks
from analysis.report.predictions import Verdict, check_predictions, predictions_of, verdict
from analysis.report.published import compare_published, published_of
from analysis.report.rendering import Images, begin_rendering
from analysis.report.summary import plain, summary
from analysis.report.trust import trust_facts
from analysis.result import StudyResult
from analysis.topics import TOPICS
from analysis.topics.final_loss import outcome_lead, outcome_rows
from analysis.topics.topic import Section
from analysis.topics.training_length import length_lines
from analysis.topics.twice_the_compute import twice_lines
from analysis.words import span_words
from scaling.schema import FINAL_LOSSES, LOSSES, QUESTION

_HIDDEN_TAGS = ("mlflow.", "run_id", "status", "kind", "study", "host", "published", "predictions")


@dataclass
class Provenance:
    """How the numbers came about: shell commands, where the runs lie, the sweeps' own tags."""

    commands: Sequence[str] = ()
    tracking_uri: str = ""
    sweeps: Sequence[Mapping[str, str]] = ()
    left_out: Sequence[str] = ()
    pictures: Sequence[Picture] = ()


def write_report(
    result: StudyResult,
    output_dir: str | Path,
    provenance: Provenance | None = None,
    most_groups: int = MOST_GROUPS,
) -> Path:
    """Write report.html, summary.json, figures/*.{png,svg,pdf}, tables/*.csv; the page's path.

    most_groups: how many groups have figures; see analysis.drawings. Every file appears whole or
    not at all. Raises AnalysisError if output_dir cannot be written.

    >>> from analysis import analyse_steps
    >>> table = pd.DataFrame({"batch_size": [8, 32, 128, 512, 2048],
    ...                       "steps": [461, 146, 65.6, 46.8, 41.5]})
    >>> write_report(analyse_steps(table, n_bootstrap=5), "reports/paper").name
    'report.html'
    """
    if provenance is None:
        provenance = Provenance(left_out=result.trials.attrs.get("left_out", ()))
    return Report(result, provenance, most_groups).write(output_dir)


@dataclass
class Report:
    """A study's result with where it comes from; everything is computed once."""

    result: StudyResult
    provenance: Provenance = field(default_factory=Provenance)
    most_groups: int = MOST_GROUPS

    @property
    def caveats(self) -> list[str]:
        return [*self.result.warnings, *self.provenance.left_out]

    @cached_property
    def published(self) -> pd.DataFrame:
        """Published values beside the measured ones."""
        claims = published_of(self.provenance.sweeps)
        return compare_published(self.result.trials, self.result.curves, claims)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """What the study predicted of its trials, and whether it holds."""
        return check_predictions(self.result, predictions_of(self.provenance.sweeps))

    @property
    def verdict(self) -> Verdict | None:
        return verdict(self.predictions)

    @property
    def question(self) -> str:
        """The question of the newest sweep that has one."""
        tags = self.provenance.sweeps
        return next((sweep[QUESTION] for sweep in tags if sweep.get(QUESTION)), "")

    @cached_property
    def sections(self) -> list[Section]:
        """What the topics say."""
        every = (topic.section(self.result, self.result.frames) for topic in TOPICS)
        return [section for section in every if section is not None]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Name -> frame of all that is written as CSV; what the figures show is among them."""
        more = {"published": self.published, "predictions": self.predictions}
        return self.result.frames | {name: frame for name, frame in more.items() if len(frame)}

    def write(self, output_dir: str | Path) -> Path:
        folder = Path(output_dir)
        with file_errors(output_dir):
            images = begin_rendering(self.drawings)  # beside what follows
            for name, table in self.tables().items():
                write_file(folder / "tables" / f"{name}.csv", csv_bytes(table))
            for name, text in latex.latex_tables(self.result).items():
                write_file(folder / "tables" / f"{name}.tex", text.encode())
            shown = self._write_figures(folder / "figures", images())
            content = self.summary([item.drawing for item in shown])
            text = json.dumps(content, indent=2, allow_nan=False) + "\n"
            write_file(folder / "summary.json", text.encode())
            page = self.page(shown, left_out_words(self.result, self.most_groups))
            write_file(folder / "report.html", page.encode())
        return folder / "report.html"

    @cached_property
    def drawings(self) -> list[Drawing]:
        return list(self.result.drawings(self.most_groups))

    def _write_figures(self, folder: Path, images: Sequence[Images]) -> list[Shown]:
        for drawing, of_drawing in zip(self.drawings, images, strict=True):
            for kind, content in of_drawing.items():
                write_file(folder / f"{drawing.name}.{kind}", content)
        pairs = zip(self.drawings, images, strict=True)
        return [show(drawing, of, i) for i, (drawing, of) in enumerate(pairs)]

    def summary(self, drawings: Sequence[Any] = ()) -> dict[str, Any]:
        """summary.json, with what was predicted and the answer in words."""
        content = summary(self.result)
        content |= {"warnings": self.caveats, "limits": limits(self.result)}
        if len(self.predictions):
            content["predictions"] = plain(self.predictions.to_dict("records"))
        content["question"] = self.question
        content["verdict"] = self.verdict.sentence if self.verdict else ""
        content["answer"] = answers.answer_lines(self.result)
        content["figures"] = [
            {name: getattr(drawing, name) for name in ("name", "title", "caption")}
            for drawing in drawings
        ]
        return content

    def page(self, shown: Sequence[Shown] = (), not_drawn: str = "") -> str:
        """The page; not_drawn: what stands above its figures."""
        result = self.result
        about_losses = result.is_about_losses
        entries = answers.answers(result)
        norms = norm_caveats(result.trials)
        return (
            environment()
            .get_template("report.html.j2")
            .render(
                result=result,
                answers=entries,
                groups=list(dict.fromkeys(answer.group for answer in entries)),
                overview=answers.overview(result),
                lead=outcome_lead(result) if about_losses else answers.overview_lead(result),
                outcomes=outcome_rows(result) if about_losses else [],
                about_losses=about_losses,
                question=self.question if result.about in (LOSSES, FINAL_LOSSES) else "",
                not_identified=answers.not_identified,
                harder_words=answers.harder_words,
                trust=self._trust(norms),
                caveats=[text for text in self.caveats if text not in norms],
                topics=self.sections,
                twice=twice_lines(result, result.frames),
                lengths=length_lines(result.frames),
                predictions=blocks(plain(self.predictions.to_dict("records"))),
                verdict=self.verdict,
                tuning=table_html(result.frames["tuning_budget"]),
                figures=fold(shown),
                not_drawn=not_drawn,
                provenance=self.provenance,
                published=self.published.to_dict("records"),
                pictures=[
                    (picture.caption, data_uri(picture.png, "image/png"))
                    for picture in self.provenance.pictures
                ],
                sweeps=[
                    {k: v for k, v in sweep.items() if not k.startswith(_HIDDEN_TAGS)}
                    for sweep in self.provenance.sweeps
                ],
                facts=_facts(result),
                units=result.units,
            )
        )

    def _trust(self, norms: Sequence[str]) -> dict[str, str]:
        facts = trust_facts(self.result)
        more = {"Normalisation": norms, "Where theory ends": limits(self.result)}
        return facts | {name: " ".join(sentences) for name, sentences in more.items() if sentences}


def _facts(result: StudyResult) -> dict[str, str]:
    """The study in numbers; what its trials do not say is absent."""
    trials, sizes = result.trials, result.frontier["batch_size"]
    least, most = sizes.min(), sizes.max()
    facts = {"trials": f"{len(trials):,}"} if len(trials) else {}
    if least == most:
        facts["batch size"] = f"{least:,}"
    else:
        facts["batch sizes"] = f"{sizes.nunique()}, from {least:,} to {most:,}"
    for column, name in (("lr", "learning rates"), ("seed", "seeds")):
        if column in trials and trials[column].notna().any():
            counts = trials.groupby("batch_size")[column].nunique()
            of = " a batch size" if column == "lr" and least != most else ""
            facts[name] = span_words(counts.min(), counts.max()) + of
    return facts
