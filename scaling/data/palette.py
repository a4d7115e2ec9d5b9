"""The colours that pixels are classified into."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scaling.data.images import Bytes, existing_file
from scaling.limits import ConfigError

Palette = NDArray[np.float32]

FEWEST_COLOURS, MOST_COLOURS = 2, 256  # labels are stored in one byte
FITTED_PIXELS = 50_000
CHUNK_COLOURS = 2**15  # distances of so many colours stay in the processor's cache
CHUNK_IMAGES = 1024


def read_palette(path: str) -> Palette:
    """Rows `r,g,b` of a CSV file, 0 to 1, as [K, 3]; a header line is passed over.

    Raises ConfigError for `data.palette`: no such file, a row that is not three numbers in 0..1,
    fewer than 2 or more than 256 colours, a colour that stands there twice.
    """
    rows = _rows(path)
    if not FEWEST_COLOURS <= len(rows) <= MOST_COLOURS:
        allowed = f"must have {FEWEST_COLOURS} to {MOST_COLOURS} rows r,g,b; it has {len(rows)}"
        raise ConfigError("data.palette", path, allowed)
    colours = np.array([_colour(path, line, row) for line, row in rows], np.float32)
    if len(np.unique(colours, axis=0)) < len(colours):
        raise ConfigError("data.palette", path, "a colour appears twice")
    return colours


def palette_text(palette: Palette) -> str:
    """The palette as `read_palette` reads it, to the last bit."""
    return "".join(",".join(str(value) for value in row) + "\n" for row in palette)


def fit_palette(images: Bytes, num_colours: int, seed: int) -> Palette:
    """k-means of the pixels of uint8 [N, H, W, 3], the same for the same seed; dark to light.

    Of more than FITTED_PIXELS pixels that many are drawn. Returns [num_colours, 3] in 0..1 (a
    pixel over 256). ConfigError where there are fewer different colours than asked for.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    pixels = images.reshape(-1, 3)
    if len(pixels) > FITTED_PIXELS:
        rows = np.random.default_rng(seed).integers(len(pixels), size=FITTED_PIXELS)
        pixels = pixels[rows]
    n_different = len(np.unique(pixels, axis=0))
    if n_different < num_colours:
        allowed = f"the training pixels have only {n_different} different colours"
        raise ConfigError("data.num_colours", num_colours, allowed)
    with threadpool_limits(1):  # threads add up in any order, which changes the last bits
        fitted = KMeans(num_colours, random_state=seed).fit(pixels / 256.0)
    colours = fitted.cluster_centers_
    return colours[np.lexsort((*colours.T, colours.sum(1)))].astype(np.float32)


def nearest_colour(images: Bytes, palette: Palette) -> Bytes:
    """Index of the palette colour nearest to each pixel: argmin_k |pixel / 256 - palette_k|^2.

    images uint8 [N, H, W, 3], palette [K, 3] in 0..1 with K <= 256; uint8 [N, H, W]. Exact; of
    colours equally near the first. Each colour that occurs is looked up once.
    """
    chunks = [slice(i, i + CHUNK_IMAGES) for i in range(0, len(images), CHUNK_IMAGES)]
    occurs = np.zeros(2**24, bool)
    for chunk in chunks:
        occurs[_codes(images[chunk])] = True
    occurring = np.flatnonzero(occurs)
    table = np.zeros(2**24, np.uint8)
    for start in range(0, len(occurring), CHUNK_COLOURS):
        codes = occurring[start : start + CHUNK_COLOURS]
        colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255]) / 256.0
        table[codes] = _nearest(colours, palette.astype(np.float64))
    nearest = np.empty(images.shape[:-1], np.uint8)
    for chunk in chunks:
        nearest[chunk] = table[_codes(images[chunk])]
    return nearest


def _codes(images: Bytes) -> NDArray[np.int32]:
    """Red, green and blue in one number below 2^24."""
    codes = np.zeros(images.shape[:-1], np.int32)
    for channel in range(3):
        codes <<= 8
        codes |= images[..., channel]
    return codes


def _nearest(colours: NDArray[np.float64], palette: NDArray[np.float64]) -> Bytes:
    """colours [3, n] and palette [K, 3] -> index [n]."""
    nearest = np.zeros(colours.shape[1], np.uint8)
    least = np.full(colours.shape[1], np.inf)
    for index, colour in enumerate(palette):
        distances = np.square(colours - colour[:, None]).sum(0)
        nearer = distances < least
        nearest[nearer] = index
        least[nearer] = distances[nearer]
    return nearest


def _rows(path: str) -> list[tuple[int, list[str]]]:
    """Lines that are neither empty nor the header, with their numbers."""
    file = existing_file("data.palette", path)
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as lines:
            rows = [(i, row) for i, row in enumerate(csv.reader(lines), 1) if any(row)]
    except (ValueError, csv.Error):
        raise ConfigError("data.palette", path, "is not a CSV file of rows r,g,b") from None
    has_header = bool(rows) and not any(_is_number(cell) for cell in rows[0][1])
    return rows[has_header:]


def _colour(path: str, line: int, row: list[str]) -> list[float]:
    if len(row) == 3 and all(_is_number(cell) for cell in row):
        colour = [float(cell) for cell in row]
        if all(0 <= part <= 1 for part in colour):
            return colour
    allowed = f"line {line} must be r,g,b, each from 0 to 1; it is {','.join(row)[:80]!a}"
    raise ConfigError("data.palette", path, allowed)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
