"""The frontier S(B) between its points, free of the hyperbola's shape.

On exact regression frontiers the hyperbola is 3 to 6 % high at the knee, which is many times what
seeds leave unknown, and the batch size of 20 % overhead comes out 25 to 40 % low. So what is read
off S(B) away from its asymptotes (steps of a recommended batch size, overheads, half or twice the
batch) is read from a knee of free sharpness plus what the points say beyond it:

    log S(B) = knee(log B) + r(log B),   r: local linear regression of the points' residuals

with a Gaussian kernel as wide as the points lie apart: within 1 % of the exact frontiers. Beyond
the points r stays what it is at the last one. Axes: n curves (the fit first, then its draws), B
fitted batch sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fit.forms import KNEE

Floats = NDArray[np.float64]

FEWEST_FOR_KNEE = 6  # points; with fewer the three parameters of a knee follow the noise
_N_DENSE = 200  # batch sizes at which an overhead is looked for


@dataclass(frozen=True)
class MeasuredCurve:
    """log_size [B] increasing; parameters [n, 3] of the knee; log_steps [n, B], NaN: not known."""

    log_size: Floats
    parameters: Floats
    log_steps: Floats

    def log_steps_at(self, batch_size: ArrayLike) -> Floats:
        """log S(B) [n, ...] of the fit and its draws; batch_size of any shape."""
        sizes = np.asarray(batch_size, float)
        at = np.log(sizes).ravel()
        log_steps = KNEE.log_steps(self.parameters, at)[0] + self._beyond_the_knee(at)
        return log_steps.reshape(len(self.parameters), *sizes.shape)

    def misfit_at(self, batch_size: float) -> float:
        """|r| of the fit: how far, in log S, the points lie beyond its knee there.

        On exact frontiers what is left of the misfit at recommended batch sizes is below it.
        """
        return float(np.abs(self._beyond_the_knee(np.log([batch_size]))[0, 0]))

    def overhead(self, overhead: float) -> tuple[float | None, Floats]:
        """Batch size where examples exceed those of the smallest by x = overhead, and its draws.

        S(B) B = (1 + x) S(B_0) B_0: the x % overhead over perfect scaling from B_0 (Zhang et al.
        2024, arXiv:2410.21676), interpolated in log-log. None (inf in draws [n - 1]): not reached
        within the points.
        """
        dense = np.linspace(self.log_size[0], self.log_size[-1], _N_DENSE)
        log_examples = self.log_steps_at(np.exp(dense)) + dense
        excess = log_examples - log_examples[:, :1] - np.log1p(overhead)
        after = np.argmax(excess >= 0, axis=1)
        crossed = (excess >= 0).any(axis=1)
        rows, before = np.arange(len(excess)), np.maximum(after - 1, 0)
        rise = excess[rows, after] - excess[rows, before]
        share = -excess[rows, before] / np.where(rise > 0, rise, 1.0)
        sizes = np.exp(dense[before] + share * (dense[after] - dense[before]))
        crossings = np.where(crossed, sizes, np.inf)
        return (float(crossings[0]) if crossed[0] else None), crossings[1:]

    def _beyond_the_knee(self, at: Floats) -> Floats:
        """r [n, len(at)] at these log batch sizes."""
        knee, _ = KNEE.log_steps(self.parameters, self.log_size)
        inside = np.clip(at, self.log_size[0], self.log_size[-1])
        return self._smooth(self.log_steps - knee, inside)

    def _smooth(self, residual: Floats, at: Floats) -> Floats:
        """Local linear regression [n, len(at)] of residual [n, B] (NaN: left out)."""
        if len(self.log_size) < 2:
            return np.zeros((len(residual), len(at)))
        width = float(np.median(np.diff(self.log_size)))
        distance = (self.log_size[:, None] - at) / width
        kernel = np.exp(-0.5 * distance**2)
        known = (~np.isnan(residual)).astype(float)
        values = np.where(known > 0, residual, 0.0)
        s0, s1, s2 = (known @ (kernel * distance**power) for power in (0, 1, 2))
        t0, t1 = (values @ (kernel * distance**power) for power in (0, 1))
        spread = s0 * s2 - s1**2
        linear = (s2 * t0 - s1 * t1) / np.where(spread > 0, spread, 1.0)
        level = t0 / np.where(s0 > 0, s0, 1.0)
        return np.where(spread > 1e-6 * s0 * s2, linear, level)
