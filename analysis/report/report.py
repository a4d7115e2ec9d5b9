"""The report: report.html (one self-contained file), figures, tables and summary.json."""

from __future__ import annotations

import base64
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import jinja2
import pandas as pd

from analysis import words
from analysis.caveats import norm_caveats
from analysis.errors import AnalysisError
from analysis.figures import Drawing, draw, style
from analysis.figures.dark import for_page
from analysis.figures.drawn import MOST_GROUPS, left_out_words
from analysis.groups import with_own_names
from analysis.read.pictures import Picture
from analysis.report import answers, latex, tables
from analysis.report.limits import limits
from analysis.report.prediction_table import blocks
from analysis.report.predictions import check_predictions, predictions_of, verdict
from analysis.report.published import compare_published, published_of
from analysis.report.scaling_answers import scaling_answers
from analysis.report.trust import trust_facts, tuning_budget
from analysis.study import StudyResult
from analysis.topics.noise_scale import noise_rows
from analysis.topics.one_batch_size import is_about_losses, outcome_lead, outcome_rows
from scaling.schema import LOSSES, QUESTION

MIME = {"svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv"}
MOST_ROWS = 60  # of a table in the page; the CSV has them all
PACKAGES = ("batch-scaling", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "mlflow")
_HIDDEN_TAGS = ("mlflow.", "run_id", "status", "kind", "study", "host", "published", "predictions")


@dataclass
class Provenance:
    """How the numbers came about: shell commands, where the runs lie, the sweeps' own tags."""

    commands: Sequence[str] = ()
    tracking_uri: str = ""
    sweeps: Sequence[Mapping[str, str]] = ()
    left_out: Sequence[str] = ()
    pictures: Sequence[Picture] = ()


@dataclass
class Shown:
    """A drawing as the page shows it."""

    drawing: Drawing
    image: str
    downloads: dict[str, str]  # format -> data URI
    table: str
    n_rows: int
    folded: list[Shown] = field(default_factory=list)


def write_report(
    result: StudyResult,
    output_dir: str | Path,
    provenance: Provenance | None = None,
    most_groups: int = MOST_GROUPS,
) -> Path:
    """Write report.html, summary.json, figures/*.{png,svg,pdf}, tables/*.csv; the page's path.

    most_groups: how many groups have figures; see figures.drawn. Every file appears
    whole or not at all. Raises AnalysisError if output_dir cannot be written.

    >>> from analysis import analyse_steps
    >>> table = pd.DataFrame({"batch_size": [8, 32, 128, 512, 2048],
    ...                       "steps": [461, 146, 65.6, 46.8, 41.5]})
    >>> write_report(analyse_steps(table, n_bootstrap=5), "reports/paper").name
    'report.html'
    """
    if provenance is None:
        provenance = Provenance(left_out=result.trials.attrs.get("left_out", ()))
    folder = Path(output_dir)
    with file_errors(output_dir):
        shown, drawn = [], []
        for drawing in draw(result, most_groups):
            drawn.append({name: getattr(drawing, name) for name in ("name", "title", "caption")})
            images = {kind: style.render(drawing.figure, kind) for kind in style.FORMATS}
            for kind, content in images.items():
                write_file(folder / "figures" / f"{drawing.name}.{kind}", content)
            shown.append(show(drawing, images))
        every = tables.tables(result)
        claims = published(result, provenance)
        if len(claims):
            every["published"] = claims
        predicted = predictions(result, provenance)
        if len(predicted):
            every["predictions"] = predicted
        for name, table in every.items():
            write_file(folder / "tables" / f"{name}.csv", csv_bytes(table))
        for name, text in latex.latex_tables(result).items():
            write_file(folder / "tables" / f"{name}.tex", text.encode())
        summary = tables.summary(result)
        summary["warnings"] = caveats(result, provenance)
        summary["limits"] = limits(result)
        if len(predicted):
            summary["predictions"] = tables.plain(predicted.to_dict("records"))
        summary |= _said(result, provenance, predicted) | {"figures": drawn}
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        write_file(folder / "summary.json", text.encode())
        page = folder / "report.html"
        text = render_page(result, shown, provenance, left_out_words(result, most_groups))
        write_file(page, text.encode())
    return page


def _said(
    result: StudyResult, provenance: Provenance, predicted: pd.DataFrame
) -> dict[str, str | list[str]]:
    """The question, what came of the predictions, and the answer, in words."""
    found = verdict(predicted)
    said = found.sentence if found else ""
    answer = answers.answer_lines(result)
    return {"question": asked(provenance), "verdict": said, "answer": answer}


def asked(provenance: Provenance) -> str:
    """The question of the newest sweep that has one."""
    return next((tags[QUESTION] for tags in provenance.sweeps if tags.get(QUESTION)), "")


