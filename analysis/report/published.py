"""Published results of a study's own trials, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.groups import group_label
from analysis.read.stored_values import is_number, listed, wrong_tag

COLUMNS = ("trials", "metric", "published", "source", "measured", "least", "most", "n", "off_by")


def published_of(sweeps: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """What the newest sweep that has any says was published: where, metric, value, source."""
    claims = listed(sweeps, "published")
    for claim in claims:
        sound = isinstance(claim.get("where"), dict) and isinstance(claim.get("metric"), str)
        if not sound or not is_number(claim.get("value")):
            raise wrong_tag("published", claim, "where, metric and value in each")
    return claims


def compare_published(
    trials: pd.DataFrame, curves: pd.DataFrame, published: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """A row a published value, with the last evaluations of the trials that it speaks of.

    trials and curves as analysis.read.runs reads them. published: {"where": {param: value},
    "metric":
    "accuracy" or "loss", "value": .., "source": ..}. measured: mean over those trials; least and
    most of them; n trials; off_by = measured - published.
    """
    last = curves.sort_values("step").groupby("run_id").last()
    rows = []
    for claim in published:
        keep = np.ones(len(trials), dtype=bool)
        for param, value in claim["where"].items():
            keep &= (trials[param] == value).to_numpy() if param in trials else False
        values = last.reindex(trials.loc[keep, "run_id"])
        measured = values[claim["metric"]].dropna() if claim["metric"] in values else pd.Series()
        rows.append(
            {
                "trials": group_label(claim["where"]),
                "metric": claim["metric"],
                "published": float(claim["value"]),
                "source": str(claim.get("source", "")),
                "measured": float(measured.mean()) if len(measured) else np.nan,
                "least": float(measured.min()) if len(measured) else np.nan,
                "most": float(measured.max()) if len(measured) else np.nan,
                "n": len(measured),
                "off_by": float(measured.mean() - claim["value"]) if len(measured) else np.nan,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
