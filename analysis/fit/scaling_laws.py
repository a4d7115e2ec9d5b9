"""How the answer moves with the target and with the model size: power laws with intervals.

    B_crit(L) = B* / (L - L_inf)^(1/alpha)          at one model size (exponent = -1/alpha)
    B_crit(N), S_min(N), E_min(N), S(N; B)          power laws in model size N at one target
    L(N; E)                                         loss at fixed examples E
    L(N, S_min) = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S

Source: Kaplan et al. 2020, arXiv:2001.08361, equations 1.4 to 1.6 (there L_inf = 0). Only what a
fit has identified enters. A law needs 3 different x, a factor 1.5 apart in all; intervals come from
the fits' bootstrap draws, so they hold the noise of the seeds, not how far the true law is from a
power law: for that see exponent_without_one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fitting import FitResult
from analysis.fit.law_fit import (
    LAW_COLUMNS,
    Points,
    law_row,
    predict,
    two_power_rows,
)
from analysis.fit.loss_laws import laws_of_loss
from analysis.fit.power_law import FEWEST_WITH_OFFSET
from analysis.groups import select
from analysis.measure.bootstrap import FEWEST_SEEDS
from analysis.measure.frontier import usable
from analysis.measure.model_sizes import Family, MeasuredGroup

Floats = NDArray[np.float64]

DEFINITION = "min_examples/min_steps"
OWN_TARGETS = f"{DEFINITION}, each size at its own target"
_OF_FIT = {"critical_batch_size": DEFINITION, "min_steps": "fit", "min_examples": "fit"}
Rows = list[dict[str, Any]]


def law_frame(
    fits: Sequence[FitResult],
    groups: Sequence[MeasuredGroup],
    families: Sequence[Family],
    frontier: pd.DataFrame,
    *,
    n_bootstrap: int = 0,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All laws of a study, a row each, and the losses that laws of loss are fitted to.

    Laws: columns: group.. (None: not of one value), LAW_COLUMNS.

    y, definition, x, form: y = offset + coefficient x^exponent ("power", offset 0 or known, and
    "floor", offset free); y = coefficient (x - offset)^exponent for B_crit against target_loss
    ("power", and "shifted" where the offset is free); for "two_powers" y is the sum over its two
    rows of (coefficient/x)^-exponent, plus offset. offset_is: zero, recorded (the task's
    irreducible loss) or free. target_loss, batch_size, examples: what is held fixed. _low, _high:
    95 %; exponent_without_one_low, _high: extremes when each point is left out in turn. n points,
    n_left_out: groups or targets whose value is not identified. reason: why there is no exponent.
    Where each model size has one target of its own (as published tables have), B_crit against model
    size has the definition OWN_TARGETS and no target_loss.
    Losses: others.., examples, model_size, loss: the least over batch sizes and lrs.
    """
    names = list(groups[0].group) if groups else []
    rows: Rows = []
    losses: Rows = []
    for group in groups:
        group_fits = [fit for fit in fits if fit.group == group.group]
        rows += _laws_in_target(group, group_fits)
    for family in families:
        if len(set(family.sizes)) > 1:
            rows += _laws_in_size(family, fits) + _law_across_targets(family, fits)
            rows += _laws_of_steps(family, frontier)
            of_loss, points = laws_of_loss(family, frontier, n_bootstrap, seed)
            rows, losses = rows + of_loss, losses + points
            rows += _loss_surface(family, fits)
    frame = pd.DataFrame(rows, columns=[*names, *LAW_COLUMNS])
    others = list(families[0].others) if families else []
    points_frame = pd.DataFrame(losses, columns=[*others, "examples", "model_size", "loss"])
    return frame.astype(dict.fromkeys(names, object)), points_frame


def law_curve(law: Mapping[Any, Any], x: np.ndarray) -> np.ndarray:
    """y of a row of the laws at x; see scaling_laws.law_frame."""
    parameters = np.array([np.log(law["coefficient"]), law["exponent"], law["offset"]])
    if law["form"] != "power":
        return predict(law["form"], parameters, x)
    if law["x"] == "target_loss":
        return predict("power", parameters, x - law["offset"])
    return law["offset"] + predict("power", parameters, x)


def _laws_in_target(group: MeasuredGroup, fits: Sequence[FitResult]) -> Rows:
    """B_crit against the target: with the recorded irreducible loss, zero, and free."""
    known = [fit for fit in fits if fit.critical_batch_size is not None]
    if len(fits) < 2:
        return []
    targets = np.array([fit.target_loss for fit in known])
    points = Points(targets, *_values(known, "critical_batch_size"))
    shared: dict[str, Any] = {
        **group.group, "y": "critical_batch_size", "definition": DEFINITION, "x": "target_loss",
        "n_left_out": len(fits) - len(known), "approximate_ci": _approximate(known),
    }  # fmt: skip
    rows = []
    if group.floor:
        about = {"offset": group.floor, "offset_is": "recorded"}
        rows.append(shared | about | law_row("power", points._replace(x=targets - group.floor)))
    rows.append(shared | {"offset": 0.0, "offset_is": "zero"} | law_row("power", points))
    if len(known) >= FEWEST_WITH_OFFSET and (targets > 0).all():
        rows.append(shared | {"offset_is": "free"} | law_row("shifted", points))
    return rows


