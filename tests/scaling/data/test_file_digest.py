"""Digests of large files: of their content alone, and read once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scaling.data.file_digest import CACHE, file_digest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.bin"
    path.write_bytes(b"one")
    os.utime(path, (1e9, 1e9))
    return path


def test_follows_content_and_order_and_not_the_place(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy.bin"
    other.write_bytes(b"one")
    third = tmp_path / "third.bin"
    third.write_bytes(b"three")
    assert file_digest(file, cache_dir=tmp_path) == file_digest(other, cache_dir=tmp_path)
    assert file_digest(file, third, cache_dir=tmp_path) != file_digest(
        third, file, cache_dir=tmp_path
    )


def test_a_file_is_read_again_only_where_it_changed(file: Path, tmp_path: Path) -> None:
    first = file_digest(file, cache_dir=tmp_path)
    cache = tmp_path / CACHE
    kept = json.loads(cache.read_text())
    [entry] = kept.values()
    entry[2] = "another"
    cache.write_text(json.dumps(kept))
    assert file_digest(file, cache_dir=tmp_path) != first  # taken from the cache
    file.write_bytes(b"two")
    os.utime(file, (1.1e9, 1.1e9))
    second = file_digest(file, cache_dir=tmp_path)
    file.write_bytes(b"one")
    os.utime(file, (1.2e9, 1.2e9))
    assert file_digest(file, cache_dir=tmp_path) == first != second


def test_what_was_written_just_now_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "new.bin"
    path.write_bytes(b"new")
    file_digest(path, cache_dir=tmp_path)
    assert not (tmp_path / CACHE).exists()


def test_a_damaged_cache_costs_reading_again(file: Path, tmp_path: Path) -> None:
    first = file_digest(file, cache_dir=tmp_path)
    (tmp_path / CACHE).write_text("[")
    assert file_digest(file, cache_dir=tmp_path) == first
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none.bin", cache_dir=tmp_path)
