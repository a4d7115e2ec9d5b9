"""Files that a crash or a full disk leaves whole, and whose damage is seen."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

CHECK = b',"check":"'
CHECKSUM = re.compile(rb'([0-9a-f]{8})"}')


def sealed_line(line: dict[str, Any]) -> bytes:
    """An object as a line of JSON whose last field, check, is the CRC-32 of all before it."""
    body = json.dumps(line, separators=(",", ":"), allow_nan=False)[:-1].encode()
    return b'%s%s%08x"}\n' % (body, CHECK, zlib.crc32(body))


def read_line(line: bytes, check: bool) -> tuple[dict[str, Any], bool]:
    """The object of a line, and whether it has a checksum.

    check: it needs one. ValueError, with the reason, for a line that is damaged.
    """
    body, _, end = line.rpartition(CHECK)
    written = CHECKSUM.fullmatch(end)
    if body and written is not None:
        if int(written[1], 16) != zlib.crc32(body):
            raise ValueError("its checksum does not match")
        line = body + b"}"
    elif check:
        raise ValueError("it has no checksum")
    try:
        content = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(content, dict):
        raise ValueError("it is not an object")
    return content, written is not None


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading; OSError for a link, a folder or a pipe, which may stand for it."""
    # not waiting for the other end of a pipe
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is not a plain file", str(path))
    return os.fdopen(handle, "rb")


def refuse_no_plain_file(path: Path) -> None:
    """OSError for a link, a folder or a pipe where a file of ours is to be made or written."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a plain file", str(path))


class LineFile:
    """JSON lines, appended one by one; a line that cannot be written whole is not there at all.

    Lines go to the operating system at once: a process that is killed loses none. Each ends in a
    checksum.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self._file = path.open(mode + "b", buffering=0)

    def append(self, line: dict[str, Any]) -> None:
        content = sealed_line(line)
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
