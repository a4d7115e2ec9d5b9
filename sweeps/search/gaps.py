"""Where a learning rate better than those tried may be: between which, or beyond which."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from itertools import pairwise

from scaling.schema import DIVERGED
from sweeps.search.observations import Reading, SearchOptions

SLACK, SLACK_EXPONENT = 0.7, 1.5  # of a gap, see _near; tests.benchmarks.exact_search measures them
N_MINIMA, NEAR = 3, 1.1


def global_pass(options: SearchOptions) -> list[int]:
    """One index in each stride of the range: the give_up_after nearest to the start."""
    first = options.lowest + (options.start - options.lowest) % options.stride
    indices = range(first, options.highest + 1, options.stride)
    nearest = sorted(indices, key=lambda index: (abs(index - options.start), index))
    return sorted(nearest[: options.give_up_after])


def is_whole(tried: Collection[int], diverged: Collection[int], options: SearchOptions) -> bool:
    """No part of the range as wide as a stride is left out, but above all that diverged."""
    edges = [options.lowest - 1, *sorted(tried)]
    if max(tried) not in diverged:
        edges.append(options.highest + 1)
    return all(high - low <= options.stride for low, high in pairwise(edges))


def _near(width: int, stride: int) -> float:
    """How many times the fewest steps the better end of a gap may take, for it to be worth a trial.

    1 + SLACK (width / stride)^SLACK_EXPONENT: a narrower gap hides less.
    """
    return 1 + SLACK * (width / stride) ** SLACK_EXPONENT


def promising(steps: Mapping[int, float], options: SearchOptions) -> list[int]:
    """Indices to try next, by the steps of those tried (inf: too many, or diverged): the middles of
    gaps whose better end is near the fewest, and beyond an outermost one that is."""
    fewest, tried = min(steps.values()), sorted(steps)

    def is_near(better: float, width: int) -> bool:
        return better <= fewest * _near(width, options.stride)

    wanted = [
        (low + high) // 2
        for low, high in pairwise(tried)
        if high - low > 1 and is_near(min(steps[low], steps[high]), high - low)
    ]
    for edge, end in ((tried[0], options.lowest), (tried[-1], options.highest)):
        width = min(options.stride, abs(end - edge))
        if width and is_near(steps[edge], 1):
            wanted.append(edge + (width if end > edge else -width))
    return wanted


def lowest_minima(steps: Mapping[int, float]) -> list[int]:
    """Indices of the local minima within NEAR times the fewest steps, at most N_MINIMA, the lowest
    first."""
    limit, tried = NEAR * min(steps.values()), sorted(steps)
    values = [math.inf, *(steps[index] for index in tried), math.inf]
    minima = [
        index
        for index, below, own, above in zip(tried, values, values[1:], values[2:], strict=False)
        if own <= min(below, above, limit)
    ]
    return sorted(minima, key=lambda index: (steps[index], index))[:N_MINIMA]


def wide_gaps(known: Mapping[int, Reading], options: SearchOptions) -> list[int]:
    """The middles of gaps wider than half a stride, largest lr first, but for those between two
    divergences."""
    return [
        (low + high) // 2
        for low, high in reversed(list(pairwise(sorted(known))))
        if high - low > options.stride // 2 and known[low].outcome != DIVERGED
    ]
