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
    FEWEST_FOR_CLAIM,
    FEWEST_POINTS,
    LAW_COLUMNS,
    Points,
    law_row,
    predict,
    two_power_rows,
)
from analysis.fit.power_law import FEWEST_WITH_OFFSET
from analysis.measure.frontier import usable
from analysis.measure.intervals import FEWEST_SEEDS
from analysis.measure.losses_at_examples import example_budgets, least_of, losses_at_examples
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
            of_loss, points = _laws_of_loss(family, frontier, n_bootstrap, seed)
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


def law_caveats(families: Sequence[Family], laws: pd.DataFrame) -> list[str]:
    """Few sizes, and what could not enter."""
    sentences = []
    for family in families:
        n = len(set(family.sizes))
        if 1 < n < FEWEST_POINTS:
            sentences.append(
                f"There are {n} model sizes; a law in model size needs {FEWEST_POINTS}."
            )
        elif 1 < n < FEWEST_FOR_CLAIM:
            sentences.append(
                f"Laws in model size stand on {n} sizes; below {FEWEST_FOR_CLAIM} nothing shows "
                "whether a power law holds, so do not extrapolate them."
            )
    in_size = laws[(laws["x"] == "model_size") & (laws["y"] == "critical_batch_size")]
    if ((in_size["definition"] == OWN_TARGETS) & in_size["exponent"].notna()).any():
        sentences.append(
            "Model sizes have different targets: the law of the critical batch size in model size "
            "joins each size at its own, so its exponent holds the effect of the target as well."
        )
    for row in in_size[in_size["n_left_out"] > 0].to_dict("records"):
        at_own_targets = row["definition"] == OWN_TARGETS
        at = (
            "At their own targets" if at_own_targets else f"At target loss {row['target_loss']:.4g}"
        )
        sentences.append(
            f"{at}, the critical batch size of "
            f"{row['n_left_out']} of {row['n_left_out'] + row['n']} model sizes is not identified "
            "and stays out of its law."
        )
    return list(dict.fromkeys(sentences))


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
    rows = []
    for target, sized_fits in _by_target(family, fits).items():
        if len(sized_fits) < 2:
            continue
        for y, definition in _OF_FIT.items():
            known = [(size, fit) for size, fit in sized_fits if getattr(fit, y) is not None]
            chosen = [fit for _, fit in known]
            points = Points(np.array([size for size, _ in known]), *_values(chosen, y))
            rows.append(
                {
                    **family.others, "y": y, "definition": definition, "x": "model_size",
                    "target_loss": target, "n_left_out": len(sized_fits) - len(known),
                    "offset": 0.0, "offset_is": "zero", "approximate_ci": _approximate(chosen),
                    **law_row("power", points),
                }
            )  # fmt: skip
    return rows


def _law_across_targets(family: Family, fits: Sequence[FitResult]) -> Rows:
    """B_crit against model size where every size has one target, and not all have the same."""
    sized_fits = [(size, fit) for size, _, fit in _with_floor(family, fits)]
    sizes, targets = [size for size, _ in sized_fits], {fit.target_loss for _, fit in sized_fits}
    if len(targets) < 2 or len(set(sizes)) < len(sizes):
        return []
    known = [(size, fit) for size, fit in sized_fits if fit.critical_batch_size is not None]
    chosen = [fit for _, fit in known]
    points = Points(np.array([size for size, _ in known]), *_values(chosen, "critical_batch_size"))
    row = {
        **family.others, "y": "critical_batch_size", "definition": OWN_TARGETS,
        "x": "model_size", "n_left_out": len(sized_fits) - len(known), "offset": 0.0,
        "offset_is": "zero", "approximate_ci": _approximate(chosen), **law_row("power", points),
    }  # fmt: skip
    return [row]


