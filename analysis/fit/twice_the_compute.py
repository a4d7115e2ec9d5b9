"""More steps, a larger batch or a larger model: what does twice the compute buy?

From (model size N, batch size B near the critical one, S steps) with the compute C = FLOPs of an
example x B x S, three ways to spend 2 C: (N, B, 2 S); (N, 2 B, S); and (N', B, S') with the model
N' whose FLOPs are nearest to twice those of N, and S' such that it is 2 C exactly. Each is read
from the measured seed-mean curves at its own best learning rate. S is the largest for which all
three were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fit_result import FitResult
from analysis.measure.bootstrap import LEVEL, widening
from analysis.measure.cells import Cell
from analysis.measure.losses_at_examples import losses_at_examples
from analysis.measure.model_sizes import Family, MeasuredGroup

Floats = NDArray[np.float64]

BASE = "half the compute"
STEPS, BATCH, MODEL = "twice the steps", "twice the batch", "a larger model"
TWICE_COLUMNS = [
    "target_loss", "critical_batch_size", "way", "model_size", "batch_size", "steps", "compute",
    "lr", "lr_at_edge", "n_seeds", "loss", "loss_low", "loss_high", "standard_error",
    "over_larger_model", "over_larger_model_low", "over_larger_model_high",
    "over_larger_model_error",
]  # fmt: skip
_LEAST, _MOST = 1.5, 2.7  # times the FLOPs: what counts as about twice the model
_NEAR = 2.0  # so many times the critical batch size, or a part of it, is near to it


def twice_the_compute(
    families: Sequence[Family], fits: Sequence[FitResult], n_bootstrap: int = 0, seed: int = 0
) -> pd.DataFrame:
    """Four rows (BASE and the three ways) a group that has a model about twice as large.

    Columns: group.., TWICE_COLUMNS. target_loss: the hardest at which the critical batch size is
    identified; batch_size of BASE: the sampled one nearest to it (at most a factor 2 away) of which
    the double was trained too. Intervals are from a bootstrap over the seeds, widened for few of
    them (analysis.measure.bootstrap), NaN with one. over_larger_model: how far the loss lies above
    that of the larger model. No rows where any of this is not known.
    """
    names = list(fits[0].group) if fits else []
    rows: list[dict[str, Any]] = []
    for number, family in enumerate(families):
        for member in family.members:
            fit = _hardest_identified(member, fits)
            larger = _about_twice(member, family)
            if fit is None or larger is None:
                continue
            base = _base(member, larger, float(fit.critical_batch_size or 0))
            if base is not None:
                start = {"target_loss": fit.target_loss}
                start |= {"critical_batch_size": fit.critical_batch_size}
                ways = _ways(member, larger, *base)
                read = _read(ways, n_bootstrap, [seed, number])
                rows += [member.group | start | row for row in read]
    # the size itself may be what tells groups apart
    columns = [*names, *(name for name in TWICE_COLUMNS if name not in names)]
    return pd.DataFrame(rows, columns=columns)


def _hardest_identified(member: MeasuredGroup, fits: Sequence[FitResult]) -> FitResult | None:
    identified = [fit for fit in fits if fit.group == member.group and fit.identified]
    known = [fit for fit in identified if fit.critical_batch_size is not None]
    return min(known, key=lambda fit: fit.target_loss, default=None)


def _about_twice(member: MeasuredGroup, family: Family) -> MeasuredGroup | None:
    """The model whose FLOPs are nearest to twice the member's, if they are about that."""
    flops = member.flops_per_example
    if flops is None:
        return None
    near = [
        (abs(np.log(other.flops_per_example / flops / 2)), i)
        for i, other in enumerate(family.members)
        if other.flops_per_example is not None
        and _LEAST <= other.flops_per_example / flops <= _MOST
    ]
    return family.members[min(near)[1]] if near else None


Way = tuple[str, MeasuredGroup, int, float]  # name, model, batch size, steps


def _base(
    member: MeasuredGroup, larger: MeasuredGroup, critical_batch_size: float
) -> tuple[int, float] | None:
    """Batch size and steps to start from."""
    examples_here, examples_larger = _trained_examples(member), _trained_examples(larger)
    sizes = [
        size for size in examples_here if 2 * size in examples_here and size in examples_larger
    ]
    if not sizes:
        return None
    size = min(sizes, key=lambda size: abs(np.log(size / critical_batch_size)))
    if not 1 / _NEAR <= size / critical_batch_size <= _NEAR:
        return None
    ratio = (larger.flops_per_example or np.nan) / (member.flops_per_example or np.nan)
    examples = min(examples_here[size], examples_here[2 * size], ratio * examples_larger[size]) / 2
    steps = np.floor(examples / size)
    return (size, float(steps)) if steps >= 1 else None