@contextmanager
def file_errors(output_dir: str | Path) -> Iterator[None]:
    """What the disk refuses is a mistake in output_dir, in one line."""
    try:
        yield
    except OSError as error:
        raise AnalysisError(
            f"output_dir={output_dir}: cannot be written ({error.strerror or error}); "
            "choose another with output_dir=..."
        ) from None


def caveats(result: StudyResult, provenance: Provenance) -> list[str]:
    return [*result.warnings, *provenance.left_out]


def published(result: StudyResult, provenance: Provenance) -> pd.DataFrame:
    """Published values beside the measured ones."""
    return compare_published(result.trials, result.curves, published_of(provenance.sweeps))


def predictions(result: StudyResult, provenance: Provenance) -> pd.DataFrame:
    """What the study predicted of its trials, and whether it holds."""
    claims = predictions_of(provenance.sweeps)
    return check_predictions(result, claims)


def environment() -> jinja2.Environment:
    """Of the templates; Jinja2 escapes every text that comes from a study."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {
        name: getattr(words, name)
        for name in ("rounded", "size_words", "between", "difference", "critical_words")
    }
    found.globals["known"] = pd.notna
    found.globals |= {"most_rows": MOST_ROWS, "versions": _versions(), "slug": tables.file_name}
    return found


def render_page(
    result: StudyResult, shown: Sequence[Shown], provenance: Provenance, not_drawn: str = ""
) -> str:
    """The page of one study; not_drawn: what stands above its figures."""
    found = answers.answers(result)
    predicted = predictions(result, provenance)
    about_losses = is_about_losses(result)
    norms = norm_caveats(result.trials)
    facts = trust_facts(result) | ({"Normalisation": " ".join(norms)} if norms else {})
    facts |= {"Where theory ends": " ".join(ends)} if (ends := limits(result)) else {}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            answers=found,
            groups=list(dict.fromkeys(answer.group for answer in found)),
            overview=answers.overview(result),
            lead=outcome_lead(result) if about_losses else answers.overview_lead(result),
            outcomes=outcome_rows(result) if about_losses else [],
            about_losses=about_losses,
            question=asked(provenance) if result.about == LOSSES else "",
            not_identified=answers.not_identified,
            harder_words=answers.harder_words,
            trust=facts,
            caveats=[text for text in caveats(result, provenance) if text not in norms],
            scaling=scaling_answers(result),
            twice=answers.twice_lines(result),
            noise=noise_rows(result),
            predictions=blocks(tables.plain(predicted.to_dict("records"))),
            verdict=verdict(predicted),
            tuning=_html(tuning_budget(result)),
            figures=fold(shown),
            not_drawn=not_drawn,
            provenance=provenance,
            published=published(result, provenance).to_dict("records"),
            pictures=[(p.caption, data_uri(p.png, "image/png")) for p in provenance.pictures],
            sweeps=[
                {k: v for k, v in sweep.items() if not k.startswith(_HIDDEN_TAGS)}
                for sweep in provenance.sweeps
            ],
            facts=_facts(result),
        )
    )


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
            facts[name] = words.span_words(counts.min(), counts.max()) + of
    return facts


def show(drawing: Drawing, images: Mapping[str, bytes]) -> Shown:
    """The drawing with its rendered images (format -> bytes; svg is needed) for a page."""
    head = with_own_names(drawing.table.head(MOST_ROWS))
    text = head.map(_cell)
    kinds = {kind: data_uri(images[kind], MIME[kind]) for kind in ("svg", "pdf") if kind in images}
    return Shown(
        drawing,
        image=data_uri(for_page(images["svg"]), MIME["svg"]),
        downloads=kinds | {"csv": data_uri(csv_bytes(drawing.table), MIME["csv"])},
        table=text.where(head.notna(), "").to_html(index=False, border=0, escape=True),
        n_rows=len(drawing.table),
    )


def _html(table: pd.DataFrame) -> str:
    """A whole table, its empty columns left out; "" if there are no rows."""
    shown = with_own_names(table.dropna(axis="columns", how="all"))
    text = shown.map(_cell).where(shown.notna(), "")
    return text.to_html(index=False, border=0, escape=True) if len(table) else ""


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"


def fold(shown: Sequence[Shown]) -> list[Shown]:
    """Put further figures of a kind under the first of it."""
    top: list[Shown] = []
    for item in shown:
        if item.drawing.folded and top:
            top[-1].folded.append(item)
        else:
            item.folded = []
            top.append(item)
    return top


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # our own, in a source tree that is not installed
            continue
    return found


def csv_bytes(table: pd.DataFrame) -> bytes:
    return with_own_names(table).to_csv(index=False, lineterminator="\n").encode()


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def write_file(path: Path, content: bytes) -> None:
    """Write through a temporary file beside it: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's own mode is for secrets
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
