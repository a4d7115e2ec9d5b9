"""How a StudyResult shows itself: as text in a terminal, as a table in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import pandas as pd

from analysis.groups import own_name, with_own_names

if TYPE_CHECKING:
    from analysis.study import StudyResult


def as_text(result: StudyResult) -> str:
    """A line of what was read, one for each target's critical batch size, then the warnings."""
    lines = [_heading(result)]
    for row in summary_frame(result).to_dict("records"):
        place = ", ".join(f"{own_name(name)}={row[name]}" for name in result.group_by)
        where = f"{place + ', ' if place else ''}target loss {row['target_loss']}"
        lines.append(f"  {where}: critical batch size {row['critical_batch_size']}")
        if row["min_steps"]:
            lines[-1] += f", S_min {row['min_steps']} steps, E_min {row['min_examples']} examples"
    if result.warnings:
        lines += ["warnings:", *(f"  - {warning}" for warning in result.warnings)]
    return "\n".join(lines)


def as_html(result: StudyResult) -> str:
    """The same as a table; names and sentences of a study are escaped."""
    table = with_own_names(summary_frame(result)).to_html(index=False, border=0, escape=True)
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in result.warnings)
    warned = f"<ul>{items}</ul>" if items else ""
    return f"<p>{html.escape(_heading(result))}</p>{table}{warned}"


def summary_frame(result: StudyResult) -> pd.DataFrame:
    """group columns.., target_loss, critical_batch_size, min_steps, min_examples, as texts."""
    from analysis.report.answers import critical_words, rounded

    rows = [
        {
            **fit.group,
            "target_loss": rounded(fit.target_loss),
            "critical_batch_size": critical_words(fit),
            "min_steps": rounded(fit.min_steps) if fit.identified else "",
            "min_examples": rounded(fit.min_examples) if fit.identified else "",
        }
        for fit in result.fits
    ]
    columns = ["target_loss", "critical_batch_size", "min_steps", "min_examples"]
    return pd.DataFrame(rows, columns=[*result.group_by, *columns])


def _heading(result: StudyResult) -> str:
    sizes = result.frontier["batch_size"]
    span = (
        f"{sizes.nunique()} batch sizes, {sizes.min():,} to {sizes.max():,}" if len(sizes) else ""
    )
    return f"study {result.study}: {len(result.trials):,} trials, {span}"
