"""Steps to target from a table of steps instead of curves: the same cells, the same bootstrap.

A row is one trial, or one published value. Columns: any group.., batch_size, steps, and optionally
target_loss, lr, seed, outcome (reached, censored, left_censored, diverged; default reached),
steps_lower, steps_upper (evaluations around the crossing). A censored row's steps are where its
budget ended, a left-censored one's its first evaluation.

A cell is all seeds of one group, target, batch size and lr:
    all reached      steps = geometric mean over the seeds (and of their bounds)
    any censored     the cell is right-censored: steps_lower = geometric mean with the censored
                     seeds at their budget's end, which the mean cannot be below
    any left_censored
                     steps_upper = geometric mean with these at the steps they took at most
    any diverged     diverged
Without seeds a row is a cell of one seed; without lrs the frontier itself is given. A table is
measured over lrs: with further tuned columns each of their settings stands as a number in place of
lr (`coded`, and back: `decoded`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.bootstrap import FrontierDraws, least_of_lrs, resample_seeds
from analysis.measure.cell_frame import CELL_COLUMNS, mark_compared
from analysis.measure.cells import mean_of_crossings
from scaling.curves import Crossings
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED

Floats = NDArray[np.float64]

BOUNDS = ["steps_lower", "steps_upper"]


class TableGroup(NamedTuple):
    """One group of a table of steps: its rows, its targets (largest first), cells and bootstrap.

    rng: of the group, as the bootstrap left it.
    """

    group: dict[str, Any]
    rows: pd.DataFrame
    targets: list[float]
    cells: pd.DataFrame
    draws: dict[int, FrontierDraws]
    rng: np.random.Generator


def table_groups(
    table: pd.DataFrame,
    group_by: Sequence[str],
    *,
    n_bootstrap: int,
    seed: int,
    jointly: bool = False,
) -> Iterator[TableGroup]:
    """The groups of a table in the order of their values, measured; see this module."""
    table = complete_table(table)
    groups: Iterable[tuple[Any, pd.DataFrame]] = [((), table)]
    if group_by:
        groups = table.groupby(list(group_by), dropna=False, sort=True)
    for index, (key, rows) in enumerate(groups):
        rng = np.random.default_rng([seed, index])
        targets = sorted(map(float, rows["target_loss"].unique()), reverse=True)
        draws = draw_table(rows, targets, n_bootstrap, rng, jointly=jointly)
        group = dict(zip(group_by, key, strict=True))
        yield TableGroup(group, rows, targets, table_cells(rows, group_by), draws, rng)


def complete_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every optional column: target_loss, lr and bounds NaN, outcome reached,
    seed 0. Not checked: see analysis.read.steps."""
    full = table.reset_index(drop=True).copy()
    for name in ("target_loss", "lr", *BOUNDS):
        full[name] = full[name].astype(float) if name in full else np.nan
    full["outcome"] = full["outcome"].fillna(REACHED) if "outcome" in full else REACHED
    if "seed" not in full:
        full["seed"] = 0
    return full


def table_cells(table: pd.DataFrame, group_by: Sequence[str] = ()) -> pd.DataFrame:
    """The cells of a complete table, a row each, as cells.cell_frame gives them.

    Columns: group_by.., CELL_COLUMNS; last_step is the least of the seeds' steps that did not reach
    the target, NaN where all did.
    """
    keys = [*group_by, "target_loss", "batch_size", "lr"]
    rows = [
        (*(key if isinstance(key, tuple) else (key,)), *_cell(seeds))
        for key, seeds in table.groupby(keys, dropna=False, sort=True)
    ]
    names = [*keys, "steps", "outcome", "n_seeds", "n_diverged", "last_step", *BOUNDS]
    frame = mark_compared(pd.DataFrame(rows, columns=pd.Index(names)), keys[:-1])
    return frame[[*group_by, *CELL_COLUMNS]]


def draw_table(
    table: pd.DataFrame,
    target_losses: Sequence[float],
    n_bootstrap: int,
    rng: np.random.Generator,
    *,
    jointly: bool = False,
) -> dict[int, FrontierDraws]:
    """The bootstrap of every batch size of one group of a complete table.

    Seeds are resampled per batch size, the same for all its lrs and targets; jointly: the same for
    all batch sizes as well (seeds that share initialisation or data between batch sizes).
    """
    sizes = sorted(table["batch_size"].unique())
    everywhere = np.unique(table["seed"])
    shared = resample_seeds(len(everywhere), n_bootstrap, rng) if jointly else None
    draws = {}
    for size, child in zip(sizes, rng.spawn(len(sizes)), strict=True):
        rows = table[table["batch_size"] == size]
        seeds = everywhere if jointly else np.unique(rows["seed"])
        counts = resample_seeds(len(seeds), n_bootstrap, child) if shared is None else shared
        draws[int(size)] = _draw_size(rows, target_losses, seeds, counts)
    return draws


