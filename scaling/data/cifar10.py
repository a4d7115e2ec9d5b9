"""CIFAR-10 as its authors publish it for Python: a tar archive of pickled batches.

Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from scaling.data.cifar10_pickle import BatchError, load_batch
from scaling.data.config import CIFAR10_CLASSES, Cifar10Config
from scaling.data.download import download_once
from scaling.data.images import Bytes, Images, existing_file
from scaling.limits import ConfigError, short_reason

ARCHIVE_NAME = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER_NAME = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
BATCHES = (*TRAIN_BATCHES, "test_batch")
MOST_BATCH_BYTES = 64 * 2**20  # an official batch has 30 MiB
GZIP_START = b"\x1f\x8b"
SIDE = 32


def batch_files(path: str) -> list[Path]:
    """The files that hold the batches: one archive, or six files of a folder.

    ConfigError where nothing is there or a batch is missing.
    """
    given = Path(path).expanduser()
    if not given.is_dir():
        return [existing_file("data.path", path)]
    folder = given / FOLDER_NAME if (given / FOLDER_NAME).is_dir() else given
    _need_all(path, [name for name in BATCHES if (folder / name).is_file()])
    return [folder / name for name in BATCHES]


def read_cifar10(config: Cifar10Config, cache_folder: Path) -> Images:
    """The images of config.classes, in the order of the batches; side 32.

    Raises ConfigError for an archive that is missing, empty, cut off or holds anything else than
    the format's own types (which is then not executed), and where no image is of these classes.
    """
    path = config.path
    if path is None:
        path = str(cache_folder / ARCHIVE_NAME)
        download_once(config.url, Path(path), ARCHIVE_MD5)
    files = batch_files(path)
    contents = _folder_contents(files) if len(files) > 1 else _archive_contents(path, files[0])
    wanted = [CIFAR10_CLASSES.index(name) for name in config.classes]
    read = {name: _images(path, name, content, wanted) for name, content in contents.items()}
    images = Images(np.concatenate([read[name] for name in TRAIN_BATCHES]), read["test_batch"])
    if not len(images.train) or not len(images.held_out):
        allowed = f"{path} has no images of these classes for training, or none to hold out"
        raise ConfigError("data.classes", ",".join(config.classes), allowed)
    return images


def _images(path: str, name: str, content: bytes, wanted: list[int]) -> Bytes:
    try:
        rows, labels = load_batch(content)
    except BatchError as error:
        raise ConfigError("data.path", path, f"{name}: {error}") from None
    chosen = rows[np.isin(labels, wanted)]
    return chosen.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1).copy()


def _folder_contents(files: list[Path]) -> dict[str, bytes]:
    for file in files:
        if file.stat().st_size > MOST_BATCH_BYTES:
            raise ConfigError("data.path", file, "is too large for a batch of CIFAR-10")
    return {file.name: file.read_bytes() for file in files}


def _archive_contents(path: str, file: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    try:
        with _opened(file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in BATCHES and member.isfile() and member.size <= MOST_BATCH_BYTES:
                    opened = archive.extractfile(member)
                    contents[name] = opened.read() if opened else b""
            while stream.read(2**20):  # to the very end, where gzip compares its checksum
                pass
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        reason = short_reason(error)
        allowed = f"is not a complete archive of CIFAR-10, perhaps a partial download ({reason})"
        raise ConfigError("data.path", path, allowed) from None
    _need_all(path, list(contents))
    return contents


def _opened(file: Path) -> IO[bytes]:
    with file.open("rb") as start:
        is_gzip = start.read(len(GZIP_START)) == GZIP_START
    return cast(IO[bytes], gzip.open(file)) if is_gzip else file.open("rb")


def _need_all(path: str, names: list[str]) -> None:
    if missing := [name for name in BATCHES if name not in names]:
        allowed = f"lacks {', '.join(missing)} of the Python version of CIFAR-10"
        raise ConfigError("data.path", path, allowed)
