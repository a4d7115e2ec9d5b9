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


@dataclass
class TextConfig:
    """Characters of text files, see scaling.data.text.

    path: a file, a folder or a pattern; null: the standard library's own source. max_characters:
    of the files in the order of their names. vocabulary_size: the most frequent characters of the
    training text; all others are one more, unknown. held_out_sequences: at most so many, evenly
    spread over the text that is held out.
    """

    name: str = "text"
    path: str | None = limited(None)
    sequence_length: int = limited(64, least=1, most=65536)
    vocabulary_size: int = limited(96, least=1, most=255)  # tokens are stored in one byte
    max_characters: int = limited(2_000_000, least=1, most=1_000_000_000)
    held_out_fraction: float = limited(0.1, above=0, below=1)
    held_out_sequences: int = limited(1000, least=1, most=10_000_000)


IMAGE_SETS: dict[str, type[DataConfig]] = {
    "photos": PhotosConfig,
    "cifar10": Cifar10Config,
    "image_folder": ImageFolderConfig,
    "npz": NpzConfig,
}
DATASETS: dict[str, type[DataConfig] | type[TextConfig]] = {**IMAGE_SETS, "text": TextConfig}


def validate_data(config: DataConfig) -> None:
    """Raise ConfigError for the first value that no data set can have; reads no file."""
    if type(config) is not IMAGE_SETS.get(config.name):
        raise ConfigError("data.name", config.name, f"must be one of {', '.join(IMAGE_SETS)}")
    check_limits(config, "data.")
    if isinstance(config, Cifar10Config) and not config.classes:
        allowed = f"must be one or more of {', '.join(CIFAR10_CLASSES)}"
        raise ConfigError("data.classes", config.classes, allowed)
