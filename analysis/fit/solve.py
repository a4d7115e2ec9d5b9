"""Solvers that know no problem. Each solves n problems of one kind at once.

golden_section   least squares or any other misfit over one number
damped_newton    a maximum over P numbers, with the damping of Levenberg (1944, Quarterly of Applied
                 Mathematics 2) and Marquardt (1963, SIAM Journal 11)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_GOLDEN = (np.sqrt(5) - 1) / 2


def golden_section(misfit: Callable[[Floats], Floats], grid: Floats, n_steps: int) -> Floats:
    """The number of least misfit, [n]: the best of a grid, refined between its neighbours.

    misfit: numbers [n], or [1] for the same number in all problems, to misfits [n].
    """
    best = np.argmin(np.stack([misfit(grid[i : i + 1]) for i in range(len(grid))]), axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = misfit(left), misfit(right)
    for _ in range(n_steps):
        smaller = at_left < at_right
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
        # one of the two points inside is a point inside again
        new = np.where(smaller, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = misfit(new)
        left, right = np.where(smaller, new, right), np.where(smaller, left, new)
        at_left, at_right = np.where(smaller, at_new, at_right), np.where(smaller, at_left, at_new)
    return (low + high) / 2


class Local(NamedTuple):
    """A function around a point: value [n], gradient [n, P], minus its Hessian [n, P, P]."""

    value: Floats
    gradient: Floats
    curvature: Floats


class Attempt(NamedTuple):
    """A step of the m problems that are not done: step [m, P], the others [m].

    value: before the step; gain: of value; better: whether the step was taken; damping: of the
    next step.
    """

    step: Floats
    value: Floats
    gain: Floats
    better: Flags
    damping: Floats


class Solution(NamedTuple):
    """parameters [n, P], value [n] and whether the rules called it done [n]."""

    parameters: Floats
    value: Floats
    done: Flags


@dataclass(frozen=True)
class Damping:
    """The rules of damped_newton.

    lift: diagonal [m, P] of the curvature and damping [m] -> what is added to it; adapt: damping
    and whether the step was better -> the next damping; is_done: an Attempt -> [m]; longest_step:
    in any parameter; takes_equal: whether a step without a gain is taken.
    """

    first: float
    lift: Callable[[Floats, Floats], Floats]
    adapt: Callable[[Floats, Flags], Floats]
    is_done: Callable[[Attempt], Flags]
    n_steps: int
    longest_step: float = np.inf
    takes_equal: bool = False


def damped_newton(
    evaluate: Callable[[Floats, NDArray[np.intp]], Local],
    start: Floats,
    rules: Damping,
    bounded: Callable[[Floats, NDArray[np.intp]], Floats] | None = None,
) -> Solution:
    """A local maximum of each problem, from start [n, P]; never worse than the start.

    evaluate, bounded: parameters [m, P] of the problems with these numbers [m] -> the function
    there, and the parameters moved into their bounds. A step that is not better is tried again
    shorter.
    """
    parameters = start.copy()
    value, gradient, curvature = evaluate(parameters, np.arange(len(start)))
    damping, done = np.full(len(start), rules.first), np.zeros(len(start), bool)
    for _ in range(rules.n_steps):
        running = np.flatnonzero(~done)
        if not len(running):
            break
        step = _step(gradient[running], curvature[running], damping[running], rules)
        tried = parameters[running] + step
        tried = tried if bounded is None else bounded(tried, running)
        new = evaluate(tried, running)
        before = value[running]
        gain = new.value - before
        better = gain >= 0 if rules.takes_equal else gain > 0
        moved = running[better]
        parameters[moved], value[moved] = tried[better], new.value[better]
        gradient[moved], curvature[moved] = new.gradient[better], new.curvature[better]
        damping[running] = rules.adapt(damping[running], better)
        done[running] = rules.is_done(Attempt(step, before, gain, better, damping[running]))
    return Solution(parameters, value, done)


def _step(gradient: Floats, curvature: Floats, damping: Floats, rules: Damping) -> Floats:
    """(curvature + lift)^-1 gradient, no longer than the longest step in any parameter."""
    lift = rules.lift(np.diagonal(curvature, axis1=1, axis2=2), damping)
    damped = curvature + lift[:, :, None] * np.eye(lift.shape[1])
    step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
    longest = np.abs(step).max(axis=1, keepdims=True)
    return step * np.minimum(1.0, rules.longest_step / np.maximum(longest, 1e-300))
