"""Small archives in the format of CIFAR-10."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from scaling.data.cifar10 import BATCHES, FOLDER_NAME

SHARED = Path(__file__).parents[4] / "shared" / "data"


PythonPickler: Any = vars(pickle)["_Pickler"]


class Python2Pickler(PythonPickler):
    """Writes bytes as Python 2 wrote its strings: so are the official batches pickled."""

    dispatch: ClassVar[dict[type, Any]] = dict(PythonPickler.dispatch)

    def save_python2_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_python2_string


def batch(seed: int, n_images: int = 20) -> dict[bytes, Any]:
    """Labels 0, 1, .., 9, 0, ..; the first byte of every image is its label."""
    labels = [i % 10 for i in range(n_images)]
    data = np.random.default_rng(seed).integers(0, 256, (n_images, 3072)).astype(np.uint8)
    data[:, 0] = labels
    return {b"batch_label": b"a batch", b"labels": labels, b"data": data, b"filenames": [b"x.png"]}


def python2_pickle(content: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batches() -> dict[str, bytes]:
    return {name: python2_pickle(batch(seed)) for seed, name in enumerate(BATCHES)}


def write_folder(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, contents: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER_NAME}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
