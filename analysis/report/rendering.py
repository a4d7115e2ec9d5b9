"""Drawings become images, on two cores where there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache

from analysis.beside import beside
from analysis.figures.drawing import Drawing
from analysis.figures.style import render_all

Images = dict[str, bytes]  # by format
_WORD = 4  # bytes of a number in the queue


def begin_rendering(drawings: Sequence[Drawing]) -> Callable[[], list[Images]]:
    """Begin beside this process; the function that is returned takes part, and gives all images."""
    queue, entry = os.pipe()  # of numbers of drawings: whoever is free takes the next one
    with os.fdopen(entry, "wb") as numbers:
        numbers.write(b"".join(i.to_bytes(_WORD) for i in range(len(drawings))))

    def share() -> dict[int, Images]:
        images = {}
        while number := os.read(queue, _WORD):
            i = int.from_bytes(number)
            images[i] = render_all(drawings[i].new_figure())  # not kept: hundreds may come
        return images

    others = beside(share)

    @cache
    def finish() -> list[Images]:
        images = share()
        images |= others()
        os.close(queue)
        # one that a copy took and did not bring back is missing
        return [images.get(i) or render_all(one.new_figure()) for i, one in enumerate(drawings)]

    return finish
