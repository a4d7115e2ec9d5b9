"""Files that are no table: one line each, in seconds, however large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from analysis.errors import AnalysisError
from analysis.sources.files import read_table

MEGABYTES = 50


def test_rows_are_counted_as_editors_do(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffa,b\r\n1,x\r\n\r\n2,\r\n".encode())
    table = read_table(path)
    assert table.index.tolist() == [2, 4]
    assert table["a"].tolist() == ["1", "2"]
    assert table["b"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1,\xe9\n", r"is not UTF-8 \(byte"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"a,b\n1,2\0\n", "is a binary file"),
        (b"", "the file is empty"),
        (b'a,b\n1,"2\n3,4\n', "is no CSV table"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(AnalysisError, match=says) as told:
        read_table(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (b"\x00\x01\x02\xff", "is a binary file"),
        (b"rubbish,", "first line has no end"),
        (b"1,2,3\n4,5\n6,7,8,9\n", "row 3 has 4 cells, but the header has 3"),
        (b"\x81\x82\x83 \n", "is not UTF-8"),
    ],
)
def test_fifty_megabytes_of_rubbish(tmp_path: Path, piece: bytes, says: str) -> None:
    path = tmp_path / "rubbish.csv"
    path.write_bytes(piece * (MEGABYTES * 2**20 // len(piece)))
    with pytest.raises(AnalysisError, match=says) as told:
        read_table(path)
    assert len(str(told.value)) < 400


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="there is no such file"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(AnalysisError, match="is a directory"):
        read_table(tmp_path)
    path = tmp_path / "t.parquet"
    path.write_bytes(os.urandom(1000))
    with pytest.raises(AnalysisError, match="is no parquet file"):
        read_table(path)