def _cell(rows: pd.DataFrame) -> tuple[object, ...]:
    """steps, outcome, n_seeds, n_diverged, last_step, steps_lower, steps_upper."""
    outcome = rows["outcome"].to_numpy(str)
    n_diverged = int((outcome == DIVERGED).sum())
    seeds = (rows["seed"].nunique(), n_diverged)
    ends = rows.loc[rows["outcome"].isin((CENSORED, DIVERGED)), "steps"].min()
    if n_diverged:
        return (np.nan, DIVERGED, *seeds, ends, np.nan, np.nan)
    mean = mean_of_crossings(_crossings(rows), np.ones((1, len(rows))))
    steps, lower, upper = (float(part[0]) for part in mean)
    if (outcome == CENSORED).any():
        return (np.nan, CENSORED, *seeds, ends, lower, np.nan)
    if (outcome == LEFT_CENSORED).any():
        return (np.nan, LEFT_CENSORED, *seeds, ends, np.nan, upper)
    return (steps, REACHED, *seeds, ends, lower, upper)


def _crossings(rows: pd.DataFrame) -> Crossings:
    """Of each row; without bounds a reached one is exact."""
    outcome = rows["outcome"].to_numpy(str)
    steps, lower, upper = (rows[name].to_numpy(float) for name in ("steps", *BOUNDS))
    right, left = outcome == CENSORED, outcome == LEFT_CENSORED
    exact = np.isnan(lower) | np.isnan(upper)
    return Crossings(
        np.where(right | left, np.nan, steps),
        np.where(left, np.nan, np.where(right | exact, steps, lower)),
        np.where(right, np.nan, np.where(left | exact, steps, upper)),
    )


def _draw_size(
    rows: pd.DataFrame, target_losses: Sequence[float], seeds: NDArray, counts: NDArray
) -> FrontierDraws:
    """counts [n_boot, n_seeds]: how often each of `seeds` stands in each resample."""
    lrs = sorted(rows["lr"].dropna().unique()) or [np.nan]
    shape = (len(target_losses), len(counts), len(lrs))
    drawn = Crossings(*(np.full(shape, np.nan) for _ in range(3)))
    for k, target in enumerate(target_losses):
        for i, lr in enumerate(lrs):
            of_target = rows[_same(rows["target_loss"], target)]
            cell = of_target[_same(of_target["lr"], lr)]
            most = of_target.groupby("lr", dropna=False)["seed"].nunique().max()
            few = 2 * cell["seed"].nunique() <= most  # not compared: see cells.compared
            if not len(cell) or few or (cell["outcome"] == DIVERGED).any():
                continue
            weight = counts[:, np.searchsorted(seeds, cell["seed"])].astype(float)
            mean, some = mean_of_crossings(_crossings(cell), weight), weight.sum(axis=1) > 0
            for part, values in zip(drawn, mean, strict=True):
                part[k, :, i] = np.where(some, values, np.nan)
    return least_of_lrs(drawn, np.array(lrs))


def _same(column: pd.Series, value: float) -> NDArray[np.bool_]:
    return (column.isna() if np.isnan(value) else column == value).to_numpy(bool)


def coded(table: pd.DataFrame, others: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """With further tuned columns, a number for each setting in place of lr, and the settings."""
    if not others:
        return table, None
    keys = [*(["lr"] if "lr" in table else []), *others]
    codes = 1.0 + table.groupby(keys, dropna=False, sort=True).ngroup()
    settings = table.assign(code=codes)[["code", *keys]].drop_duplicates("code").set_index("code")
    if "lr" not in settings:
        settings.insert(0, "lr", np.nan)
    return table.drop(columns=others).assign(lr=codes), settings


def decoded(frame: pd.DataFrame, settings: pd.DataFrame | None) -> pd.DataFrame:
    if settings is None:
        return frame
    values = settings.loc[frame["lr"]].reset_index(drop=True)
    frame = frame.reset_index(drop=True)
    place = list(frame.columns).index("lr")
    return pd.concat([frame.iloc[:, :place], values, frame.iloc[:, place + 1 :]], axis=1)


def decoded_draws(
    draws: dict[int, FrontierDraws], table: pd.DataFrame, settings: pd.DataFrame | None
) -> dict[int, FrontierDraws]:
    """With the lr of the best setting in place of its number."""
    if settings is None:
        return draws
    with_lrs = {}
    for size, drawn in draws.items():
        codes = sorted(table.loc[table["batch_size"] == size, "lr"].unique())
        lrs = settings.loc[codes, "lr"].to_numpy(float)
        best = np.where(drawn.best >= 0, lrs[drawn.best], np.nan)
        with_lrs[size] = replace(drawn, lr=best, lrs=lrs)
    return with_lrs
