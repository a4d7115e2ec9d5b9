"""Three named batch sizes of an identified fit: what to do with the answer."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.fit.fitting import FitResult
from analysis.measure.best_lr import lr_at
from analysis.measure.frontier import usable

RECOMMENDED = {"economical": 0.2, "balanced": 1.0, "fast": 5.0}  # times B_crit
RECOMMENDATION_COLUMNS = [
    "target_loss", "name", "batch_size", "steps", "steps_low", "steps_high", "examples",
    "examples_low", "examples_high", "lr", "lr_low", "lr_high", "extrapolated",
]  # fmt: skip


def recommend(fit: FitResult, frontier: pd.DataFrame) -> list[dict[str, Any]]:
    """Economical (B_crit/5), balanced (B_crit) and fast (5 B_crit) batch sizes of a fit.

    By the hyperbola they cost 20 % more examples than E_min, twice both minima, and 20 % more steps
    than S_min. Batch sizes are rounded to whole examples; steps and examples with 95 % intervals at
    that batch size are read from the points (FitResult.log_steps_at), not from the hyperbola, which
    is too high at the knee; lr from the frontier (lr_at), clamped where `extrapolated`. No rows for
    a fit that is not identified.
    """
    if fit.critical_batch_size is None:
        return []
    points = usable(frontier)
    rows = []
    for name, times in RECOMMENDED.items():
        size = max(1, round(times * fit.critical_batch_size))
        names = ("steps", "steps_low", "steps_high")
        steps = dict(zip(names, fit.steps_interval_at(size), strict=True))
        row: dict[str, Any] = {**fit.group, "target_loss": fit.target_loss, "name": name}
        row |= {"batch_size": size}
        row |= steps
        row |= {key.replace("steps", "examples"): size * row[key] for key in steps}
        lr = lr_at(points, size)
        row |= {"lr": lr.lr, "lr_low": lr.lr_low, "lr_high": lr.lr_high, "extrapolated": lr.clamped}
        rows.append(row)
    return rows
