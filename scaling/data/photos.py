"""Crops of the photographs that scikit-image and scikit-learn bring with them: no download."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data.config import PhotosConfig
from scaling.data.images import Bytes, Images
from scaling.limits import ConfigError

LARGEST_SCALE = 3.0  # a crop's side in the photograph over the side of the image made of it
LEAST_CONTRAST = 8.0  # standard deviation of grey over a crop, of 255: clear sky has none
MOST_DRAWS = 30


@dataclass(frozen=True)
class Photo:
    """held_out_edge: where the band lies that is kept out of training: what is there has colour."""

    package: str
    file: str
    held_out_edge: str
    credit: str


PHOTOS = (
    Photo("skimage", "data/astronaut.png", "left", "NASA, public domain"),
    Photo("skimage", "data/chelsea.png", "left", "Stefan van der Walt, CC0"),
    Photo("skimage", "data/coffee.png", "left", "Rachel Michetti, Pikolo Espresso Bar, CC0"),
    Photo("skimage", "data/rocket.jpg", "right", "SpaceX, public domain"),
    Photo("sklearn", "datasets/images/china.jpg", "left", "danielbuechele, CC BY 2.0"),
    Photo("sklearn", "datasets/images/flower.jpg", "bottom", "vultilion, CC BY 2.0"),
)


def photo_files() -> list[Path]:
    """Where the photographs lie; found without importing the packages, whose start is slow."""
    return [_package_folder(photo.package) / photo.file for photo in PHOTOS]


def read_photos(config: PhotosConfig) -> Images:
    """Equally many crops of every photograph, in random order, the same for the same seed.

    A crop's side in the photograph is log-uniform from `side` to LARGEST_SCALE times that, as far
    as the region allows; a crop without contrast is drawn again; half of those for training are
    mirrored. Training and held-out crops come from regions that share no pixel. ConfigError where
    a region is smaller than a crop.
    """
    regions = [
        split_photo(_read(path), photo.held_out_edge, config.held_out_fraction)
        for photo, path in zip(PHOTOS, photo_files(), strict=True)
    ]
    smallest = min(min(region.shape[:2]) for both in regions for region in both)
    if config.side > smallest:
        fraction = f"data.held_out_fraction={config.held_out_fraction:g}"
        allowed = f"must be at most {smallest} with these photographs and {fraction}"
        raise ConfigError("data.side", config.side, allowed)
    train = _crops([region for region, _ in regions], config, config.train_images, 0)
    held_out = _crops([region for _, region in regions], config, config.held_out_images, 1)
    credits = "; ".join(f"{Path(photo.file).stem}: {photo.credit}" for photo in PHOTOS)
    return Images(train, held_out, notes=[f"photographs: {credits}"])


def split_photo(photo: Bytes, held_out_edge: str, fraction: float) -> tuple[Bytes, Bytes]:
    """A photograph [H, W, 3] as (region for training, held-out band along the named edge)."""
    axis = 0 if held_out_edge in ("top", "bottom") else 1
    band = round(fraction * photo.shape[axis])
    if held_out_edge in ("top", "left"):
        held_out, train = np.split(photo, [band], axis)
    else:
        train, held_out = np.split(photo, [photo.shape[axis] - band], axis)
    return train, held_out


def _crops(regions: list[Bytes], config: PhotosConfig, n_images: int, split: int) -> Bytes:
    images = np.empty((n_images, config.side, config.side, 3), np.uint8)
    for i, region in enumerate(regions):
        random = np.random.default_rng([config.seed, split, i])
        rows = images[i :: len(regions)]
        _fill(rows, region, random)
        if split == 0:
            mirrored = random.random(len(rows)) < 0.5
            rows[mirrored] = rows[mirrored, :, ::-1]
    order = np.random.default_rng([config.seed, split]).permutation(n_images)
    return images[order]


def _fill(images: Bytes, region: Bytes, random: np.random.Generator) -> None:
    """Crops with something to see; where a region has hardly any, the last draw as it is."""
    waiting = np.arange(len(images))
    for _ in range(MOST_DRAWS):
        if not len(waiting):
            return
        images[waiting] = crops = _random_crops(region, len(waiting), images.shape[1], random)
        waiting = waiting[crops.mean(-1).std((1, 2)) < LEAST_CONTRAST]


def _random_crops(region: Bytes, n_images: int, side: int, random: np.random.Generator) -> Bytes:
    from PIL import Image

    # The region is a picture of its own: a resampling filter reads beyond the box it is given.
    picture = Image.fromarray(region)
    height, width = region.shape[:2]
    largest = min(LARGEST_SCALE * side, height, width)
    sizes = np.rint(side * (largest / side) ** random.random(n_images)).astype(int)
    tops, lefts = random.integers(0, height - sizes + 1), random.integers(0, width - sizes + 1)
    crops = np.empty((n_images, side, side, 3), np.uint8)
    for i, (top, left, size) in enumerate(zip(tops, lefts, sizes, strict=True)):
        box = (left, top, left + size, top + size)
        crops[i] = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))
    return crops


def _read(path: Path) -> Bytes:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError:
        raise ConfigError("data.name", "photos", f"cannot be read: {path}; reinstall") from None


def _package_folder(package: str) -> Path:
    installed = importlib.util.find_spec(package)
    if installed is None or installed.origin is None:
        names = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
        allowed = f"requires the package {names[package]}: pip install {names[package]}"
        raise ConfigError("data.name", "photos", allowed)
    return Path(installed.origin).parent
