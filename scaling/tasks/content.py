"""The digest of a problem's data: of arrays all examples, of all else what the problem says."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from scaling.limits import ConfigError
from scaling.tasks.examples import is_dataset, is_mapped

CHUNK_BYTES = 2**24


def data_digest(problem: Any) -> str:
    """The problem's own `content_hash`, else of all examples, a chunk at a time.

    ConfigError for a batch() or a Dataset without content_hash: they are not read for it.
    """
    known = getattr(problem, "content_hash", None)
    if known is not None:
        return str(known)
    digest = hashlib.sha256()
    for key in ("train", "held_out"):
        given: Any = getattr(problem, key, None)
        if not is_held(given):
            allowed = (
                f"is required where {key} is not given as arrays: it tells data that changed from "
                "data that did not, as content_hash = file_digest(path) of scaling.data.file_digest"
            )
            raise ConfigError("the problem's content_hash", None, allowed)
        for part in given:
            _take_in(digest, part)
    return digest.hexdigest()[:16]


def is_held(given: Any) -> bool:
    """Arrays, which can be gone through."""
    return given is not None and not is_dataset(given)


def _take_in(digest: Any, part: Any) -> None:
    if isinstance(part, dict):
        for key in sorted(part, key=str):
            digest.update(f"{key}\n".encode())
            _take_in(digest, part[key])
    elif isinstance(part, tuple) and any(hasattr(one, "shape") for one in part):
        for one in part:
            _take_in(digest, one)
    else:
        array = np.asarray(part)
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        for chunk in _chunks(array):
            digest.update(np.ascontiguousarray(chunk).tobytes())


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Its bytes in order; what lies in a file does not stay in memory."""
    if not array.ndim:
        yield array
        return
    rows = max(1, CHUNK_BYTES // max(1, array.nbytes // max(1, len(array))))
    for begin in range(0, len(array), rows):
        yield array[begin : begin + rows]
        if is_mapped(array):
            _release(array)


def _release(array: np.ndarray) -> None:
    """Give the pages of a mapped file back; not of a copy-on-write map, whose changes they hold."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    if isinstance(array, np.memmap) and array.mode != "c" and isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
