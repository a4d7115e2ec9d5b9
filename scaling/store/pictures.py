"""Pictures in a run's image slider, as MLflow's pages read them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

SMALL_SIDE = 256  # pixels, as MLflow has it
HAS_PICTURES = {"mlflow.loggedImages": "True"}  # or the pages do not look for them


def lay_out(
    pictures: list[tuple[Path, int, float]], whose: str, key: str, folder: Path
) -> list[Path]:
    """Files in `folder` for pictures (PNG file, step, seconds since 1970) of a run's image slider.

    As MlflowClient.log_image does it, which encodes every picture anew and asks a store thrice
    for each: files <key>+step+<s>+timestamp+<ms>+<id>.png and beside them a small one; the run has
    the tag HAS_PICTURES. whose: the run and its key: a picture that comes again has the same name,
    and so stands there once. Returns those that are not pictures, which are left out.
    """
    from PIL import Image

    broken = []
    for path, step, moment in pictures:
        identity = uuid5(NAMESPACE_OID, f"{whose} {step}")
        name = f"{key}+step+{step}+timestamp+{int(moment * 1000)}+{identity}"
        try:
            _save_small(path, folder / f"{name}+compressed.webp")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            broken.append(path)  # what Pillow raises of a file that is not a sound picture
            continue
        shutil.copyfile(path, folder / f"{name}.png")
    return broken


def _save_small(path: Path, small: Path) -> None:
    """What the pages show until a picture is opened."""
    from PIL import Image

    with Image.open(path) as picture:
        reduced = picture.reduce(math.ceil(max(picture.size) / SMALL_SIDE))
    reduced.save(small, lossless=True, quality=0, method=0)  # large pixels: small and fast
