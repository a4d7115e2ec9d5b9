"""What all pages share: templates, figures as a page shows them, tables as HTML."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import words
from analysis.figures.drawing import Drawing
from analysis.figures.inline import inline_svg
from analysis.figures.looks import dark_rules
from analysis.groups import file_name, with_their_names
from analysis.report.files import MIME, csv_bytes, data_uri

MOST_ROWS = 60  # of a table in the page; the CSV has them all
PACKAGES = ("batch-scaling", "numpy", "scipy", "pandas", "matplotlib", "mlflow")


@dataclass
class Shown:
    """A drawing as the page shows it. svg: an element of the page, so that points can tell."""

    drawing: Drawing
    svg: str
    downloads: dict[str, str]  # format -> data URI
    table: str
    n_rows: int
    folded: list[Shown] = field(default_factory=list)


def environment() -> jinja2.Environment:
    """Of the templates; Jinja2 escapes every text that comes from a study."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {
        name: getattr(words, name) for name in ("rounded", "size_words", "between", "difference")
    }
    templates.globals |= {"known": pd.notna, "dark_figures": dark_figures}
    templates.globals |= {"most_rows": MOST_ROWS, "versions": _versions(), "slug": file_name}
    return templates


def show(drawing: Drawing, images: Mapping[str, bytes], number: int) -> Shown:
    """The drawing with its rendered images (format -> bytes; svg is needed) for a page.

    number: its own on the page.
    """
    head = with_their_names(drawing.table.head(MOST_ROWS))
    text = head.map(_cell)
    kinds = {kind: data_uri(images[kind], MIME[kind]) for kind in ("svg", "pdf") if kind in images}
    return Shown(
        drawing,
        svg=inline_svg(images["svg"], f"f{number}", drawing.title),
        downloads=kinds | {"csv": data_uri(csv_bytes(drawing.table), MIME["csv"])},
        table=text.where(head.notna(), "").to_html(index=False, border=0, escape=True),
        n_rows=len(drawing.table),
    )


def dark_figures(shown: Sequence[Shown]) -> Markup:
    """CSS of a page: the colours of its figures on dark paper."""
    svgs = (one.svg for item in shown for one in (item, *item.folded))
    return Markup(dark_rules(svgs))  # of colours alone


def table_html(table: pd.DataFrame) -> str:
    """A whole table, its empty columns left out; "" if there are no rows."""
    shown = with_their_names(table.dropna(axis="columns", how="all"))
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
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # our own, in a source tree that is not installed
            continue
    return versions
