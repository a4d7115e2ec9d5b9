"""Images in a NumPy .npz file."""

from __future__ import annotations

import zipfile

import numpy as np

from scaling.data.config import NpzConfig
from scaling.data.images import Bytes, Images, existing_file
from scaling.limits import ConfigError, short_reason


def read_npz(config: NpzConfig) -> Images:
    """Arrays `train` and `held_out`, or else `images`, split at random by `seed`.

    All uint8 [N, H, W, 3] of one H and W, N >= 1. ConfigError for anything else, and for a file
    that is damaged or holds pickled objects.
    """
    arrays = _arrays(config.path)
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not array.size:
            allowed = "must be uint8 [N, H, W, 3] with N, H, W >= 1"
            given = f"it is {array.dtype} {list(array.shape)}"
            raise ConfigError("data.path", config.path, f"`{name}` {allowed}; {given}")
    if "images" in arrays:
        return _split(arrays["images"], config)
    train, held_out = arrays["train"], arrays["held_out"]
    if train.shape[1:] != held_out.shape[1:]:
        allowed = (
            f"`train` {list(train.shape)} and `held_out` {list(held_out.shape)} differ in size"
        )
        raise ConfigError("data.path", config.path, allowed)
    return Images(train, held_out)


def _split(images: Bytes, config: NpzConfig) -> Images:
    n_images = len(images)
    if n_images < 2:
        raise ConfigError("data.path", config.path, "`images` must hold two or more, to split")
    n_held_out = min(max(round(config.held_out_fraction * n_images), 1), n_images - 1)
    order = np.random.default_rng(config.seed).permutation(n_images)
    held_out, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    return Images(images[train], images[held_out])


def _arrays(path: str) -> dict[str, Bytes]:
    file = existing_file("data.path", path)
    if not zipfile.is_zipfile(file):
        raise ConfigError("data.path", path, "is not a .npz file, or an incomplete one")
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            names = set(content.files)
            for wanted in ({"train", "held_out"}, {"images"}):
                if wanted <= names:
                    return {name: np.asarray(content[name]) for name in sorted(wanted)}
    except Exception as error:  # a damaged zip archive can raise nearly anything
        reason = short_reason(error)
        raise ConfigError("data.path", path, f"cannot be read: {reason}") from None
    held = ", ".join(sorted(names)) or "nothing"
    allowed = f"must hold arrays `train` and `held_out`, or `images`; it holds {held}"
    raise ConfigError("data.path", path, allowed)
