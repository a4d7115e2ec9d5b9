from __future__ import annotations

import pytest

from scaling.data.config import (
    IMAGE_SETS,
    Cifar10Config,
    DataConfig,
    ImageFolderConfig,
    NpzConfig,
    PhotosConfig,
    validate_data,
)
from scaling.limits import ConfigError

BAD: list[tuple[str, DataConfig]] = [
    ("data.name", DataConfig(name="mnist")),
    ("data.name", DataConfig(name="photos")),
    ("data.side", PhotosConfig(side=0)),
    ("data.side", PhotosConfig(side=1025)),
    ("data.side", ImageFolderConfig(folder="x", side=0)),
    ("data.side", PhotosConfig(side=1.5)),  # pyright: ignore[reportArgumentType]
    ("data.side", PhotosConfig(side=True)),
    ("data.train_images", PhotosConfig(train_images=0)),
    ("data.held_out_images", PhotosConfig(held_out_images=0)),
    ("data.held_out_fraction", PhotosConfig(held_out_fraction=0.0)),
    ("data.held_out_fraction", ImageFolderConfig(folder="x", held_out_fraction=1.0)),
    ("data.held_out_fraction", NpzConfig(path="x", held_out_fraction=float("nan"))),
    ("data.seed", PhotosConfig(seed=-1)),
    ("data.num_colours", PhotosConfig(num_colours=1)),
    ("data.num_colours", Cifar10Config(num_colours=300)),
    ("data.palette_seed", Cifar10Config(palette_seed=2**32)),
    ("data.palette", PhotosConfig(palette="")),
    ("data.classes", Cifar10Config(classes=["unicorn"])),
    ("data.classes", Cifar10Config(classes=[])),
    ("data.folder", ImageFolderConfig()),
    ("data.path", NpzConfig()),
    ("data.path", Cifar10Config(path="")),
]


@pytest.mark.parametrize(
    ("key", "config"), BAD, ids=[f"{i}-{key}" for i, (key, _) in enumerate(BAD)]
)
def test_bad_values_name_their_key(key: str, config: DataConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_data(config)
    message = str(caught.value)
    assert message.startswith(f"{key}=")
    assert "\n" not in message


@pytest.mark.parametrize(
    "config",
    [PhotosConfig(), Cifar10Config(), ImageFolderConfig(folder="x"), NpzConfig(path="x")],
    ids=IMAGE_SETS,
)
def test_defaults_are_allowed(config: DataConfig) -> None:
    assert validate_data(config) is None
