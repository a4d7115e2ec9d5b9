"""Samples of text as a picture, for MLflow's slider and the report."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scaling.limits import ConfigError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

COLUMNS, ROWS = 72, 6  # characters of a sample: what is longer is cut
SIZE, MARGIN = 15, 12  # pixels: of the font, and around each sample
PAPER, LINE = (255, 255, 255), (225, 225, 225)
GIVEN, WRITTEN = (140, 140, 140), (20, 60, 160)


def draw_samples(samples: Sequence[tuple[str, str]]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]: of each sample the text that was given, in grey, and what was written after
    it, in blue. The same size whatever they say."""
    from PIL import Image, ImageDraw

    font = _font()
    wide = font.getlength("m")
    high = sum(font.getmetrics())
    width, height = round(COLUMNS * wide) + 2 * MARGIN, ROWS * high + 2 * MARGIN
    picture = Image.new("RGB", (width, height * len(samples)), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, (given, written) in enumerate(samples):
        top = number * height
        if number:
            draw.line([(MARGIN, top), (width - MARGIN, top)], LINE)
        for row, column, sign, is_given in laid_out(given, written):
            place = (MARGIN + column * wide, top + MARGIN + row * high)
            draw.text(place, sign, GIVEN if is_given else WRITTEN, font)
    return np.asarray(picture)


def laid_out(given: str, written: str) -> Iterator[tuple[int, int, str, bool]]:
    """(row, column, character, whether it was given) of those that are seen.

    Lines break at their ends and at COLUMNS. What was given loses its first lines where both do not
    fit: what was written matters.
    """
    signs = [(sign, True) for sign in given] + [(sign, False) for sign in written]
    rows: list[list[tuple[str, bool]]] = [[]]
    for sign, is_given in signs:
        if sign == "\n" or len(rows[-1]) == COLUMNS:
            rows.append([])
        if sign != "\n":
            rows[-1].append((sign if sign.isprintable() else " ", is_given))
    first_written = next((i for i, row in enumerate(rows) if not all(g for _, g in row)), 0)
    first = max(0, min(first_written - 1, len(rows) - ROWS))
    for number, row in enumerate(rows[first : first + ROWS]):
        for column, (sign, is_given) in enumerate(row):
            yield number, column, sign, is_given


@cache
def _font() -> FreeTypeFont:
    """The monospaced font that matplotlib ships, found without importing it."""
    from PIL import ImageFont

    installed = importlib.util.find_spec("matplotlib")
    if installed is None or installed.origin is None:
        allowed = "pictures of text require the package matplotlib; set picture_ratio=null"
        raise ConfigError("picture_ratio", "matplotlib", allowed)
    folder = Path(installed.origin).parent / "mpl-data/fonts/ttf"
    return ImageFont.truetype(str(folder / "DejaVuSansMono.ttf"), SIZE)
