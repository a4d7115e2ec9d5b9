"""Laws of the held-out loss in model size, after the same number of examples.

    L = offset + c N^k,   L the least mean loss over batch sizes and lrs

Axes: n model sizes, K numbers of examples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit.law_fit import Points, law_row
from analysis.fit.power_law import FEWEST_WITH_OFFSET
from analysis.groups import select
from analysis.measure.bootstrap import FEWEST_SEEDS
from analysis.measure.losses_at_examples import example_budgets, least_of, losses_at_examples
from analysis.measure.model_sizes import Family

Rows = list[dict[str, Any]]


def laws_of_loss(
    family: Family, frontier: pd.DataFrame, n_bootstrap: int, seed: int
) -> tuple[Rows, Rows]:
    """The laws at each of K numbers of examples, and the losses that they are fitted to.

    A row a law as scaling_laws.law_frame has them, and a row a point: others.., examples,
    model_size, loss. Nothing where a size has no curves.
    """
    members = family.members
    frontiers = [select(frontier, member.group) for member in members]
    budgets = np.array(example_budgets(pd.concat(frontiers, ignore_index=True)))
    if not len(budgets) or not all(member.cells for member in members):
        return [], []
    n_bootstrap = n_bootstrap if family.n_seeds > 1 else 0
    read = [
        losses_at_examples(member.cells, budgets, n_bootstrap, [seed, i])
        for i, member in enumerate(members)
    ]
    best = [losses.best(budgets) for losses in read]
    floors = np.array([member.floor for member in members])
    laws, losses = [], []
    for k, budget in enumerate(budgets):
        chosen = [i for i, (_, is_decided) in enumerate(best) if is_decided[k]]
        sizes = family.sizes[chosen]
        if len(set(sizes)) < 2:
            continue
        excess = np.array([read[i].excess[k, best[i][0][k]] for i in chosen])
        draws = [least_of(read[i].draws[:, k])[:, 0] for i in chosen]
        laws += _laws_at(family, float(budget), Points(sizes, excess, draws))
        losses += [
            {**family.others, "examples": float(budget), "model_size": size, "loss": loss}
            for size, loss in zip(sizes, excess + floors[chosen], strict=True)
        ]
    return laws, losses


def _laws_at(family: Family, examples: float, excess: Points) -> Rows:
    """With the recorded irreducible loss, and where none is recorded with a free one as well."""
    floors = {member.floor for member in family.members}
    floor = floors.pop() if len(floors) == 1 else math.nan
    shared: dict[str, Any] = {
        **family.others, "y": "loss", "definition": "least at fixed examples", "x": "model_size",
        "examples": examples, "approximate_ci": family.n_seeds < FEWEST_SEEDS,
        "n_left_out": len(family.members) - len(excess.x),
    }  # fmt: skip
    offset = {"offset": floor, "offset_is": "recorded" if floor else "zero"}
    rows = [shared | offset | law_row("power", excess)]
    if len(set(excess.x)) >= FEWEST_WITH_OFFSET and floor == 0:
        rows.append(shared | {"offset_is": "free"} | law_row("floor", excess))
    return rows
