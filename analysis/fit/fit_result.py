"""What a fit of the frontier found, as one object that prints well and knows its curve."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fit.forms import hyperbola
from analysis.fit.readings import MeasuredCurve
from analysis.groups import their_group
from analysis.words import between, rounded

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]


@dataclass(repr=False)
class FitResult:
    """S(B) = S_min + E_min/B for one group and target; None, never NaN, for what is not known.

    The fields up to `exact` are the `fit` of summary.json, in its units: steps, examples, batch
    sizes. ci95 holds 95 % intervals of min_steps, min_examples, critical_batch_size,
    critical_batch_size_overhead and critical_batch_size_half_elasticity; an end that is None is
    open (a reading that was not crossed has its bound there). `log_parameters` (log S_min,
    log E_min) and `draws` [n_boot, 2] (the same two, from the bootstrap) carry the curve and its
    band and are not part of the summary.
    """

    group: dict[str, Any]
    target_loss: float
    form: str = "hyperbola"
    min_steps: float | None = None
    min_examples: float | None = None
    critical_batch_size: float | None = None
    critical_batch_size_overhead: dict[str, float | None] = field(default_factory=dict)
    critical_batch_size_half_elasticity: float | None = None
    ci95: dict[str, Interval] = field(default_factory=dict)
    approximate_ci: bool = False
    identified: bool = False
    at_least: float | None = None
    at_most: float | None = None
    preferred_form: str | None = None
    rmse_log_steps: float | None = None
    n_batch_sizes: int = 0
    n_censored: int = 0
    exact: dict[str, float | None] | None = None
    batch_sizes: tuple[int, ...] = ()
    reason: str = ""  # why not identified, or why there is no fit; "" if all is well
    forms: list[dict[str, Any]] = field(default_factory=list)  # see fitting.compare_forms
    log_parameters: tuple[float, float] | None = None
    draws: Floats = field(default_factory=lambda: np.empty((0, 2)))
    objective: str = ""  # what was maximised or minimised: likelihood or log_steps
    bounded_batch_sizes: tuple[int, ...] = ()  # censored, in the fit as lower bounds
    upper_bounded_batch_sizes: tuple[int, ...] = ()  # left-censored or lr at the edge of the tried
    curve: MeasuredCurve | None = None  # S(B) between the points, free of the hyperbola
    next_step: str = ""  # what to do where the answer is not known
    notes: list[str] = field(default_factory=list)  # what went otherwise than it should

    def predict(self, batch_size: ArrayLike) -> Floats:
        """Steps S(B) of the fitted hyperbola, same shape as batch_size; NaN without a fit.

        >>> FitResult({}, 0.1, log_parameters=(np.log(40.0), np.log(3360.0))).predict([84.0])
        array([80.])
        """
        sizes = np.asarray(batch_size, float)
        if self.log_parameters is None:
            return np.full(sizes.shape, np.nan)
        return hyperbola(sizes, *self.log_parameters)

    def predict_interval(self, batch_size: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile band of S(B) over the bootstrap draws; NaN where there are no draws."""
        sizes = np.asarray(batch_size, float)
        if not len(self.draws):
            return np.full(sizes.shape, np.nan), np.full(sizes.shape, np.nan)
        parameters = self.draws.T.reshape(2, -1, *(1,) * sizes.ndim)
        tail = 50 * (1 - level)
        low, high = np.percentile(hyperbola(sizes, *parameters), [tail, 100 - tail], axis=0)
        return low, high

    def log_steps_at(self, batch_size: ArrayLike) -> tuple[Floats, Floats]:
        """log S(B) free of the hyperbola's misfit, and its draws [n_boot, ...]: see measured_curve.

        What is read off S(B) at a batch size comes from here; without points, from the hyperbola.
        """
        sizes = np.asarray(batch_size, float)
        if self.curve is not None:
            log_steps = self.curve.log_steps_at(sizes)
            return log_steps[0], log_steps[1:]
        parameters = self.draws.T.reshape(2, -1, *(1,) * sizes.ndim)
        return np.log(self.predict(sizes)), np.log(hyperbola(sizes, *parameters))

    def steps_interval_at(self, batch_size: float) -> tuple[float, float, float]:
        """Steps S(B) by log_steps_at, and the ends of their 95 % interval (NaN without draws).

        The misfit of the knee there counts as an error beside that of the seeds.
        """
        value, draws = self.log_steps_at(batch_size)
        if not len(draws):
            return float(np.exp(value)), np.nan, np.nan
        low, high = np.percentile(draws, [2.5, 97.5], axis=0)
        misfit = 0.0 if self.curve is None else self.curve.misfit_at(batch_size)
        # of few draws: the value is in its interval
        low = value - np.hypot(max(value - low, 0.0), misfit)
        high = value + np.hypot(max(high - value, 0.0), misfit)
        return float(np.exp(value)), float(np.exp(low)), float(np.exp(high))

    def summary(self) -> dict[str, Any]:
        """The `fit` entry of summary.json: plain Python values, None for what is not known."""
        names = [f.name for f in fields(self)]
        entry = {name: getattr(self, name) for name in names[: names.index("exact") + 1]}
        return entry | {"ci95": {name: list(pair) for name, pair in self.ci95.items()}}

    def rows(self) -> list[tuple[str, str, str]]:
        """(quantity, value, 95 % interval) as text: what a notebook shows."""
        overhead = self.critical_batch_size_overhead
        share = 100 * (overhead.get("overhead") or 0.2)
        shown = [
            ("critical batch size", self.critical_batch_size, "critical_batch_size"),
            (f"{share:.0f} % overhead at", overhead.get("value"), "critical_batch_size_overhead"),
            (
                "half elasticity at",
                self.critical_batch_size_half_elasticity,
                "critical_batch_size_half_elasticity",
            ),
            ("fewest steps", self.min_steps, "min_steps"),
            ("fewest examples", self.min_examples, "min_examples"),
        ]
        return [
            (name, rounded(value), between(*self.ci95.get(key, (None, None))))
            for name, value, key in shown
        ]

    def _heading(self) -> str:
        where = ", ".join(f"{name}={value}" for name, value in their_group(self.group).items())
        at = "" if np.isnan(self.target_loss) else f"target loss {self.target_loss:.4g}"
        return ", ".join(text for text in (where, at) if text)

    def _footing(self) -> str:
        censored = f", {self.n_censored} not reached" if self.n_censored else ""
        parts = [f"{self.n_batch_sizes} batch sizes{censored}"]
        if self.rmse_log_steps is not None:
            parts.append(f"residuals of log S {self.rmse_log_steps:.2g}")
        if self.preferred_form:
            parts.append(f"the data prefer the {self.preferred_form}")
        if self.approximate_ci:
            parts.append("intervals are approximate")
        if self.reason:
            parts.append(self.reason)
        return "; ".join([*parts, *self.notes])

    def __repr__(self) -> str:
        head = self._heading()
        lines = [f"Fit of S(B) = S_min + E_min/B{f' at {head}' if head else ''}"]
        for name, value, interval in self.rows():
            text = f"{value} ({interval})" if value and interval else value or interval
            lines.append(f"  {name + ':':<21}{text or 'not known'}")
        return "\n".join([*lines, f"  {self._footing()}"])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{value or 'not known'}</td>"
            f"<td>{interval}</td></tr>"
            for name, value, interval in self.rows()
        )
        head = html.escape(self._heading())
        return (
            f"<table><caption>S(B) = S<sub>min</sub> + E<sub>min</sub>/B {head}</caption>"
            f"<tr><th></th><th>value</th><th>95 % interval</th></tr>{cells}"
            f"<tr><td colspan=3>{html.escape(self._footing())}</td></tr></table>"
        )


def headline(fits: Sequence[FitResult]) -> FitResult | None:
    """The one to speak of first: at the hardest target that is identified, else at the hardest."""
    return min(fits, key=lambda fit: (not fit.identified, fit.target_loss), default=None)
