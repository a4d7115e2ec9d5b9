"""What is known of the steps of a frontier: exactly, to an interval, or on one side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEAST_SIGMA = 1e-6  # residuals below this are arithmetic, not evidence for a form
_EXACT = 1e-9  # bounds on log S closer than this are one value


@dataclass(frozen=True)
class Observations:
    """What is known of log S. log_size [B]; log_steps, log_lower, log_upper [n, B].

    With log_steps a cell is interval-censored where both bounds are known, else observed; without,
    right-censored where log_lower is known, left-censored where log_upper is; where nothing is
    known (NaN) it does not count.
    """

    log_size: Floats
    log_steps: Floats
    log_lower: Floats
    log_upper: Floats

    @classmethod
    def of(
        cls,
        batch_size: ArrayLike,
        steps: ArrayLike,
        steps_lower: ArrayLike | None = None,
        steps_upper: ArrayLike | None = None,
    ) -> Observations:
        """batch_size [B]; steps, steps_lower, steps_upper [n, B] or [B], NaN where not known."""
        value = np.log(np.atleast_2d(np.asarray(steps, float)))
        nothing = np.full(value.shape, np.nan)
        lower = nothing if steps_lower is None else _log(steps_lower)
        upper = nothing if steps_upper is None else _log(steps_upper)
        reached = ~np.isnan(value)
        between = reached & (upper - lower > _EXACT)  # both are known, in order and apart
        return cls(
            np.log(np.asarray(batch_size, float)),
            value,
            np.where(reached & ~between, np.nan, lower),
            np.where((reached & ~between) | (~reached & ~np.isnan(lower)), np.nan, upper),
        )

    @property
    def reached(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.log_steps)

    @property
    def right_censored(self) -> NDArray[np.bool_]:
        return ~self.reached & ~np.isnan(self.log_lower)

    @property
    def left_censored(self) -> NDArray[np.bool_]:
        return ~self.reached & ~np.isnan(self.log_upper)

    def exactly(self) -> Observations:
        """Only the reached cells, each at its interpolated crossing: what least squares sees."""
        nothing = np.full(self.log_steps.shape, np.nan)
        return Observations(self.log_size, self.log_steps, nothing, nothing)

    def imputed(self, rng: np.random.Generator) -> Observations:
        """Interval-censored cells observed at a place drawn evenly from their interval.

        Resamples of the seeds move an interval and its middle, but never say where in it the
        crossing lies: without this all resamples of sparse evaluations agree, whatever the truth.
        """
        between = self.reached & ~np.isnan(self.log_upper)
        share = rng.uniform(size=between.shape)
        place = self.log_lower + share * (self.log_upper - self.log_lower)
        return Observations(
            self.log_size,
            np.where(between, place, self.log_steps),
            np.where(between, np.nan, self.log_lower),
            np.where(between, np.nan, self.log_upper),
        )

    def least_sigma(self) -> Floats:
        """[n]: the smallest sigma that is searched.

        Where all curves through the intervals are equally likely (sigma -> 0), evaluations do not
        resolve the noise: sigma stays at the scatter of a crossing that is uniform in its interval,
        width/sqrt(12), which makes the maximum unique (log-concave in log S) and finite.
        """
        square = (self.log_upper - self.log_lower) ** 2 / 12
        known = ~np.isnan(square) & self.reached
        total = np.where(known, square, 0.0).sum(axis=1)
        return np.maximum(np.sqrt(total / np.maximum(self.reached.sum(axis=1), 1)), LEAST_SIGMA)

    def rows(self, keep: NDArray) -> Observations:
        """Of some of the n curves."""
        return Observations(
            self.log_size, self.log_steps[keep], self.log_lower[keep], self.log_upper[keep]
        )


def _log(steps: ArrayLike) -> Floats:
    values = np.atleast_2d(np.asarray(steps, float))
    # a crossing before the first step has no lower bound in log S
    return np.log(np.where(values > 0, values, np.nan))
