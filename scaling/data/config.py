"""Typed configuration of the group `data`: the fields and their defaults, one class per source.

Values are checked by scaling.data.validation.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class DataConfig:
    """palette: a CSV file of colours; null: k-means of training pixels into num_colours.

    num_colours and palette_seed are for k-means alone; a file brings its own number of colours.
    """

    name: str = "???"
    palette: str | None = None
    num_colours: int = 24
    palette_seed: int = 0


@dataclass
class PhotosConfig(DataConfig):
    """Random crops of photographs that come with the installation, see scaling.data.photos.

    held_out_fraction: the share of each photograph's width or height kept out of training.
    """

    name: str = "photos"
    side: int = 32
    train_images: int = 5000
    held_out_images: int = 1000
    held_out_fraction: float = 0.25
    seed: int = 0


@dataclass
class Cifar10Config(DataConfig):
    """CIFAR-10, its own split. path: the archive or a folder of its batches; null: download it."""

    name: str = "cifar10"
    path: str | None = None
    url: str = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    classes: list[str] = field(default_factory=lambda: ["horse"])


@dataclass
class ImageFolderConfig(DataConfig):
    """Every image file below a folder; held out by the hash of a file's name in the folder."""

    name: str = "image_folder"
    folder: str = "???"
    side: int = 32
    held_out_fraction: float = 0.2


@dataclass
class NpzConfig(DataConfig):
    """Arrays `train` and `held_out`, or `images` split at random, of a NumPy .npz file."""

    name: str = "npz"
    path: str = "???"
    held_out_fraction: float = 0.2
    seed: int = 0


DATASETS: dict[str, type[DataConfig]] = {
    "photos": PhotosConfig,
    "cifar10": Cifar10Config,
    "image_folder": ImageFolderConfig,
    "npz": NpzConfig,
}
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
