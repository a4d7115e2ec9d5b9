"""Which groups have figures where there are many."""

from __future__ import annotations

from typing import Any

from analysis.report import tables
from analysis.study import StudyResult

MOST_GROUPS = 20  # that have figures; all are in the tables


def drawn_groups(result: StudyResult, most_groups: int) -> list[dict[str, Any]]:
    """The groups with figures, in their order: all, or the first most_groups of those with an
    identified fit first, then of most trials."""
    groups = tables.groups_of(result)
    if len(groups) <= most_groups:
        return groups
    keys = [tuple(group.values()) for group in groups]
    identified = {tuple(fit.group.values()) for fit in result.fits if fit.identified}
    known = set(result.group_by) <= set(result.trials)
    n_trials = result.trials.groupby(result.group_by).size().to_dict() if known else {}
    if len(result.group_by) == 1:
        n_trials = {(key if isinstance(key, tuple) else (key,)): n for key, n in n_trials.items()}
    order = sorted(
        range(len(groups)), key=lambda i: (keys[i] not in identified, -n_trials.get(keys[i], 0), i)
    )
    return [groups[i] for i in sorted(order[:most_groups])]


def left_out_words(result: StudyResult, most_groups: int) -> str:
    """Which groups have figures where not all do; "" where they do."""
    n = len(tables.groups_of(result))
    if n <= most_groups:
        return ""
    return (
        f"Figures show {most_groups} of {n} groups: those with an identified critical batch size "
        "first, then those with the most trials. Tables hold all groups; "
        f"figures.most_groups={n} draws them."
    )
