"""Files that are no table: one line each, in seconds, however large."""

from __future__ import annotations

import csv
import math
import os
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import AnalysisError
from analysis.read.files import read_table

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
        (b'a,b\n1,"2\n3,4\n', "is not a CSV table"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(AnalysisError, match=says) as told:
        read_table(path)
    assert "\n" not in str(told.value)


@pytest.mark.long
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
    with pytest.raises(AnalysisError, match="is not a parquet file"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "first_row"),
    [
        ("sep=;\n# exported\na;b\n8;0,5\n", 4),
        ('"sep=;"\r\na;b\r\n8;0,5\r\n', 3),
        ("sep=|\na|b\n8|0,5\n", 3),
        ("\ufeffsep=\t\na\tb\n8\t0,5\n", 3),
        ("\n\n# one\n# two\n\na;b\n8;0,5\n", 7),
        ("# a;b\n8;0,5\n", 2),  # as numpy.savetxt writes it
        ('"a";"b"\n"8";"0,5"\n', 2),
        ('"";"a";"b"\n"1";8;"0,5"\n', 2),  # R's write.csv2: the names of rows have none
        ("a;b;\n8;0,5;\n", 2),
        ("a;b\n8;0,5;\n", 2),
        ("a\tb\r8\t0,5\r", 2),
        ('a;"b\n"\n8;0,5\n', 3),
    ],
)
def test_what_programs_write_around_a_table(tmp_path: Path, text: str, first_row: int) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    table = read_table(path)
    assert table.to_dict("records")[0] == {"a": "8", "b": "0.5"}
    assert table.index[0] == first_row


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"a","b"\n"1",8,9\n', "row 2 has 3 cells, but the header has 2; if they begin with row n"),
        ("a,b\n1,2\n3,4,5\n", "row 3 has 3 cells, but the header has 2"),
        ("# x\na,b\n1,2\n3,4,5,6,7\n", "row 4 has 5 cells, but the header has 2"),
        ("a,b\n1,2,3,4\n5,6\n", "row 2 has 4 cells, but the header has 2"),
        ("a,loss,b,loss \n1,2,3,4\n", "column loss stands 2 times in the header .as number 2 an"),
        ("a,,b\n1,2,3\n", "column 2 has no name in the header, but a value in row 2"),
        ('a,"b\n1,2\n', "is not a CSV table|the table has no rows"),
        ("a,b\n", "the table has no rows"),
        ("sep=;\n", "the table has no rows"),
        ("# only\n# comments\n", "the table has no rows"),
        ("\ufeff", "the file is empty"),
        ("\ufeff\r\n", "the file is empty"),
    ],
)
def test_one_line_for_what_cannot_be_read_rightly(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    with pytest.raises(AnalysisError, match=f"^source.path={path}: ({says})") as told:
        read_table(path)
    assert "\n" not in str(told.value)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2,
                 max_size=2),
        min_size=1, max_size=5,
    ),
    separator=st.sampled_from(",;\t"),
)  # fmt: skip
def test_any_text_comes_back_or_one_line_says_why(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], separator: str
) -> None:
    """As Python's csv module writes it; spaces that begin a cell are not kept."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writerows([["a", "b"], *cells])
    if not any(cell for row in cells for cell in row):
        with pytest.raises(AnalysisError, match=r"the table has no rows$"):
            read_table(path)
        return
    table = read_table(path)
    found = table.fillna("").to_numpy().tolist()
    wanted = [row for row in cells if any(row)]
    assert [[_plain(cell) for cell in row] for row in found] == [
        [_plain(cell) for cell in row] for row in wanted
    ]


def _plain(cell: str) -> str:
    """Without what reading may change: line ends and decimal commas."""
    return re.sub(r"[\r\n]+", "\n", cell).replace(",", ".")


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_table_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(content)
    said = ""
    try:
        assert len(read_table(path))
    except AnalysisError as error:
        said = str(error)
    assert "\n" not in said


def test_parquet_of_other_libraries(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    loss = pa.array([1.0, math.nan, None])
    tags = pa.array([["x"], ["x"], ["y"]])
    pq.write_table(pa.table({"loss": loss, "tags": tags}), path)
    table = read_table(path)
    assert table["loss"].tolist()[:2] == [1.0, "nan"]  # written, unlike the last
    assert table["loss"].isna().tolist() == [False, False, True]
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["loss", "loss"])
    pq.write_table(twice, path)
    with pytest.raises(AnalysisError, match="column loss stands 2 times in the header"):
        read_table(path)


def test_parquet_keeps_what_pandas_made_an_index(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"step": [1, 2], "kind": pd.Categorical(["a", "b"])}).set_index("step")
    frame.to_parquet(path)
    assert sorted(read_table(path).columns) == ["kind", "step"]
    frame.reset_index(drop=True).iloc[1:].to_parquet(path)
    assert read_table(path).columns.tolist() == ["kind"]
