"""Images as they come from a source, before they are prepared for training."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scaling.limits import ConfigError

Bytes = NDArray[np.uint8]


@dataclass
class Images:
    """train uint8 [N, H, W, 3] and held_out uint8 [M, H, W, 3], red, green, blue; N, M >= 1.

    skipped: files that could not be used, each with the reason; notes: what a reader should know.
    """

    train: Bytes
    held_out: Bytes
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def existing_file(key: str, path: str) -> Path:
    """The file a configuration names; ConfigError where it is none or cannot be read."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(key, path, "there is no such file")
    if not os.access(file, os.R_OK):
        raise ConfigError(key, path, "there is no permission to read this file")
    return file