def _trained_examples(member: MeasuredGroup) -> dict[int, float]:
    """Of each batch size, how far all of its lrs that did not diverge were trained."""
    read = losses_at_examples(member.cells, [], 0)
    known = np.isfinite(read.end_examples)
    sizes, ends = read.batch_sizes[known], read.end_examples[known]
    return {int(size): float(end) for size, end in zip(sizes, ends, strict=True)}


def _ways(member: MeasuredGroup, larger: MeasuredGroup, size: int, steps: float) -> list[Way]:
    ratio = (larger.flops_per_example or np.nan) / (member.flops_per_example or np.nan)
    return [
        (BASE, member, size, steps),
        (STEPS, member, size, 2 * steps),
        (BATCH, member, 2 * size, steps),
        (MODEL, larger, size, 2 * steps / ratio),
    ]


def _read(ways: list[Way], n_bootstrap: int, seed: list[int]) -> list[dict[str, Any]]:
    rows, draws, n_seeds = [], [], []
    for _, model, size, steps in ways:
        cells = [cell for cell in model.cells if cell.batch_size == size]
        n_seeds.append(min(len(cell.seeds) for cell in cells))
        # The first two are one set of trials: with one seed of the draws, resampled together.
        own_seed = [*seed, int(model.model_size or 0)]
        read = losses_at_examples(
            cells, [size * steps], n_bootstrap if n_seeds[-1] > 1 else 0, own_seed
        )
        draws.append(read.draws[:, 0, 0])
        rows.append(
            {
                "model_size": model.model_size, "batch_size": size, "steps": steps,
                "compute": (model.flops_per_example or np.nan) * size * steps,
                "lr": read.lr[0, 0], "lr_at_edge": bool(read.lr_at_edge[0, 0]),
                "loss": read.excess[0, 0] + model.floor, "n_seeds": n_seeds[-1],
            }
        )  # fmt: skip
    for (name, *_), row, way_draws, n in zip(ways, rows, draws, n_seeds, strict=True):
        row |= {"way": name}
        row |= _uncertain("loss", row["loss"], way_draws, n, "standard_error")
        if name in (STEPS, BATCH):
            over = row["loss"] - rows[-1]["loss"]
            known = len(way_draws) and len(draws[-1])
            apart = way_draws - draws[-1] if known else way_draws[:0]
            row |= {"over_larger_model": over}
            least = min(n, n_seeds[-1])
            row |= _uncertain("over_larger_model", over, apart, least, "over_larger_model_error")
    return rows


def _uncertain(name: str, value: float, draws: Floats, n: int, error: str) -> dict[str, float]:
    """Standard error and 95 % interval of a mean over n seeds, from its bootstrap draws."""
    if n < 2 or not len(draws):
        return {}
    spread = draws.std() * np.sqrt(n / (n - 1))
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws, [tail, 100 - tail]) - np.median(draws)
    wide = widening(n, n - 1)
    return {error: spread, f"{name}_low": value + wide * low, f"{name}_high": value + wide * high}


def way_curves(families: Sequence[Family], rows: pd.DataFrame) -> pd.DataFrame:
    """way, compute, loss: the seed-mean curve of each of the three ways, at its learning rate.

    rows: those of one group.
    """
    parts = []
    for row in rows[rows["way"] != BASE].to_dict("records"):
        others = [m for family in families for m in family.members if _matches(m, family, row)]
        cells = [(m, c) for m in others for c in m.cells if _is_of(c, row)]
        for member, cell in cells[:1]:
            steps, excess = cell.mean_curve()
            compute = steps * cell.batch_size * (member.flops_per_example or np.nan)
            curve = pd.DataFrame({"way": row["way"], "compute": compute})
            parts.append(curve.assign(loss=excess + member.floor)[compute > 0])
    columns = ["way", "compute", "loss"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _matches(member: MeasuredGroup, family: Family, row: dict[Any, Any]) -> bool:
    same = all(row.get(name) == value for name, value in family.others.items())
    return same and member.model_size == row["model_size"]


def _is_of(cell: Cell, row: dict[Any, Any]) -> bool:
    return cell.batch_size == row["batch_size"] and cell.lr == row["lr"]
