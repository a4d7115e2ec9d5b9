"""A batch of CIFAR-10 out of its pickle, which is not trusted: no function of its choice runs.

The pickle of a batch is a dict of bytes, lists, numbers and one NumPy array of bytes. The three
names that such an array needs stand for plain records here; any other name is an error.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.images import Bytes
from scaling.limits import short_reason

ROW_BYTES = 3 * 32 * 32


class BatchError(ValueError):
    """What makes a file no batch of CIFAR-10; the message is one line and says so of the file."""


class _Dtype:
    def __init__(self, code: bytes | str, *_: object) -> None:
        self.is_bytes = code in (b"u1", "u1")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment: a byte has neither."""


class _Array:
    rows: Bytes

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, content = state
        if not isinstance(dtype, _Dtype) or not dtype.is_bytes or not isinstance(content, bytes):
            raise BatchError("its array is not of unsigned bytes")
        order = "F" if fortran_order else "C"
        self.rows = np.frombuffer(content, np.uint8).reshape(shape, order=order)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            # numpy.core was renamed in NumPy 2; batches pickled since bear the new name
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return lambda *_: _Array()
            case "numpy", "ndarray":
                return _Array
            case "numpy", "dtype":
                return _Dtype
        raise BatchError(f"names {module}.{name}, which no batch of CIFAR-10 needs; it was not run")

    def persistent_load(self, pid: object) -> Any:
        raise BatchError("refers to an object outside of it, which no batch of CIFAR-10 does")


def load_batch(content: bytes) -> tuple[Bytes, NDArray[np.int64]]:
    """Rows uint8 [n, 3072] (red, green, blue planes of 32 x 32) and labels [n] in 0..9.

    Raises BatchError for whatever is not such a batch.
    """
    if not content:
        raise BatchError("is empty")
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except BatchError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = short_reason(error)
        raise BatchError(f"is damaged or cut off ({reason})") from None
    return _checked(batch)


def _checked(batch: object) -> tuple[Bytes, NDArray[np.int64]]:
    if not isinstance(batch, dict):
        raise BatchError("is not a batch of CIFAR-10: not a dict")
    content = {key.decode() if isinstance(key, bytes) else key: batch[key] for key in batch}
    rows = getattr(content.get("data"), "rows", None)
    labels = content.get("labels")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != ROW_BYTES:
        raise BatchError(f"is not a batch of CIFAR-10: no 'data' of {ROW_BYTES} bytes a row")
    if not isinstance(labels, list) or not all(
        isinstance(label, int) and 0 <= label <= 9 for label in labels
    ):
        raise BatchError("is not a batch of CIFAR-10: no 'labels' of 0 to 9")
    if len(labels) != len(rows):
        raise BatchError(f"has {len(rows)} images and {len(labels)} labels")
    return rows, np.array(labels, np.int64)
