"""Does the curve fit? Its parameters, other shapes, and the residuals of every batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import Look, bars, look
from analysis.figures.tooltips import tell
from analysis.groups import select
from analysis.study import Study
from analysis.topics.topic import Part, Topic, or_nan
from scaling.schema import CENSORED, REACHED


def fit_frame(study: Study) -> pd.DataFrame:
    """The fits of the summary, flat: nested fields by dotted name, intervals as _low and _high."""
    return pd.DataFrame([_flat(fit.summary()) | {"reason": fit.reason} for fit in study.fits])


def form_frame(study: Study) -> pd.DataFrame:
    """The shapes fitted to each frontier, and what B_crit each gives; see fitting.compare_forms."""
    rows = []
    for fit in study.fits:
        for form in fit.forms:
            low, high = form.get("ci95", (None, None))
            if form["form"] == fit.form:
                low, high = fit.ci95.get("critical_batch_size", (None, None))
            row = {k: v if k == "form" else or_nan(v) for k, v in form.items() if k != "ci95"}
            ends = {"low": or_nan(low), "high": or_nan(high)}
            where = fit.group | {"target_loss": fit.target_loss}
            rows.append(where | row | ends | {"preferred": form["form"] == fit.preferred_form})
    return pd.DataFrame(rows)


def residual_frame(study: Study) -> pd.DataFrame:
    """log S minus the fit's log S at each batch size, a row for each target and batch size.

    Columns: group.., target_loss, batch_size, log_residual, low, high (the 95 % interval of log S,
    minus the fit; NaN with few seeds), outcome (a censored one's residual is at least
    log_residual), used (in the fit), at_most (the residual is at most log_residual: left-censored,
    or a best lr at the edge of the tried ones).
    """
    rows = []
    for fit in study.fits:
        points = select(study.frontier, fit.group)
        points = points[points["target_loss"] == fit.target_loss]
        for point, fitted in zip(
            points.to_dict("records"), fit.predict(points["batch_size"].to_numpy()), strict=True
        ):
            reached = point["outcome"] == REACHED
            at_most = point["batch_size"] in fit.upper_bounded_batch_sizes
            bound = "steps_upper" if at_most else "steps_lower"
            steps = point["steps"] if reached else point.get(bound, math.nan)
            used = fit.batch_sizes + fit.bounded_batch_sizes + fit.upper_bounded_batch_sizes
            values = (steps, point["steps_low"], point["steps_high"])
            residual = [float(np.log(value / fitted)) for value in values]
            row = fit.group | {"target_loss": fit.target_loss, "batch_size": point["batch_size"]}
            row |= dict(zip(("log_residual", "low", "high"), residual, strict=True))
            row |= {"outcome": point["outcome"], "used": point["batch_size"] in used}
            rows.append(row | {"at_most": at_most})
    columns = [*study.group_by, "target_loss", "batch_size", "log_residual", "low", "high"]
    return pd.DataFrame(rows, columns=pd.Index([*columns, "outcome", "used", "at_most"]))


def drawings(part: Part) -> Iterator[Drawing]:
    residuals = part.frames["residuals"]
    if residuals["log_residual"].notna().any():
        yield Drawing(
            "residuals",
            "Residuals of the fit",
            "How far log S lies from the fitted hyperbola. A pattern (an arch, a wave) means that "
            "the shape does not fit; scatter within the 95 % intervals is noise between seeds.",
            partial(plot_residuals, residuals),
            "residuals",
            residuals,
        )


def plot_residuals(residuals: pd.DataFrame) -> Figure:
    """log S minus the fit's log S against batch size, with 95 % intervals of the points.

    residuals: rows of one group as residual_frame makes them; an upward arrow is a censored batch
    size (its residual is at least that), a downward one an upper bound (met at the first
    evaluation, or the best lr at the edge of the tried ones); a hollow point was left out.
    """
    with style.house_style():
        figure, ax = style.new_axes(4.2)
        targets = sorted(residuals["target_loss"].unique())
        colors = style.target_colors(len(targets))
        ax.axhline(0, color=style.INK, lw=1, zorder=1)
        for i, target in enumerate(targets):
            of_target = residuals[residuals["target_loss"] == target]
            # targets side by side where they share a batch size
            x = of_target["batch_size"] * 1.06 ** (i - (len(targets) - 1) / 2)
            _plot_target(ax, x, of_target, look(i, colors[i]), f"target {target:.3g}")
        style.batch_size_axis(ax, residuals["batch_size"])
        ax.set_ylabel("residual of log S")
        reach = np.nanmax(np.abs(residuals[["log_residual", "low", "high"]].to_numpy(float)))
        ax.set_ylim(-1.15 * reach - 1e-6, 1.15 * reach + 1e-6)
        style.legend_below(figure, ax)
    return figure


def _plot_target(ax: Axes, x: pd.Series, rows: pd.DataFrame, shown: Look, name: str) -> None:
    """The residuals of one target at x, a marker for each kind of point."""
    y, color = rows["log_residual"], shown["color"]
    ax.errorbar(x, y, bars(y, rows["low"], rows["high"]), ls="", color=color, lw=1.2, zorder=2)
    tell(ax, rows, x, y, interval_of="log_residual")
    at_most = rows["at_most"].astype(bool)
    reached = (rows["outcome"] == REACHED) & ~at_most
    censored = (rows["outcome"] == CENSORED) & rows["used"]
    for where, marker, fill, kind in (
        (reached & rows["used"], shown["marker"], color, ""),
        (reached & ~rows["used"], shown["marker"], "white", ", left out"),
        (censored, "^", "white", ", at least (censored)"),
        (at_most, "v", "white", ", at most"),
    ):
        if where.any():
            ax.plot(
                x[where], y[where], ls="", color=color, marker=marker, mfc=fill, zorder=3,
                label=name + kind,
            )  # fmt: skip


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, "" if key == "group" else f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            flat[f"{prefix}{key}.low"], flat[f"{prefix}{key}.high"] = value
        else:
            flat[f"{prefix}{key}"] = value
    return flat


TOPIC = Topic(
    "fits",
    scope="group",
    frames=lambda study, _: {
        "fits": fit_frame(study),
        "forms": form_frame(study),
        "residuals": residual_frame(study),
    },
    drawings=drawings,
)
