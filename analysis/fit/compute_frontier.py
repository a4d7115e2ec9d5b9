"""For a compute budget: which model size, batch size and number of steps give the lowest loss.

    C = FLOPs per example x batch size x steps

Read from the measured curves: at each C the loss of every model size and batch size at its best lr
(seed mean), its lower envelope, and the valley's bottom between the sampled sizes by a parabola
through the best and its neighbours in logarithms. Source: Hoffmann et al. 2022, arXiv:2203.15556,
approach 2 (isoFLOP profiles), with the batch size as a second direction.
Axes: m bootstrap draws, K budgets, G model sizes, B batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.law_fit import FEWEST_FOR_CLAIM, Points, law_row
from analysis.measure.bootstrap import FEWEST_SEEDS, percentile_interval
from analysis.measure.compute_curves import ComputeCurves, read_compute_curves
from analysis.measure.model_sizes import Family
from analysis.words import rounded

Floats = NDArray[np.float64]

COMPUTE_COLUMNS = [
    "compute", "loss", "loss_low", "loss_high", "model_size", "batch_size", "steps", "lr",
    "best_model_size", "best_model_size_low", "best_model_size_high", "best_batch_size",
    "best_batch_size_low", "best_batch_size_high", "best_steps", "best_steps_low",
    "best_steps_high", "model_size_at_edge", "batch_size_at_edge", "lr_at_edge", "n_not_trained",
]  # fmt: skip
LOSS_COLUMNS = ["compute", "model_size", "loss", "batch_size", "steps", "lr", "best"]
_FEWEST_BUDGETS, _LEAST_SPAN = 3, 3.0  # for an exponent: budgets inside the grid, and their ratio


@dataclass(frozen=True)
class _Best:
    """Positions of the lowest loss and the valley's bottom; all [..., K]."""

    size: NDArray[np.int64]
    batch_size: NDArray[np.int64]
    log_size: Floats
    log_batch_size: Floats
    log_steps: Floats
    size_at_edge: NDArray[np.bool_]
    batch_size_at_edge: NDArray[np.bool_]


@dataclass(frozen=True)
class ComputeFrontier:
    """frontier: a row a family and budget, others.., COMPUTE_COLUMNS; compute in FLOPs; model_size,
    batch_size, steps and lr of the best trained point, best_.. of the valley's bottom with 95 %
    intervals (the grid's own where at_edge); n_not_trained: (model size, batch size) pairs that
    ended before it. losses: a row a budget and model size, LOSS_COLUMNS. laws: rows of law_frame
    for model_size, batch_size, steps and loss against compute."""

    frontier: pd.DataFrame
    losses: pd.DataFrame
    laws: list[dict[str, Any]]


def compute_frontier(
    families: Sequence[Family], *, n_bootstrap: int = 0, seed: int = 0
) -> ComputeFrontier:
    """Of all families whose FLOPs per example are known; see ComputeFrontier.

    A budget has a row only where it is decided: no trial that had stopped before it was already
    as low as the best one there.
    """
    names = list(families[0].others) if families else []
    rows: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    laws: list[dict[str, Any]] = []
    for index, family in enumerate(families):
        draws = n_bootstrap if family.n_seeds > 1 else 0  # one seed resampled is no interval
        curves = read_compute_curves(family, draws, [seed, index])
        if curves is None or not len(curves.compute):
            continue
        best, drawn = _best(curves, curves.excess), _best(curves, curves.draws)
        floor = family.members[0].floor
        rows += [family.others | row for row in _rows(curves, best, drawn, floor)]
        losses += [family.others | row for row in _losses(curves, best, floor)]
        laws += [family.others | row for row in _laws(curves, best, drawn, family)]
    return ComputeFrontier(
        pd.DataFrame(rows, columns=[*names, *COMPUTE_COLUMNS]),
        pd.DataFrame(losses, columns=[*names, *LOSS_COLUMNS]),
        laws,
    )


