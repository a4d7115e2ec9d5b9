"""Any folder of image files, of any shapes and modes."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaling.data.config import ImageFolderConfig
from scaling.data.images import Bytes, Images
from scaling.limits import ConfigError, short_reason

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    f".{name}"
    for name in ("jpg", "jpeg", "jfif", "png", "gif", "bmp", "webp", "tif", "tiff", "ppm", "pgm")
)


def image_files(folder: str) -> list[Path]:
    """The files below a folder that are images by their suffix, in the order of their names.

    ConfigError where there is no such folder or no such file.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError("data.folder", folder, "there is no such folder")
    paths = [
        path
        for path in _files_below(folder, root)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not paths:
        allowed = f"has no image; images are files named {', '.join(sorted(SUFFIXES))}"
        raise ConfigError("data.folder", folder, allowed)
    return sorted(paths)


def _files_below(folder: str, root: Path) -> Iterator[Path]:
    """Through links as well, each folder once: links may go in circles."""

    def unlisted(error: OSError) -> None:
        allowed = f"{error.filename} cannot be listed ({error.strerror})"
        raise ConfigError("data.folder", folder, allowed) from None

    seen: set[str] = set()
    for place, folders, names in os.walk(root, onerror=unlisted, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place, name) for name in names)


def read_image_folder(config: ImageFolderConfig) -> Images:
    """The middle square of every image, in the order of the names, resized to `side`.

    Modes: grey and palette become RGB, transparency stands on white, EXIF rotation is undone, 16
    bits are cut to 8, an animation is its first frame. A file that cannot be read or is one pixel
    thin is named in `skipped`. ConfigError where fewer than two images are left.
    """
    root = Path(config.folder).expanduser()
    images: dict[str, Bytes] = {}
    skipped: list[str] = []
    n_enlarged = 0
    for path in image_files(config.folder):
        name = path.relative_to(root).as_posix()
        try:
            images[name], enlarged = _read(path, config.side)
            n_enlarged += enlarged
        except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
            skipped.append(f"{_printable(name)}: {_reason(error)}")
    if len(images) < 2:
        first = f", the first {skipped[0]}" if skipped else ""
        allowed = (
            f"requires at least two readable images: {len(images)} are readable, {len(skipped)} not"
        )
        raise ConfigError("data.folder", config.folder, allowed + first)
    notes = [f"{n_enlarged} images were smaller than side {config.side} and enlarged"]
    return _split(images, config.held_out_fraction, skipped, notes if n_enlarged else [])


def _split(
    images: dict[str, Bytes], fraction: float, skipped: list[str], notes: list[str]
) -> Images:
    """By the hash of the name: a file stays on its side whatever is added or taken away."""
    places = {name: _place(name) for name in images}
    held_out = {name for name, place in places.items() if place < fraction}
    if not held_out:
        held_out = {min(places, key=places.__getitem__)}
    if len(held_out) == len(images):
        held_out.remove(max(places, key=places.__getitem__))
    sides = [
        [images[name] for name in images if (name in held_out) is out] for out in (False, True)
    ]
    return Images(np.stack(sides[0]), np.stack(sides[1]), skipped, notes)


def _place(name: str) -> float:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _printable(name: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return short_reason(error)


def _read(path: Path, side: int) -> tuple[Bytes, bool]:
    """The image uint8 [side, side, 3], and whether it had to be enlarged."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata; what cannot be decoded raises
        with Image.open(path) as picture:
            picture.draft("RGB", (side, side))  # a large JPEG is decoded at a fraction of its size
            upright = ImageOps.exif_transpose(picture)
            shorter = min(upright.size)
            if shorter < 2:
                raise ValueError(f"{upright.width} x {upright.height} pixels are too few")
            left, top = ((length - shorter) // 2 for length in upright.size)
            square = _rgb(upright.crop((left, top, left + shorter, top + shorter)))
            resized = square.resize((side, side), Image.Resampling.BICUBIC)
            return np.asarray(resized), shorter < side


def _rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion cuts off at 255
        values = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")
