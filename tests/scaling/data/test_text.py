"""Text files to windows of tokens: whole, split without a leak, refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.config import TextConfig
from scaling.data.text import (
    UNKNOWN,
    decode,
    encode,
    read_text,
    split_texts,
    vocabulary_of,
    windows_of,
)
from scaling.data.text_files import STANDARD_LIBRARY, read_texts, text_files
from scaling.limits import ConfigError

SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters=UNKNOWN)
TEXTS = st.text(SIGNS, max_size=80)


@given(TEXTS)
def test_known_characters_come_back(text: str) -> None:
    vocabulary = vocabulary_of(text, 255)
    assert decode(encode(text, vocabulary).tolist(), vocabulary) == text


@given(TEXTS, TEXTS, st.integers(1, 6))
def test_the_most_frequent_are_known_and_all_others_unknown(a: str, b: str, size: int) -> None:
    vocabulary = vocabulary_of(a, size)
    assert len(vocabulary) == min(size, len(set(a))) + 1
    shown = decode(encode(b, vocabulary).tolist(), vocabulary)
    assert shown == "".join(sign if sign in vocabulary else UNKNOWN for sign in b)
    least = min((a.count(sign) for sign in vocabulary[:-1]), default=0)
    assert all(a.count(sign) <= least for sign in set(a) - set(vocabulary))


@given(st.integers(0, 60), st.integers(1, 9))
def test_each_token_but_the_first_is_predicted_once(n_tokens: int, length: int) -> None:
    windows = windows_of(np.arange(n_tokens, dtype=np.uint8), length)
    predicted = windows[:, 1:].ravel().tolist()
    assert predicted == list(range(1, 1 + len(predicted)))
    assert n_tokens - 1 - len(predicted) < length
    assert (windows[:, 0] == np.arange(len(windows)) * length).all()


@given(st.lists(st.text("ab", min_size=1), min_size=1, max_size=25), st.floats(0.05, 0.9))
def test_no_file_stands_on_both_sides_where_there_are_enough(
    texts: list[str], fraction: float
) -> None:
    named = [f"<{i}:{text}>" for i, text in enumerate(texts)]
    train, held_out = split_texts(named, fraction)
    whole = [text in train for text in named], [text in held_out for text in named]
    if len(texts) >= max(2, round(1 / fraction)):
        assert all(a != b for a, b in zip(*whole, strict=True))
        assert any(whole[1])
    else:
        both = zip(train.split("\n"), held_out.split("\n"), strict=True)
        assert [first + last for first, last in both] == named


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_the_same_text_anywhere_is_the_same(tmp_path: Path) -> None:
    texts = {"b": "second " * 40, "a": "first " * 40}
    one, two = (write(tmp_path / name, **texts) for name in ("one", "two"))
    first, second = (
        read_text(TextConfig(path=str(place), sequence_length=8)) for place in (one, two / "*.txt")
    )
    assert first.content_hash == second.content_hash
    assert (first.train == second.train).all()
    assert decode(first.train[0].tolist(), first.vocabulary) == "first fir"  # a before b
    write(two, b="other " * 40)
    assert read_text(TextConfig(path=str(two), sequence_length=8)).content_hash != (
        first.content_hash
    )


def test_the_vocabulary_is_of_the_training_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "one.md"
    path.write_text("ab" * 90 + "xy" * 10)
    text = read_text(TextConfig(path=str(path), sequence_length=4, held_out_fraction=0.1))
    assert text.vocabulary == "ab" + UNKNOWN
    assert text.unknown_fraction == 1


def test_fewer_held_out_sequences_are_spread_over_all(tmp_path: Path) -> None:
    path = tmp_path / "digits.txt"
    path.write_text("a" * 100 + "".join(f"{i:03d}," for i in range(25)))
    config = TextConfig(
        path=str(path), sequence_length=4, held_out_fraction=0.5, held_out_sequences=3
    )
    text = read_text(config)
    assert text.held_out.shape == (3, 5)
    every = read_text(TextConfig(path=str(path), sequence_length=4, held_out_fraction=0.5))
    assert (text.held_out[[0, -1]] == every.held_out[[0, -1]]).all()


def test_the_standard_library_is_there_and_python() -> None:
    assert len(text_files(None)) == len(STANDARD_LIBRARY)
    [first] = read_texts(None, 9000)
    assert len(first) == 9000
    assert "import" in first


def test_lines_end_alike_on_every_system(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_texts(str(tmp_path), 100) == ["one\ntwo\nthree\n"]


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("nowhere.txt", "there is no such file or folder"),
        ("no*thing", "it matches none as a pattern"),
        ("pictures", "this folder has no text"),
        ("latin.txt", r"latin.txt is not text in UTF-8 \(byte 0\)"),
        ("short.txt", "its training part has 90 characters; a sequence takes 101"),
        ("empty.txt", "its training part has 0 characters"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, refusal: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "latin.txt").write_bytes("\xe9t\xe9".encode("latin-1"))
    (tmp_path / "short.txt").write_text("x" * 100)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ConfigError, match=refusal) as error:
        read_text(TextConfig(path=path, sequence_length=100))
    assert str(error.value).startswith(f"data.path={path}: ")
    assert "\n" not in str(error.value)


def test_limits_are_one_line(tmp_path: Path) -> None:
    path = str(write(tmp_path, a="x" * 400))
    for field, value in (("sequence_length", 0), ("vocabulary_size", 256)):
        config = replace(TextConfig(path=path), **{field: value})
        with pytest.raises(ConfigError, match=f"data.{field}={value}: must be"):
            read_text(config)
