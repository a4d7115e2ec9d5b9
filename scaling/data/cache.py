"""Prepared data on disk: arrays under the hash of what they hold, and a small file per key.

The key file says which arrays belong to a state of the source files, so that several keys may
share them. Both kinds are written whole and carry checksums; what is damaged counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.durable import write_whole


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """OSError, naming the file, where it cannot be written; then nothing has changed."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(path, content.getvalue())


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]] | None:
    """The arrays of these names, or None where the file is absent or damaged."""
    try:
        # np.load leaves a file that it opened itself open when it fails
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in names}  # zip compares each one's CRC
    except Exception:  # a damaged zip archive can raise nearly anything
        return None


def write_key(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content)
    write_whole(path, f"{_checksum(text)}\n{text}".encode())


def read_key(path: Path) -> dict[str, Any] | None:
    """What was written, or None where the file is absent or damaged."""
    try:
        checksum, _, text = path.read_text("utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return json.loads(text) if checksum == _checksum(text) else None


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
