"""How the best batch size and lr move with the training length and the model size: power laws.

    B_opt(D[, N]),  lr*(D[, N]) at the best batch size,  lr*(B, D[, N]) at every batch size

y = c x_1^k_1 x_2^k_2 .. by least squares on log y, intervals by Student's t from the residuals, so
they hold noise and misfit alike, with errors that allow for points of unequal scatter (HC3,
MacKinnon and White 1985, Journal of Econometrics 29): a best batch size near the end of those tried
is known less well. Such laws: Bjorck et al. 2024, arXiv:2409.19913; Li et al. 2025 (Step Law),
arXiv:2503.04715. Best values at an edge of what was tried do not enter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

LENGTH_LAW_COLUMNS = [
    "law", "y", "at", "x", "exponent", "exponent_low", "exponent_high", "coefficient",
    "coefficient_low", "coefficient_high", "rmse_log", "n", "n_left_out", "reason",
]  # fmt: skip
BEST, EVERY = "the best batch size", "every batch size"
_LEAST_SPAN = 1.5  # of every x: the largest over the smallest
_LEVEL = 0.95
_LEAST = 1e-6  # of 1 - leverage: a point that the fit goes through says nothing of the scatter


def length_laws(lengths: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """The laws of groups that differ in model size alone, LENGTH_LAW_COLUMNS, a row per law and x.

    lengths: measure.best_batch_size.length_frame, best: best_batch_sizes, both with model_size.
    With two model sizes or more, each law also in both D and N. law: its name, "lr(examples)".
    coefficient: c, of all rows of a law. n points, n_left_out: at an edge. reason: why there is no
    exponent.
    """
    inside = ~best["batch_size_at_edge"].astype(bool)
    tuned = inside & ~best["lr_at_edge"].astype(bool)
    sound = lengths[~lengths["lr_at_edge"].astype(bool) & (lengths["n_lrs"] > 1)]
    by_size = best["model_size"].nunique() > 1
    rows: list[dict[str, Any]] = []
    for x in (["examples"], ["examples", "model_size"]) if by_size else (["examples"],):
        rows += _law("batch_size", BEST, best[inside], "batch_size_refined", x, len(best))
        rows += _law("lr", BEST, best[tuned], "lr_refined", x, len(best))
        rows += _law("lr", EVERY, sound, "lr_refined", ["batch_size", *x], len(lengths))
    return pd.DataFrame(rows, columns=pd.Index(LENGTH_LAW_COLUMNS))


def predict_law(law: pd.DataFrame, x: Mapping[str, Floats]) -> Floats:
    """y of the rows of one law at values of its x, by name."""
    y = np.full(np.shape(next(iter(x.values()))), float(law["coefficient"].iloc[0]))
    for row in law.to_dict("records"):
        y = y * np.asarray(x[row["x"]], float) ** row["exponent"]
    return y


def _law(
    y: str, at: str, points: pd.DataFrame, column: str, x: Sequence[str], n_all: int
) -> list[dict[str, Any]]:
    points = points.dropna(subset=[column, *x])
    shared = {"law": f"{y}({', '.join(x)})", "y": y, "at": at}
    shared |= {"n": len(points), "n_left_out": n_all - len(points)}
    if reason := _reason(points, x):
        return [{**shared, "x": name, "reason": reason} for name in x]
    fit = fit_powers(points[list(x)].to_numpy(float), points[column].to_numpy(float))
    value, low, high, rmse = fit
    shared |= {"rmse_log": rmse, "reason": ""}
    shared |= {
        f"coefficient{end}": float(np.exp(part[0]))
        for end, part in (("", value), ("_low", low), ("_high", high))
    }
    return [
        {
            **shared, "x": name, "exponent": value[i],
            "exponent_low": low[i], "exponent_high": high[i],
        }
        for i, name in enumerate(x, start=1)
    ]  # fmt: skip


def _reason(points: pd.DataFrame, x: Sequence[str]) -> str:
    fewest = len(x) + 2
    if len(points) < fewest:
        return f"{len(points)} best values inside what was tried; a law in these needs {fewest}"
    for name in x:
        span = points[name].max() / points[name].min()
        if span < _LEAST_SPAN:
            return f"{name} spans a factor of {span:.2f}; a law needs {_LEAST_SPAN:g}"
    logs = np.log(points[list(x)].to_numpy(float))
    if np.linalg.matrix_rank(logs - logs.mean(axis=0), tol=1e-6) < len(x):
        return f"{' and '.join(x)} move together, so that their exponents cannot be told apart"
    return ""


def fit_powers(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats, float]:
    """log c and exponents of y = c prod x_j^k_j, [1 + p] each: value, 95 % low and high; then the
    root mean square of log residuals. x [n, p], y [n], n > p + 1.

    >>> x = np.array([[1.0], [2.0], [4.0]])
    >>> value, low, high, rmse = fit_powers(x, 3 * x[:, 0] ** 0.5)
    >>> value.round(6).tolist(), bool(rmse < 1e-12)
    ([1.098612, 0.5], True)
    """
    design = np.column_stack([np.ones(len(x)), np.log(x)])
    log_y = np.log(y)
    value = np.asarray(np.linalg.lstsq(design, log_y, rcond=None)[0], float)
    residual = log_y - design @ value
    inverse = np.linalg.inv(design.T @ design)
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    scaled = design * (residual / np.maximum(1 - leverage, _LEAST))[:, None]
    error = np.sqrt(np.diag(inverse @ (scaled.T @ scaled) @ inverse))
    half = np.asarray(stdtrit(len(y) - design.shape[1], 0.5 + _LEVEL / 2) * error, float)
    return value, value - half, value + half, float(np.sqrt(np.mean(residual**2)))
