"""Fields, defaults and limits of the group `data`, one class per source."""

from __future__ import annotations

from dataclasses import dataclass

from scaling.limits import MISSING, ConfigError, check_limits, limited

MOST_SEED = 2**32 - 1
MOST_IMAGES = 10_000_000
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


@dataclass
class DataConfig:
    """palette: a CSV file of colours; null: k-means of training pixels into num_colours.

    num_colours and palette_seed are for k-means alone; a file brings its own number of colours.
    """

    name: str = MISSING
    palette: str | None = limited(None)
    num_colours: int = limited(24, least=2, most=256)  # labels are stored in one byte
    palette_seed: int = limited(0, least=0, most=MOST_SEED)


@dataclass
class PhotosConfig(DataConfig):
    """Random crops of photographs that come with the installation, see scaling.data.photos.

    held_out_fraction: the share of each photograph's width or height kept out of training.
    """

    name: str = "photos"
    side: int = limited(32, least=1, most=1024)
    train_images: int = limited(5000, least=1, most=MOST_IMAGES)
    held_out_images: int = limited(1000, least=1, most=MOST_IMAGES)
    held_out_fraction: float = limited(0.25, above=0, below=1)
    seed: int = limited(0, least=0, most=MOST_SEED)


@dataclass
class Cifar10Config(DataConfig):
    """CIFAR-10, its own split. path: the archive or a folder of its batches; null: download it."""

    name: str = "cifar10"
    path: str | None = limited(None)
    url: str = limited("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz")
    classes: list[str] = limited(["horse"], among=CIFAR10_CLASSES)


@dataclass
class ImageFolderConfig(DataConfig):
    """Every image file below a folder; held out by the hash of a file's name in the folder."""

    name: str = "image_folder"
    folder: str = limited(MISSING)
    side: int = limited(32, least=1, most=1024)
    held_out_fraction: float = limited(0.2, above=0, below=1)


@dataclass
class NpzConfig(DataConfig):
    """Arrays `train` and `held_out`, or `images` split at random, of a NumPy .npz file."""

    name: str = "npz"
    path: str = limited(MISSING)
    held_out_fraction: float = limited(0.2, above=0, below=1)
    seed: int = limited(0, least=0, most=MOST_SEED)


DATASETS: dict[str, type[DataConfig]] = {
    "photos": PhotosConfig,
    "cifar10": Cifar10Config,
    "image_folder": ImageFolderConfig,
    "npz": NpzConfig,
}


def validate_data(config: DataConfig) -> None:
    """Raise ConfigError for the first value that no data set can have; reads no file."""
    if type(config) is not DATASETS.get(config.name):
        raise ConfigError("data.name", config.name, f"must be one of {', '.join(DATASETS)}")
    check_limits(config, "data.")
    if isinstance(config, Cifar10Config) and not config.classes:
        allowed = f"must be one or more of {', '.join(CIFAR10_CLASSES)}"
        raise ConfigError("data.classes", config.classes, allowed)