def _best(curves: ComputeCurves, excess: Floats) -> _Best:
    """Of excess [..., K, G, B]."""
    filled = np.where(np.isnan(excess), np.inf, excess)
    size, log_size, size_edge = valley(np.log(curves.sizes), filled.min(axis=-1))
    at_best_size = np.take_along_axis(filled, size[..., None, None], axis=-2)[..., 0, :]
    batch, log_batch, batch_edge = valley(np.log(curves.batch_sizes), at_best_size)
    log_flops = np.interp(log_size, np.log(curves.sizes), np.log(curves.flops))
    log_steps = np.log(curves.compute) - log_flops - log_batch
    return _Best(size, batch, log_size, log_batch, log_steps, size_edge, batch_edge)


def valley(log_x: Floats, excess: Floats) -> tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]:
    """Position of the least excess [..., n], log x of the valley's bottom, and whether it is at an
    edge: no value on one side of the least."""
    n = excess.shape[-1]
    at = excess.argmin(axis=-1)

    def value(shift: int) -> Floats:
        inside = (at + shift >= 0) & (at + shift < n)
        near = np.take_along_axis(excess, np.clip(at + shift, 0, n - 1)[..., None], axis=-1)
        return np.where(inside, near[..., 0], np.inf)

    below, least, above = value(-1), value(0), value(1)
    edge = ~(np.isfinite(below) & np.isfinite(above))
    left = log_x[at] - log_x[np.maximum(at - 1, 0)]
    right = log_x[np.minimum(at + 1, n - 1)] - log_x[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        down, up = np.log(below / least) / left, np.log(above / least) / right
        shift = (down * right - up * left) / (down + up) / 2
    bottom = np.where(edge | ~np.isfinite(shift), 0.0, shift)
    return at, log_x[at] + bottom, edge


def _rows(c: ComputeCurves, best: _Best, drawn: _Best, floor: float) -> list[dict[str, Any]]:
    k = np.arange(len(c.compute))
    at = (k, best.size, best.batch_size)
    least_draws = np.where(np.isnan(c.draws), np.inf, c.draws).min(axis=(2, 3))
    columns: dict[str, Any] = {
        "compute": c.compute,
        "loss": c.excess[at] + floor,
        "model_size": c.sizes[best.size],
        "batch_size": c.batch_sizes[best.batch_size].astype(int),
        "steps": c.compute / c.flops[best.size] / c.batch_sizes[best.batch_size],
        "lr": c.lr[at],
        "model_size_at_edge": best.size_at_edge,
        "batch_size_at_edge": best.batch_size_at_edge,
        "lr_at_edge": c.lr_at_edge[at],
        "n_not_trained": c.n_not_trained,
    }
    columns["loss_low"], columns["loss_high"] = (
        b + floor for b in percentile_interval(least_draws)
    )
    for name, values, draws in _optimum(best, drawn):
        columns[f"best_{name}"] = np.exp(values)
        bounds = percentile_interval(np.exp(draws))
        columns[f"best_{name}_low"], columns[f"best_{name}_high"] = bounds
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _optimum(best: _Best, drawn: _Best) -> list[tuple[str, Floats, Floats]]:
    return [
        ("model_size", best.log_size, drawn.log_size),
        ("batch_size", best.log_batch_size, drawn.log_batch_size),
        ("steps", best.log_steps, drawn.log_steps),
    ]


def _losses(c: ComputeCurves, best: _Best, floor: float) -> list[dict[str, Any]]:
    rows = []
    filled = np.where(np.isnan(c.excess), np.inf, c.excess)
    for k, compute in enumerate(c.compute):
        for g, size in enumerate(c.sizes):
            b = int(filled[k, g].argmin())
            if np.isfinite(filled[k, g, b]):
                rows.append(
                    {
                        "compute": compute, "model_size": size, "loss": filled[k, g, b] + floor,
                        "batch_size": int(c.batch_sizes[b]), "lr": c.lr[k, g, b],
                        "steps": compute / c.flops[g] / c.batch_sizes[b],
                        "best": g == best.size[k],
                    }
                )  # fmt: skip
    return rows


def _laws(c: ComputeCurves, best: _Best, drawn: _Best, family: Family) -> list[dict[str, Any]]:
    """What grows how with compute, from the budgets whose best point lies inside the grid."""
    single, floor = len(c.sizes) == 1, family.members[0].floor
    approximate = family.n_seeds < FEWEST_SEEDS
    size_inside = ~best.size_at_edge | single
    inside = {
        "model_size": ~best.size_at_edge,
        "batch_size": size_inside & ~best.batch_size_at_edge,
        "steps": size_inside & ~best.batch_size_at_edge,
    }
    rows = []
    for name, values, draws in _optimum(best, drawn):
        if name == "model_size" and single:
            continue
        row = {"y": name, "definition": "lowest loss at fixed compute", "x": "compute"}
        row |= {"offset": 0.0, "offset_is": "zero", "approximate_ci": approximate}
        rows.append(row | _growth(c.compute, np.exp(values), np.exp(draws), inside[name], name))
    k = np.arange(len(c.compute))
    excess = c.excess[k, best.size, best.batch_size]
    least = np.where(np.isnan(c.draws), np.inf, c.draws).min(axis=(2, 3))
    row = {"y": "loss", "definition": "lowest loss at fixed compute", "x": "compute"}
    row |= {
        "offset": floor,
        "offset_is": "recorded" if floor else "zero",
        "approximate_ci": approximate,
    }
    return [*rows, row | _growth(c.compute, excess, least, np.ones(len(k), bool), "loss")]


def _growth(
    compute: Floats, values: Floats, draws: Floats, inside: NDArray[np.bool_], name: str
) -> dict[str, Any]:
    inside = inside & (values > 0) & ~(draws <= 0).any(axis=0)  # a loss of 0 has no logarithm
    n, used = int(inside.sum()), compute[inside]
    left_out = {"n_left_out": len(compute) - n}
    if n < _FEWEST_BUDGETS or used.max() / used.min() < _LEAST_SPAN:
        what = "model size" if name == "model_size" else "model size and batch size"
        where = (
            f"at {n} of {len(compute)} budgets the best {what} lies inside what was trained; "
            f"{_FEWEST_BUDGETS} over a factor {_LEAST_SPAN:g} are needed"
        )
        return {"form": "power", "n": n, "reason": where} | left_out
    row = law_row("power", Points(used, values[inside], list(draws[:, inside].T)))
    # budgets are points of the same curves: leaving one out shows nothing
    return {k: v for k, v in row.items() if "without_one" not in k} | left_out


def ten_times_words(laws: pd.DataFrame, label: str) -> str:
    """What ten times the compute should be spent on, or why that is not known; laws: of one family
    in x = compute."""
    parts, missing = [], []
    for law in laws[laws["y"] != "loss"].to_dict("records"):
        if pd.isna(law["exponent"]) or law["n"] < FEWEST_FOR_CLAIM:
            missing.append(law["reason"] or _few_budgets(law["n"]))
            continue
        low, high = (10 ** law[f"exponent_{end}"] for end in ("low", "high"))
        known = f" ({rounded(low)} to {rounded(high)})" if np.isfinite([low, high]).all() else ""
        name = law["y"].replace("_", " ")
        parts.append(f"{name} times {rounded(10 ** law['exponent'])}{known}")
    text = "Ten times the compute: " + ", ".join(parts) + "." if parts else ""
    if missing:
        unknown = "; ".join(dict.fromkeys(missing))
        text += f"{' ' if text else ''}Not known for the rest" if parts else "Not known"
        text += f": {unknown}. Train beyond that edge to find out."
    return f"{label}: {text}" if label else text


def _few_budgets(n: int) -> str:
    return f"the best lies inside what was trained at {n} budgets; a claim needs {FEWEST_FOR_CLAIM}"
