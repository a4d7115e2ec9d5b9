"""Studies side by side (optimizers, norms, tasks): what each says, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.fit.fitting import FitResult
from analysis.groups import group_label
from analysis.report.answers import best_lr_words
from analysis.report.differences import comparison_caveats, differing_params, value_text
from analysis.result import StudyResult
from scaling.schema import target_label

QUANTITIES = ("critical_batch_size", "min_steps", "min_examples")
_LOG_OF = {  # of draws [n, 2] of (log S_min, log E_min)
    "critical_batch_size": lambda draws: draws[:, 1] - draws[:, 0],
    "min_steps": lambda draws: draws[:, 0],
    "min_examples": lambda draws: draws[:, 1],
}
ROW_COLUMNS = [
    "study", "group", "target_loss", "critical_batch_size", "critical_batch_size_low",
    "critical_batch_size_high", "at_least", "at_most", "min_steps", "min_steps_low",
    "min_steps_high", "min_examples", "min_examples_low", "min_examples_high", "approximate_ci",
    "best_lr",
]  # fmt: skip
RATIO_COLUMNS = [
    "study", "of", "group", "target_loss", "quantity", "ratio", "low", "high", "approximate_ci",
]  # fmt: skip
LR_COLUMNS = [
    "study", "group", "target_loss", "batch_size", "steps", "steps_low", "steps_high", "lr",
    "lr_low", "lr_high", "outcome", "lr_at_edge", "n_seeds", "n_lrs",
]  # fmt: skip


@dataclass
class Entry:
    """One study's group at one target."""

    study: str
    group: str
    place: dict[str, str]  # value of every param that any of the studies is grouped by
    fit: FitResult
    frontier: pd.DataFrame

    @property
    def name(self) -> str:
        return f"{self.study}, {self.group}" if self.group else self.study


@dataclass
class Comparison:
    """Several studies at their common targets, or each at its own where there is none.

    rows      a row a study, group and target: ROW_COLUMNS; best_lr in words
    ratios    a row a pair of studies with equal group and target: RATIO_COLUMNS; ratio = study/of
    frontier  steps and best lr of every study at every batch size: LR_COLUMNS
    differing param -> its value in each study, of those that are one value in each
    """

    studies: list[str]
    results: list[StudyResult]
    entries: list[Entry]
    common_targets: bool
    rows: pd.DataFrame
    ratios: pd.DataFrame
    frontier: pd.DataFrame
    differing: dict[str, list[str]]
    warnings: list[str]


def compare_studies(results: Sequence[StudyResult]) -> Comparison:
    """Analysed studies in, their comparison out. Raises AnalysisError for fewer than two.

    Targets are equal if they are so to six digits. Ratios are of the first study's fits to the
    others'; their 95 % intervals are percentiles of the quotients of the bootstrap draws, which
    are independent between studies.
    """
    names = [result.study for result in results]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise AnalysisError(
            f"compare=[{','.join(names)}]: needs two or more different studies, compare=[a,b]"
        )
    common = set.intersection(*({target_label(t) for t in result.targets} for result in results))
    grouped = sorted({name for result in results for name in result.group_by})
    entries = [
        Entry(
            result.study,
            group_label(fit.group),
            {name: _place(result, fit, name) for name in grouped},
            fit,
            result.frontier_of(fit),
        )
        for result in results
        for fit in result.fits
        if not common or target_label(fit.target_loss) in common
    ]
    differing = differing_params(results)
    open_ends = [entry.name for entry in entries if not entry.fit.identified]
    return Comparison(
        studies=names,
        results=list(results),
        entries=entries,
        common_targets=bool(common),
        rows=pd.DataFrame([_row(entry) for entry in entries], columns=ROW_COLUMNS),
        ratios=_ratios(names, entries),
        frontier=_frontier(entries),
        differing=differing,
        warnings=comparison_caveats(results, open_ends, bool(common), differing),
    )


def _row(entry: Entry) -> dict[str, Any]:
    fit = entry.fit
    row: dict[str, Any] = {"study": entry.study, "group": entry.group}
    row |= {"target_loss": fit.target_loss, "at_least": fit.at_least, "at_most": fit.at_most}
    for name in QUANTITIES:
        low, high = fit.ci95.get(name, (None, None))
        row |= {name: getattr(fit, name), f"{name}_low": low, f"{name}_high": high}
    return row | {"approximate_ci": fit.approximate_ci, "best_lr": best_lr_words(entry.frontier)}


def _ratios(studies: Sequence[str], entries: Sequence[Entry]) -> pd.DataFrame:
    """Every study against the first one, where both know the quantity at one target."""
    rows = []
    for entry in entries:
        of = _reference(studies[0], entry, entries)
        if of is None:
            continue
        for quantity in QUANTITIES:
            value, reference = getattr(entry.fit, quantity), getattr(of, quantity)
            if value is None or reference is None:
                continue
            low, high = ratio_interval(entry.fit, of, quantity)
            row = {"study": entry.study, "of": studies[0], "group": entry.group}
            row |= {"target_loss": entry.fit.target_loss, "quantity": quantity}
            row |= {"ratio": value / reference, "low": low, "high": high}
            rows.append(row | {"approximate_ci": entry.fit.approximate_ci or of.approximate_ci})
    return pd.DataFrame(rows, columns=RATIO_COLUMNS)


def _reference(base: str, entry: Entry, entries: Sequence[Entry]) -> FitResult | None:
    """The fit of the base study at the entry's target: of its group, or the only one there is."""
    if entry.study == base:
        return None
    target = target_label(entry.fit.target_loss)
    at_target = [
        e for e in entries if e.study == base and target_label(e.fit.target_loss) == target
    ]
    same = [e for e in at_target if e.place == entry.place] or (
        at_target if len(at_target) == 1 else []
    )
    return same[0].fit if same else None


def _place(result: StudyResult, fit: FitResult, name: str) -> str:
    """The group's value of a param, also where the study is not grouped by it."""
    if name in fit.group:
        return value_text(fit.group[name])
    values = (
        {value_text(value) for value in result.trials[name]} if name in result.trials else set()
    )
    return values.pop() if len(values) == 1 else "none"


def ratio_interval(
    fit: FitResult, of: FitResult, quantity: str
) -> tuple[float | None, float | None]:
    """95 % percentile interval of quantity(fit)/quantity(of) from the bootstrap draws of both."""
    n = min(len(fit.draws), len(of.draws))
    if not n:
        return None, None
    log_ratio = _LOG_OF[quantity](fit.draws[:n]) - _LOG_OF[quantity](of.draws[:n])
    low, high = np.exp(np.percentile(log_ratio, [2.5, 97.5]))
    return float(low), float(high)


def _frontier(entries: Sequence[Entry]) -> pd.DataFrame:
    frames = [
        entry.frontier.assign(study=entry.study, group=entry.group)[LR_COLUMNS]
        for entry in entries
        if len(entry.frontier)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=LR_COLUMNS)
