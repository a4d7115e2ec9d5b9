r"""The main tables for a paper: LaTeX with plain rules, no package needed (\input them).

Values with 95 % intervals stand as 204\,$^{+10}_{-15}$: upper end minus value above, value minus
lower end below. A one-sided interval is spelt out ($\geq$ 128).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit.fitting import FitResult
from analysis.groups import group_label
from analysis.result import StudyResult
from analysis.words import rounded
from scaling.schema import REACHED

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


def latex_tables(result: StudyResult) -> dict[str, str]:
    """Name -> LaTeX of the fits, the frontier and the recommendations of a study."""
    tables = {"fits": _fits(result), "frontier": _frontier(result)}
    if len(result.frames["recommendations"]):
        tables["recommendations"] = _recommendations(result)
    return tables


def escape(text: str) -> str:
    """Any text as LaTeX shows it; line ends become spaces."""
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def with_interval(
    value: float | None, low: float | None = None, high: float | None = None, digits: int = 3
) -> str:
    """A value with its interval as superscript and subscript; "--" if it is not known.

    Rounded to `digits` significant digits of the value, the interval's ends as far as it.
    """
    known = [None if x is None or pd.isna(x) else float(x) for x in (value, low, high)]
    value, low, high = known
    if value is None:
        if low is not None:
            return rf"$\geq$ {_fixed(low, low, digits)}"
        return "--" if high is None else rf"$\leq$ {_fixed(high, high, digits)}"
    text = _fixed(value, value, digits)
    if low is None or high is None:
        return text
    # an end on the other side of the value (a percentile can be) is shown as no distance
    above, below = (_fixed(max(d, 0.0), value, digits) for d in (high - value, value - low))
    return rf"{text}\,$^{{+{above}}}_{{-{below}}}$"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A tabular; head and cells are LaTeX already."""
    body = [" & ".join(row) + r" \\" for row in rows]
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\hline", " & ".join(head) + r" \\", r"\hline"]
    return "\n".join([*lines, *body, r"\hline", r"\end{tabular}"]) + "\n"


def _fixed(x: float, like: float, digits: int) -> str:
    """x to as many decimals as `like` has in so many significant digits; 13\\,300."""
    places = digits - 1 - int(np.floor(np.log10(abs(like)))) if like else digits
    text = f"{round(x, places):,.{max(places, 0)}f}"
    return text.replace(",", r"\,")


def _grouped(result: StudyResult, head: list[str]) -> tuple[list[str], str]:
    """The head with a column of groups where there are several, and its alignment."""
    first = ["group"] if result.group_by else []
    return [*first, *head], "l" * len(first) + "r" * len(head)


def _label(result: StudyResult, row: dict[Any, Any]) -> list[str]:
    group = {name: row[name] for name in result.group_by}
    return [escape(group_label(group))] if group else []


def fit_cells(fit: FitResult) -> list[str]:
    """B_crit, S_min and E_min of a fit with their intervals, bounds where they are not known."""
    cells = []
    for name in ("critical_batch_size", "min_steps", "min_examples"):
        cells.append(with_interval(getattr(fit, name), *fit.ci95.get(name, (None, None))))
    if fit.critical_batch_size is None:
        cells[0] = with_interval(None, fit.at_least, None if fit.at_least else fit.at_most)
    return cells


FIT_HEAD = [r"$B_\mathrm{crit}$", r"$S_\mathrm{min}$", r"$E_\mathrm{min}$"]


def _fits(result: StudyResult) -> str:
    head, align = _grouped(result, ["target loss", *FIT_HEAD, r"misfit (\%)"])
    rows = []
    for fit in result.fits:
        misfit = "--" if fit.rmse_log_steps is None else f"{100 * fit.rmse_log_steps:.1f}"
        target = rounded(fit.target_loss)
        rows.append([*_label(result, fit.group), target, *fit_cells(fit), misfit])
    return table(head, rows, align)


def _frontier(result: StudyResult) -> str:
    head, align = _grouped(result, ["target loss", "batch size", "steps", "lr"])
    rows = []
    for row in result.frontier.to_dict("records"):
        steps = with_interval(row["steps"], row["steps_low"], row["steps_high"])
        lr = with_interval(row["lr"], row["lr_low"], row["lr_high"])
        if row["outcome"] != REACHED:
            steps = escape(str(row["outcome"]))
        edge = r"\,$^{\ast}$" if row["lr_at_edge"] else ""
        size, target = f"{row['batch_size']:,}".replace(",", r"\,"), rounded(row["target_loss"])
        rows.append([*_label(result, row), target, size, steps, lr + edge])
    star = (
        "% an asterisk marks a best lr at the edge of the tried grid: the steps are at most these\n"
    )
    return star + table(head, rows, align)


def _recommendations(result: StudyResult) -> str:
    head, align = _grouped(result, ["target loss", "", "batch size", "steps", "examples", "lr"])
    rows = []
    for row in result.frames["recommendations"].to_dict("records"):
        cells = [
            with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
            for name in ("steps", "examples", "lr")
        ]
        size = f"{row['batch_size']:,}".replace(",", r"\,")
        target = rounded(row["target_loss"])
        rows.append(
            [*_label(result, row), target, escape(row["name"].replace("_", " ")), size, *cells]
        )
    return table(head, rows, align)
