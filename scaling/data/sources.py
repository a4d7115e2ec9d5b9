"""The sources of images by name, and what tells that a source's files have changed."""

from __future__ import annotations

import os
from pathlib import Path

from scaling.data import cifar10, image_folder, npz, photos
from scaling.data.config import (
    IMAGE_SETS,
    Cifar10Config,
    DataConfig,
    ImageFolderConfig,
    NpzConfig,
    PhotosConfig,
)
from scaling.data.images import Images, existing_file
from scaling.limits import ConfigError


def load_images(config: DataConfig, cache_folder: Path) -> Images:
    """Read the images of a validated configuration; a download is kept in the cache folder.

    Raises ConfigError, one line that names the key, for whatever the source lacks.
    """
    match config:
        case PhotosConfig():
            return photos.read_photos(config)
        case Cifar10Config():
            return cifar10.read_cifar10(config, cache_folder)
        case ImageFolderConfig():
            return image_folder.read_image_folder(config)
        case NpzConfig():
            return npz.read_npz(config)
    raise ConfigError("data.name", config.name, f"must be one of {', '.join(IMAGE_SETS)}")


def source_signature(config: DataConfig) -> list[list[str | int]]:
    """[path, size in bytes, time of change in ns] of every file that load_images would read.

    A downloaded archive stands there as its checksum, so that it need not be kept.
    """
    match config:
        case PhotosConfig():
            files = photos.photo_files()
        case Cifar10Config(path=None):
            return [[cifar10.ARCHIVE_MD5]]
        case Cifar10Config(path=str(path)):
            files = cifar10.batch_files(path)
        case ImageFolderConfig():
            files = image_folder.image_files(config.folder)
        case NpzConfig():
            files = [existing_file("data.path", config.path)]
        case _:
            files = []
    return [_signature(path) for path in files]


def _signature(path: Path) -> list[str | int]:
    try:
        state = path.stat()
    except OSError:  # a link to nowhere: to be named by who reads it
        return [os.path.abspath(path)]
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]
