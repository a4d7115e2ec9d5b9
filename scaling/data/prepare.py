"""Images made ready for training, once: grey in, colour indices out; kept on disk.

Arrays are kept under the hash of what they hold, and a small file per key says which of them belong
to a state of the source files, so that several keys may share them. Both kinds are written whole
and carry checksums; what is damaged counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from scaling.data.config import DataConfig, validate_data
from scaling.data.images import Bytes, Images
from scaling.data.palette import fit_palette, nearest_colour, read_palette
from scaling.data.sources import load_images, source_signature
from scaling.durable import write_whole

FORMAT = 1  # of what is kept; a higher number leaves the older files alone
READERS = ("numpy", "pillow", "scikit-learn")  # another version may give other pixels or colours
GREY_LEVELS = 256.0
ARRAYS = ("grey", "labels", "held_out_grey", "held_out_labels", "palette")


@dataclass
class Prepared:
    """grey float32 [N, 1, H, W] in 0..1: mean of red, green and blue / 256; labels uint8 [N, H, W]:
    index of the nearest of the colours of palette float32 [K, 3] in 0..1; the same held out.

    content_hash: of the images and the palette, wherever they lay; skipped: files that could not
    be used, with the reason; notes: what a reader should know.
    """

    grey: NDArray[np.float32]
    labels: Bytes
    held_out_grey: NDArray[np.float32]
    held_out_labels: Bytes
    palette: NDArray[np.float32]
    content_hash: str
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prepare_data(config: DataConfig, cache_folder: Path) -> Prepared:
    """Read, prepare and keep, or take what was kept of the same files and options.

    A kept file that is damaged is made again; processes that want the same data wait for each
    other. Raises ConfigError for what the user can correct, OSError where the cache cannot be
    written.
    """
    validate_data(config)
    palette = None if config.palette is None else read_palette(config.palette)
    folder = cache_folder / f"prepared-{FORMAT}"
    key = _key(config, palette)
    kept = _kept(folder, key)
    if kept is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        return _kept(folder, key) or _prepare(config, palette, folder, key, cache_folder)


def _key(config: DataConfig, palette: NDArray[np.float32] | None) -> str:
    """Of all that decides the outcome, without reading an image."""
    content = {
        "options": asdict(config) | {"palette": None if palette is None else palette.tolist()},
        "files": source_signature(config),
        "readers": [version(name) for name in READERS],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _kept(folder: Path, key: str) -> Prepared | None:
    known = read_key(folder / f"{key}.json")
    if known is None:
        return None
    arrays = read_arrays(folder / f"{known['content_hash']}.npz", ARRAYS)
    return None if arrays is None else Prepared(**arrays, **known)


def _prepare(
    config: DataConfig,
    palette: NDArray[np.float32] | None,
    folder: Path,
    key: str,
    cache_folder: Path,
) -> Prepared:
    images = load_images(config, cache_folder)
    if palette is None:
        palette = fit_palette(images.train, config.num_colours, config.palette_seed)
    prepared = Prepared(
        grey=grey_of(images.train),
        labels=nearest_colour(images.train, palette),
        held_out_grey=grey_of(images.held_out),
        held_out_labels=nearest_colour(images.held_out, palette),
        palette=palette,
        content_hash=_content_hash(images, palette),
        skipped=images.skipped,
        notes=images.notes,
    )
    content = vars(prepared)
    arrays = {name: content[name] for name in ARRAYS}
    write_arrays(folder / f"{prepared.content_hash}.npz", arrays)
    write_key(folder / f"{key}.json", {n: content[n] for n in content if n not in ARRAYS})
    return prepared


def grey_of(images: Bytes) -> NDArray[np.float32]:
    """uint8 [N, H, W, 3] -> [N, 1, H, W]: (red + green + blue) / 3 / 256."""
    total = images[..., 0].astype(np.uint16)
    total += images[..., 1]
    total += images[..., 2]
    return (total.astype(np.float32) / np.float32(3 * GREY_LEVELS))[:, None]


def _content_hash(images: Images, palette: NDArray[np.float32]) -> str:
    digest = hashlib.sha256()
    for array in (images.train, images.held_out, palette):
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """OSError, naming the file, where it cannot be written; then nothing has changed."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(path, content.getvalue())


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]] | None:
    """The arrays of these names, or None where the file is absent or damaged."""
    try:
        # np.load leaves a file that it opened itself open when it fails
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in names}  # zip compares each one's CRC
    except Exception:  # a damaged zip archive can raise nearly anything
        return None


def write_key(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content)
    write_whole(path, f"{_checksum(text)}\n{text}".encode())


def read_key(path: Path) -> dict[str, Any] | None:
    """What was written, or None where the file is absent or damaged."""
    try:
        checksum, _, text = path.read_text("utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return json.loads(text) if checksum == _checksum(text) else None


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
