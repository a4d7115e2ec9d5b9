from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from scaling.durable import LineFile, write_whole

FULL = Path("/dev/full")


def test_lines_are_there_when_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = LineFile(path, "x")
    file.append({"n": 1})
    assert json.loads(path.read_text())["n"] == 1
    file.append({"n": 2})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2]
    file.close()


class PartlyFull:
    """A file on a disk that takes so many bytes more, then none."""

    def __init__(self, file, room: int) -> None:
        self._file, self._room = file, room

    def write(self, content: bytes) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(self._room, len(content))
        self._room -= taken
        return self._file.write(content[:taken])

    def __getattr__(self, name: str):
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 9])
def test_a_line_that_does_not_fit_is_not_there(room: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = LineFile(path, "x")
    file.append({"n": 1})
    whole = file._file
    file._file = PartlyFull(whole, room)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(OSError, match="No space left") as caught:
        file.append({"n": "a line longer than that"})
    assert caught.value.filename == str(path)
    file._file = whole
    file.append({"n": 3})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]
    file.close()


def test_a_file_is_replaced_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, b"newer")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
