"""Files that a crash or a full disk leaves whole."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


class LineFile:
    """JSON lines, appended one by one; a line that cannot be written whole is not there at all.

    Lines go to the operating system at once: a process that is killed loses none.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self._file = path.open(mode + "b", buffering=0)

    def append(self, line: dict[str, Any]) -> None:
        content = (json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n").encode()
        begin = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(content):  # a full disk takes a part before it refuses
                written += self._file.write(content[written:]) or 0
        except OSError as error:
            self._file.truncate(begin)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def flush_to_disk(self) -> None:
        """Survive a power cut too."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file in one step: readers see the old content or the new, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
