"""Small data sets on disk."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from scaling.data.config import NpzConfig
from scaling.data.prepare import Prepared

PALETTE = "r,g,b\n0.1,0.1,0.1\n0.5,0.5,0.5\n0.9,0.9,0.9\n0.9,0.1,0.1\n"


def random_images(seed: int, n_images: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n_images, 8, 8, 3)).astype(np.uint8)


def source(folder: Path, seed: int = 0) -> NpzConfig:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "x.npz", train=random_images(seed, 12), held_out=random_images(seed + 1, 4))
    (folder / "palette.csv").write_text(PALETTE)
    return NpzConfig(path=str(folder / "x.npz"), palette=str(folder / "palette.csv"))


def assert_same(first: Prepared, second: Prepared) -> None:
    for one in fields(Prepared):
        a, b = getattr(first, one.name), getattr(second, one.name)
        np.testing.assert_array_equal(a, b, strict=isinstance(a, np.ndarray))
