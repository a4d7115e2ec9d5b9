"""The report: report.html (one self-contained file), figures, tables and summary.json."""

from __future__ import annotations

import base64
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import jinja2
import pandas as pd

from analysis import answers, tables
from analysis.errors import AnalysisError
from analysis.figures import Drawing, draw, style
from analysis.pictures import Picture
from analysis.published import compare_published, published_of
from analysis.study import StudyResult

MOST_ROWS = 60  # of a table in the page; the CSV has them all
PACKAGES = ("batch-scaling", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "mlflow")
_HIDDEN_TAGS = ("mlflow.", "run_id", "status", "kind", "study", "host", "published")


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
    table: str
    n_rows: int
    csv: str
    folded: list[Shown] = field(default_factory=list)


def write_report(result: StudyResult, output_dir: str | Path, provenance: Provenance) -> Path:
    """Write report.html, summary.json, figures/*.{png,svg,pdf}, tables/*.csv; the page's path.

    Every file appears whole or not at all. Raises AnalysisError if output_dir cannot be written.
    """
    folder = Path(output_dir)
    try:
        shown = []
        for drawing in draw(result):
            images = {kind: style.render(drawing.figure, kind) for kind in style.FORMATS}
            for kind, content in images.items():
                _write(folder / "figures" / f"{drawing.name}.{kind}", content)
            shown.append(_show(drawing, images["svg"]))
        every = tables.tables(result)
        claims = published(result, provenance)
        if len(claims):
            every["published"] = claims
        for name, table in every.items():
            _write(folder / "tables" / f"{name}.csv", _csv(table))
        summary = tables.summary(result)
        summary["warnings"] = caveats(result, provenance)
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        _write(folder / "summary.json", text.encode())
        page = folder / "report.html"
        _write(page, render_page(result, shown, provenance).encode())
    except OSError as error:
        raise AnalysisError(
            f"output_dir={output_dir}: cannot be written ({error.strerror or error}); "
            "choose another with output_dir=..."
        ) from None
    return page


def caveats(result: StudyResult, provenance: Provenance) -> list[str]:
    return [*result.warnings, *provenance.left_out]


def published(result: StudyResult, provenance: Provenance) -> pd.DataFrame:
    """Published values beside the measured ones."""
    return compare_published(result.trials, result.curves, published_of(provenance.sweeps))


def render_page(result: StudyResult, shown: Sequence[Shown], provenance: Provenance) -> str:
    """The page; Jinja2 escapes every text that comes from the study."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = answers.answers(result)
    return environment.get_template("report.html.j2").render(
        result=result,
        answers=found,
        groups=list(dict.fromkeys(answer.group for answer in found)),
        not_identified=answers.not_identified,
        rounded=answers.rounded,
        size_words=answers.size_words,
        between=answers.between,
        difference=difference,
        caveats=caveats(result, provenance),
        figures=_fold(shown),
        most_rows=MOST_ROWS,
        provenance=provenance,
        published=published(result, provenance).to_dict("records"),
        pictures=[(p.caption, _data_uri(p.png, "image/png")) for p in provenance.pictures],
        sweeps=[
            {k: v for k, v in sweep.items() if not k.startswith(_HIDDEN_TAGS)}
            for sweep in provenance.sweeps
        ],
        versions=_versions(),
        facts=_facts(result),
    )


def difference(estimate: float | None, exact: float | None) -> str:
    """ "+3 %": how far the estimate lies above the exact value."""
    if estimate is None or not exact:
        return ""
    percent = round(100 * (estimate / exact - 1))
    return f"{percent:+d}\N{NO-BREAK SPACE}%" if percent else "0\N{NO-BREAK SPACE}%"


def _facts(result: StudyResult) -> dict[str, str]:
    trials = result.trials
    sizes = trials["batch_size"]
    seeds = trials.groupby("batch_size")["seed"].nunique()
    lrs = trials.groupby("batch_size")["lr"].nunique()
    return {
        "trials": f"{len(trials):,}",
        "batch sizes": f"{sizes.nunique()}, from {sizes.min():,} to {sizes.max():,}",
        "learning rates": f"{_span(lrs)} a batch size",
        "seeds": f"{_span(seeds)}",
    }


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _show(drawing: Drawing, svg: bytes) -> Shown:
    head = drawing.table.head(MOST_ROWS)
    text = head.map(_cell)
    return Shown(
        drawing,
        image=_data_uri(svg, "image/svg+xml"),
        table=text.where(head.notna(), "").to_html(index=False, border=0, escape=True),
        n_rows=len(drawing.table),
        csv=_data_uri(_csv(drawing.table), "text/csv"),
    )


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.5g}"


def _fold(shown: Sequence[Shown]) -> list[Shown]:
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


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _write(path: Path, content: bytes) -> None:
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
