"""Exact tables of final losses: streaming regression whose lr decays linearly to 0."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.theory.streaming import exact_final_risks
from scaling.config import ScheduleConfig
from scaling.problem import RegressionProblem
from scaling.schedules import lr_factor


def exact_final_losses(
    problem: RegressionProblem,
    batch_sizes: Sequence[int],
    lengths: Sequence[int],
    lrs: Sequence[float],
) -> pd.DataFrame:
    """batch_size, lr, steps, loss: expected excess risk of every batch size, length in examples and
    lr; infinite where it grows without bound. Lengths below a batch are left out."""
    rows = []
    for length in lengths:
        for size in batch_sizes:
            steps = length // size
            schedule = ScheduleConfig("linear", 0, steps)
            factors = [lr_factor(schedule, step) for step in range(1, steps + 1)]
            risks = exact_final_risks(problem, size, lrs, factors) if steps else []
            kept = zip(lrs, risks, strict=False)
            limit = 1000 * problem.initial_risk
            rows += [(size, lr, steps, risk if risk < limit else float("inf")) for lr, risk in kept]
    return pd.DataFrame(rows, columns=pd.Index(["batch_size", "lr", "steps", "loss"]))
