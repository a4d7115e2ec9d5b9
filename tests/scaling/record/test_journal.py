from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.record.journal import Journal, JournalError
from scaling.record.read_journals import FolderReader, JournalReader

SWEEP = {"study": "s", "name": "n", "note": "", "tags": {}}


def test_lines_come_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl", "s", SWEEP) as journal:
        journal.write("evaluation", step=1, trials=[0], loss=[0.1])
    with FolderReader(tmp_path) as reader:
        names, lines = zip(*reader.read(), strict=True)
        assert names == ("a", "a")
        assert lines[0]["sweep"] == SWEEP
        assert (lines[1]["step"], lines[1]["loss"]) == (1, [0.1])
        Journal(tmp_path / "b.jsonl", "s", SWEEP).close()
        assert [name for name, _ in reader.read()] == ["b"]
        assert reader.torn() == []


def test_no_journal_is_written_twice(tmp_path: Path) -> None:
    Journal(tmp_path / "a.jsonl", "s", SWEEP).close()
    with pytest.raises(FileExistsError):
        Journal(tmp_path / "a.jsonl", "s", SWEEP)


def test_no_number_that_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path, "s", SWEEP) as journal, pytest.raises(ValueError, match="JSON"):
        journal.write("evaluation", step=1, trials=[0], loss=[float("nan")])


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), st.data())
def test_a_file_read_while_it_grows(tmp_path_factory, numbers: list[int], data) -> None:
    path = tmp_path_factory.mktemp("grow") / "a.jsonl"
    content = b"".join(json.dumps({"record": "x", "n": n}).encode() + b"\n" for n in numbers)
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    reader = JournalReader(path)
    first = reader.read()
    assert reader.torn == (content[:cut][-1:] not in (b"", b"\n"))
    with path.open("ab") as file:
        file.write(content[cut:])
    assert [line["n"] for line in first + reader.read()] == numbers
    reader.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"rubbish\n", "not a journal"),
        (b"[1]\n", "not a journal"),
        (b'{"record": "journal", "format": 99}\n', "journal format 99, this version reads 2"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    expected = pytest.raises(JournalError, match=rf"a\.jsonl: .*{says}")
    with FolderReader(tmp_path) as reader, expected as caught:
        reader.read()
    assert "\n" not in str(caught.value)