def _laws_of_steps(family: Family, frontier: pd.DataFrame) -> Rows:
    """Steps at each batch size against model size; only where two sizes reached the target."""
    rows = []
    reached = usable(frontier)
    for target in sorted({t for member in family.members for t in member.targets}, reverse=True):
        at_target = reached[reached["target_loss"] == target]
        for batch_size in sorted(at_target["batch_size"].unique()):
            sizes, steps, draws, seeds = [], [], [], []
            at_both = at_target[at_target["batch_size"] == batch_size]
            for member in family.members:
                row = _rows_of(at_both, member.group)
                if len(row) and target in member.targets:
                    sizes.append(member.model_size)
                    steps.append(float(row["steps"].iloc[0]))
                    drawn = member.draws[int(batch_size)].steps[member.targets.index(target)]
                    draws.append(drawn)
                    seeds.append(int(row["n_seeds"].iloc[0]))
            if len(set(sizes)) > 1:
                # one seed resampled is no interval
                known = draws if min(seeds) > 1 else []
                points = Points(np.array(sizes, float), np.array(steps), known)
                rows.append(
                    {
                        **family.others, "y": "steps", "definition": "frontier",
                        "x": "model_size", "target_loss": target, "batch_size": int(batch_size),
                        "offset": 0.0, "offset_is": "zero",
                        "approximate_ci": min(seeds) < FEWEST_SEEDS,
                        "n_left_out": len(family.members) - len(sizes),
                        **law_row("power", points),
                    }
                )  # fmt: skip
    return rows


def _laws_of_loss(
    family: Family, frontier: pd.DataFrame, n_bootstrap: int, seed: int
) -> tuple[Rows, Rows]:
    """Least loss over batch sizes and lrs after fixed examples, against model size; its points."""
    points = [_rows_of(frontier, member.group) for member in family.members]
    budgets = np.array(example_budgets(pd.concat(points)))
    if not len(budgets) or not all(member.cells for member in family.members):
        return [], []
    floors = {member.floor for member in family.members}
    floors_of = np.array([member.floor for member in family.members])
    n_bootstrap = n_bootstrap if family.n_seeds > 1 else 0
    read = [
        losses_at_examples(member.cells, budgets, n_bootstrap, [seed, i])
        for i, member in enumerate(family.members)
    ]
    best = [losses.best(budgets) for losses in read]
    rows, points_of = [], []
    for k, budget in enumerate(budgets):
        chosen = [i for i in range(len(read)) if best[i][1][k]]
        sizes = family.sizes[chosen]
        if len(set(sizes)) < 2:
            continue
        excess = np.array([read[i].excess[k, best[i][0][k]] for i in chosen])
        points_of += [
            {**family.others, "examples": float(budget), "model_size": size, "loss": value}
            for size, value in zip(sizes, excess + floors_of[chosen], strict=True)
        ]
        draws = [least_of(read[i].draws[:, k])[:, 0] for i in chosen]
        floor = next(iter(floors)) if len(floors) == 1 else math.nan
        shared: dict[str, Any] = {
            **family.others, "y": "loss", "definition": "least at fixed examples",
            "x": "model_size", "examples": float(budget),
            "approximate_ci": family.n_seeds < FEWEST_SEEDS,
            "n_left_out": len(read) - len(chosen),
        }  # fmt: skip
        offset = {"offset": floor, "offset_is": "recorded" if floor else "zero"}
        points = Points(sizes, excess, draws)
        rows.append(shared | offset | law_row("power", points))
        if len(set(sizes)) >= FEWEST_WITH_OFFSET and floor == 0:
            rows.append(shared | {"offset_is": "free"} | law_row("floor", points))
    return rows, points_of


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


def _by_target(
    family: Family, fits: Sequence[FitResult]
) -> dict[float, list[tuple[float, FitResult]]]:
    by_target: dict[float, list[tuple[float, FitResult]]] = {}
    for size, _, fit in _with_floor(family, fits):
        by_target.setdefault(fit.target_loss, []).append((size, fit))
    return dict(sorted(by_target.items(), reverse=True))


def _with_floor(family: Family, fits: Sequence[FitResult]) -> list[tuple[float, float, FitResult]]:
    return [
        (float(member.model_size or math.nan), member.floor, fit)
        for member in family.members
        for fit in fits
        if fit.group == member.group
    ]


def _values(fits: Sequence[FitResult], name: str) -> tuple[Floats, list[Floats]]:
    """A quantity of each fit, and its bootstrap draws."""
    values = np.array([getattr(fit, name) for fit in fits], float)
    position = {"min_steps": (0,), "min_examples": (1,)}.get(name)
    logs = [
        fit.draws[:, 1] - fit.draws[:, 0] if position is None else fit.draws[:, position[0]]
        for fit in fits
    ]
    return values, [np.exp(drawn) for drawn in logs]


def _approximate(fits: Sequence[FitResult]) -> bool:
    return any(fit.approximate_ci for fit in fits)


def _rows_of(frame: pd.DataFrame, group: dict[str, Any]) -> pd.DataFrame:
    keep = np.ones(len(frame), dtype=bool)
    for name, value in group.items():
        keep &= (frame[name] == value).to_numpy()
    return frame[keep]
