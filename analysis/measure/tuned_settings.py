"""Settings of several tuned columns as one number in place of lr, and back.

A table of steps is measured over lrs; with further tuned columns each of their settings is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.measure.bootstrap import FrontierDraws


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
