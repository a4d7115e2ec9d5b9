"""What values the group `data` may have. What needs the files is checked where they are read."""

from __future__ import annotations

from dataclasses import fields

from scaling.config import ConfigError
from scaling.data.config import CIFAR10_CLASSES, DATASETS, Cifar10Config, DataConfig

LIMITS = {
    "num_colours": (2, 256),  # labels are stored in one byte
    "palette_seed": (0, 2**32 - 1),
    "side": (1, 1024),
    "train_images": (1, 10_000_000),
    "held_out_images": (1, 10_000_000),
    "seed": (0, 2**32 - 1),
}


def validate_data(config: DataConfig) -> None:
    """Raise ConfigError for the first value that no data set can have; reads no file."""
    if config.name not in DATASETS or type(config) is not DATASETS[config.name]:
        raise ConfigError("data.name", config.name, f"must be one of {', '.join(DATASETS)}")
    for key in (one.name for one in fields(config)):
        value = getattr(config, key)
        if key in LIMITS:
            _whole(f"data.{key}", value, *LIMITS[key])
        elif key == "held_out_fraction":
            _fraction(f"data.{key}", value)
        elif key in ("folder", "path", "palette", "url") and value in ("", "???"):
            raise ConfigError(f"data.{key}", value, "must be given")
    if isinstance(config, Cifar10Config):
        _classes(config.classes)


def _whole(key: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(key, value, f"must be a whole number from {least} to {most}")


def _fraction(key: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(key, value, "must be a number > 0 and < 1")


def _classes(classes: list[str]) -> None:
    allowed = f"must be one or more of {', '.join(CIFAR10_CLASSES)}"
    if not classes:
        raise ConfigError("data.classes", classes, allowed)
    for name in classes:
        if name not in CIFAR10_CLASSES:
            raise ConfigError("data.classes", name, allowed)