def _laws_in_size(family: Family, fits: Sequence[FitResult]) -> Rows:
    """B_crit, S_min and E_min against model size at each target that two sizes have."""
    sized_fits = [(size, fit) for size, _, fit in _with_floor(family, fits)]
    rows = []
    for target in sorted({fit.target_loss for _, fit in sized_fits}, reverse=True):
        at_target = [(size, fit) for size, fit in sized_fits if fit.target_loss == target]
        if len(at_target) > 1:
            rows += [
                _law_of_fits(family, at_target, y, definition, target)
                for y, definition in _OF_FIT.items()
            ]
    return rows


def _law_across_targets(family: Family, fits: Sequence[FitResult]) -> Rows:
    """B_crit against model size where every size has one target, and not all have the same."""
    sized_fits = [(size, fit) for size, _, fit in _with_floor(family, fits)]
    sizes, targets = [size for size, _ in sized_fits], {fit.target_loss for _, fit in sized_fits}
    if len(targets) < 2 or len(set(sizes)) < len(sizes):
        return []
    return [_law_of_fits(family, sized_fits, "critical_batch_size", OWN_TARGETS, math.nan)]


def _law_of_fits(
    family: Family,
    sized_fits: Sequence[tuple[float, FitResult]],
    y: str,
    definition: str,
    target: float,
) -> dict[str, Any]:
    """y of these fits against model size; those whose y is not identified are left out."""
    known = [(size, fit) for size, fit in sized_fits if getattr(fit, y) is not None]
    chosen = [fit for _, fit in known]
    points = Points(np.array([size for size, _ in known]), *_values(chosen, y))
    row = {"definition": definition, "target_loss": target, "approximate_ci": _approximate(chosen)}
    return row | _law_in_size(family, y, points, len(sized_fits))


def _law_in_size(family: Family, y: str, points: Points, n: int) -> dict[str, Any]:
    """y = c N^k; n: how many values there are with those that are not known."""
    return {
        **family.others, "y": y, "x": "model_size", "offset": 0.0, "offset_is": "zero",
        "n_left_out": n - len(points.x), **law_row("power", points),
    }  # fmt: skip


def _laws_of_steps(family: Family, frontier: pd.DataFrame) -> Rows:
    """Steps at each batch size against model size; only where two sizes reached the target."""
    rows = []
    reached = usable(frontier)
    for target in sorted({t for member in family.members for t in member.targets}, reverse=True):
        at_target = reached[reached["target_loss"] == target]
        for batch_size in sorted(at_target["batch_size"].unique()):
            of_size = at_target[at_target["batch_size"] == batch_size]
            points, n_seeds = _steps_of_sizes(family, of_size, target, int(batch_size))
            if len(set(points.x)) > 1:
                row = {"definition": "frontier", "target_loss": target}
                row |= {"batch_size": int(batch_size), "approximate_ci": n_seeds < FEWEST_SEEDS}
                rows.append(row | _law_in_size(family, "steps", points, len(family.members)))
    return rows


def _steps_of_sizes(
    family: Family, reached: pd.DataFrame, target: float, batch_size: int
) -> tuple[Points, int]:
    """Steps of each model size that reached the target, and the fewest seeds of them."""
    sizes, steps, draws, seeds = [], [], [], []
    for member in family.members:
        row = select(reached, member.group)
        if len(row) and target in member.targets:
            sizes.append(member.model_size)
            steps.append(float(row["steps"].iloc[0]))
            draws.append(member.draws[batch_size].steps[member.targets.index(target)])
            seeds.append(int(row["n_seeds"].iloc[0]))
    n_seeds = min(seeds, default=0)
    # one seed resampled is no interval
    known = draws if n_seeds > 1 else []
    return Points(np.array(sizes, float), np.array(steps), known), n_seeds


def _loss_surface(family: Family, fits: Sequence[FitResult]) -> Rows:
    """L(N, S_min), from every size and target whose S_min is known."""
    known = [
        (size, member_floor, fit)
        for size, member_floor, fit in _with_floor(family, fits)
        if fit.min_steps is not None
    ]
    sizes = np.array([size for size, _, _ in known])
    excess = np.array([fit.target_loss - floor for _, floor, fit in known])
    steps, draws = _values([fit for _, _, fit in known], "min_steps")
    floors = {floor for _, floor, _ in known}
    floor = floors.pop() if len(floors) == 1 else math.nan
    shared: dict[str, Any] = {
        **family.others, "y": "loss", "definition": "L(N, S_min)", "offset": floor,
        "offset_is": "recorded" if floor else "zero", "n_left_out": 0,
        "approximate_ci": _approximate([fit for _, _, fit in known]),
    }  # fmt: skip
    return [shared | row for row in two_power_rows(sizes, steps, excess, draws)]


def _with_floor(family: Family, fits: Sequence[FitResult]) -> list[tuple[float, float, FitResult]]:
    return [
        (float(member.model_size or math.nan), member.floor, fit)
        for member in family.members
        for fit in fits
        if fit.group == member.group
    ]


def _values(fits: Sequence[FitResult], name: str) -> tuple[Floats, list[Floats]]:
    """A quantity of each fit, and its bootstrap draws."""
    draws = []
    for fit in fits:
        log_min_steps, log_min_examples = fit.draws.T
        logs = {"min_steps": log_min_steps, "min_examples": log_min_examples}
        draws.append(np.exp(logs.get(name, log_min_examples - log_min_steps)))
    return np.array([getattr(fit, name) for fit in fits], float), draws


def _approximate(fits: Sequence[FitResult]) -> bool:
    return any(fit.approximate_ci for fit in fits)
