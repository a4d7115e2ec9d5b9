"""Which batch size ends lowest after D examples, and how flat the optimum is.

Axes: B batch sizes trained to one length D, increasing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.bootstrap import FEWEST_SEEDS, percentile_interval, spread, widening
from analysis.measure.final_losses import SAME_LENGTH, SizeLosses, least_by_parabola, merged

Floats = NDArray[np.float64]

LOSS_COLUMNS = [
    "examples", "batch_size", "steps", "loss", "loss_low", "loss_high", "lr", "lr_refined",
    "lr_at_edge", "n_seeds", "n_lrs",
]  # fmt: skip
BEST_COLUMNS = [
    "examples", "batch_size", "batch_size_refined", "batch_size_low", "batch_size_high",
    "batch_size_at_edge", "loss", "lr", "lr_refined", "lr_at_edge", "n_batch_sizes",
    "half_percent_low", "half_percent_high", "one_percent_low", "one_percent_high",
]  # fmt: skip
_FLAT = {"half_percent": 0.005, "one_percent": 0.01}
_WIDTH = 4.1  # factor in batch size: its optimum is flatter than that of the lr


class _AtLength(NamedTuple):
    """What batch sizes [B] trained to one length end with; place: of the length in each."""

    examples: float
    sizes: list[SizeLosses]
    place: list[int]

    def of(self, name: str) -> NDArray:
        """[B], or [n_boot, B] of draws."""
        values = [
            getattr(losses, name)[..., i] for losses, i in zip(self.sizes, self.place, strict=True)
        ]
        return np.stack(values, axis=-1)

    @property
    def batch_sizes(self) -> Floats:
        return np.array([losses.batch_size for losses in self.sizes], float)


def length_frame(sizes: Sequence[SizeLosses], group: dict[str, Any]) -> pd.DataFrame:
    """Least loss over the lrs at every batch size and length, a row each: group.., LOSS_COLUMNS.

    examples: the length, equal for batch sizes within 2 %; loss_low, loss_high: 95 %, NaN with
    fewer than 3 seeds.
    """
    rows = []
    for at in _lengths(sizes):
        low, high = _interval(at.of("loss_draws"), at.of("n_seeds"))
        frame = pd.DataFrame(
            {
                "examples": at.examples,
                "batch_size": at.batch_sizes.astype(int),
                "steps": at.of("steps"),
                "loss": at.of("loss"),
                "loss_low": low,
                "loss_high": high,
                "lr": [s.lrs[s.best[i]] for s, i in zip(at.sizes, at.place, strict=True)],
                "lr_refined": at.of("lr"),
                "lr_at_edge": at.of("at_edge"),
                "n_seeds": at.of("n_seeds"),
                "n_lrs": at.of("n_lrs"),
            }
        )
        rows.append(frame)
    return pd.concat(rows, ignore_index=True).assign(**group)[[*group, *LOSS_COLUMNS]]


def best_batch_sizes(sizes: Sequence[SizeLosses], group: dict[str, Any]) -> pd.DataFrame:
    """Of each length with 3 batch sizes or more that with the least loss: group.., BEST_COLUMNS.

    batch_size: of those tried; batch_size_refined: the vertex of a parabola of log loss in log
    batch size through those within a factor 4 of it; lr: of batch_size, lr_refined: of
    batch_size_refined; batch_size_low, batch_size_high: its 95 %
    interval, NaN with fewer than 3 seeds; batch_size_at_edge: none tried is smaller, or none
    larger. half_percent_low, ..: between which batch sizes the loss is within 0.5 and 1 % of the
    least, log-linear between those tried; NaN where all tried on that side are.
    """
    rows = [_best(at) for at in _lengths(sizes) if len(at.sizes) > 2]
    return pd.DataFrame(rows, columns=pd.Index(BEST_COLUMNS)).assign(**group)[
        [*group, *BEST_COLUMNS]
    ]


def _lengths(sizes: Sequence[SizeLosses]) -> Iterator[_AtLength]:
    places = [(losses, i) for losses in sizes for i in range(len(losses.steps))]
    examples = merged(np.array([s.examples[i] for s, i in places]), SAME_LENGTH)
    for length in np.unique(examples):
        there = [place for place, at in zip(places, examples, strict=True) if at == length]
        yield _AtLength(float(length), [s for s, _ in there], [i for _, i in there])


def _best(at: _AtLength) -> dict[str, Any]:
    sizes, loss = at.batch_sizes, at.of("loss")
    every = np.vstack([loss[None], at.of("loss_draws")])
    least, refined = least_by_parabola(sizes, every[:, None], _WIDTH)
    position = int(loss.argmin())
    best = at.sizes[position]
    low, high = _size_interval(at, refined[:, 0], position)
    row = {
        "examples": at.examples,
        "batch_size": int(sizes[position]),
        "batch_size_refined": refined[0, 0],
        "batch_size_low": low,
        "batch_size_high": high,
        "batch_size_at_edge": position in (0, len(sizes) - 1),
        "loss": loss[position],
        "lr": best.lrs[best.best[at.place[position]]],
        "lr_refined": _lr_at(refined[0, 0], sizes, at.of("lr")),
        "lr_at_edge": bool(best.at_edge[at.place[position]]),
        "n_batch_sizes": len(sizes),
    }
    for name, share in _FLAT.items():
        ends = _within(sizes, loss, position, (1 + share) * min(least[0, 0], loss[position]))
        row |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return row


def _size_interval(at: _AtLength, refined: Floats, position: int) -> tuple[float, float]:
    """95 % of the best batch size; refined: it and its draws [1 + n_boot]; NaN below 3 seeds.

    The percentiles of the draws, and the batch sizes that may be the best one. Where there is no
    vertex between those tried, it reaches half a spacing at least.
    """
    sizes, n_seeds = at.batch_sizes, at.of("n_seeds")[[position]]
    (low,), (high,) = _interval(refined[1:, None], n_seeds, logarithmic=True)
    if np.isnan(low):
        return np.nan, np.nan
    has_vertex = refined[0] != sizes[position]
    apart = np.abs(np.arange(len(sizes)) - position)
    may = sizes[_may_be_best(at, float(n_seeds[0])) & (apart > (1 if has_vertex else 0))]
    ends = [refined[0], *may]
    if not has_vertex:
        ends += [float(np.sqrt(size * sizes[position])) for size in sizes[apart == 1]]
    return min(low, *ends), max(high, *ends)


def _may_be_best(at: _AtLength, n_seeds: float) -> NDArray[np.bool_]:
    """[B]: which are the best one at 95 %, all of them together, by the bootstrap: those whose loss
    is above each other's by no more than chance makes it of one that is not above.

    With errors e of the losses, L_B - L_j <= e_B - e_j for the best B and every j; the right side's
    greatest over j has a 95 % quantile. Source: Hsu 1981, Annals of Statistics 9, 1026 (multiple
    comparisons with the best).
    """
    loss, errors = at.of("loss"), at.of("loss_draws") - at.of("loss")
    factor = float(widening(n_seeds, n_seeds - 1))
    may = np.zeros(len(loss), bool)
    for i in range(len(loss)):
        others = np.arange(len(loss)) != i
        chance = (errors[:, [i]] - errors[:, others]).max(axis=1)
        may[i] = loss[i] - loss[others].min() <= factor * np.quantile(chance, 0.95)
    return may


def _lr_at(batch_size: float, sizes: Floats, lrs: Floats) -> float:
    """The best lr of the best batch size, between those of its neighbours, log-log."""
    return float(np.exp(np.interp(np.log(batch_size), np.log(sizes), np.log(lrs))))


def _within(sizes: Floats, loss: Floats, position: int, limit: float) -> tuple[float, float]:
    """Where the loss passes the limit on either side of the best; NaN where it does not."""
    low = _passes(sizes[position::-1], loss[position::-1], limit)
    return low, _passes(sizes[position:], loss[position:], limit)


def _passes(sizes: Floats, loss: Floats, limit: float) -> float:
    above = np.flatnonzero(loss > limit)
    if not len(above) or above[0] == 0:
        return np.nan if not len(above) else float(sizes[0])
    i = above[0]
    share = (limit - loss[i - 1]) / (loss[i] - loss[i - 1])
    return float(np.exp(np.log(sizes[i - 1]) + share * np.log(sizes[i] / sizes[i - 1])))


def _interval(draws: Floats, n_seeds: NDArray, logarithmic: bool = False) -> tuple[Floats, Floats]:
    """95 % percentiles of draws [n_boot, B], widened for few seeds; NaN below 3 of them."""
    if not len(draws):
        return np.full(draws.shape[1:], np.nan), np.full(draws.shape[1:], np.nan)
    n = np.maximum(n_seeds, FEWEST_SEEDS)
    of_scale = np.log(draws) if logarithmic else draws
    low, high = percentile_interval(spread(of_scale, widening(n, n - 1)))
    ends = [np.where(n_seeds < FEWEST_SEEDS, np.nan, end) for end in (low, high)]
    return tuple(np.exp(end) if logarithmic else end for end in ends)  # type: ignore[return-value]
