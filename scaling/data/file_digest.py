"""The digest of large files, worked out once: what a problem may say as its content_hash."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from scaling.durable import write_whole

CACHE = "file_digests.json"
SETTLED_SECONDS = 2.0  # a file changed within this may change again without a new time


def file_digest(*paths: str | Path, cache_dir: str | Path | None = None) -> str:
    """Sixteen hexadecimal digits that follow from the files' content and order, not from their
    names or places.

    SHA-256 of the files' own SHA-256 digests; each is kept in cache_dir (default:
    $XDG_CACHE_HOME/batch-scaling, else ~/.cache/batch-scaling) and used again while the file's
    path, size and time of change are the same. OSError for a file that cannot be read.
    """
    folder = Path(cache_dir or _default_folder()).expanduser()
    known = _known(folder / CACHE)
    fresh: dict[str, list[object]] = {}
    whole = hashlib.sha256()
    for path in map(Path, paths):
        name, stamp = str(path.resolve()), _stamp(path)
        entry = known.get(name)
        if isinstance(entry, list) and entry[:2] == stamp and len(entry) == 3:
            content = str(entry[2])
        else:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            if _stamp(path) == stamp and time.time() - stamp[1] / 1e9 > SETTLED_SECONDS:
                fresh[name] = [*stamp, content]
        whole.update(content.encode())
    if fresh:
        _keep(folder, fresh)
    return whole.hexdigest()[:16]


def _stamp(path: Path) -> list[int]:
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _default_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "batch-scaling"


def _known(file: Path) -> dict[str, object]:
    """What is kept; nothing where that is not there or not readable: it is only a saving."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _keep(folder: Path, fresh: dict[str, list[object]]) -> None:
    """Of two processes that write at once one may be lost, which costs reading a file again."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_known(folder / CACHE) | fresh, indent=0)
        write_whole(folder / CACHE, text.encode())
    except OSError:  # a cache that cannot be written
        return
