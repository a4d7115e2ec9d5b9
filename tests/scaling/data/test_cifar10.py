from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.data import cifar10, cifar10_pickle
from scaling.data.cifar10 import BATCHES, FOLDER_NAME, read_cifar10
from scaling.data.cifar10_pickle import BatchError, load_batch
from scaling.data.config import Cifar10Config
from scaling.data.images import Images
from scaling.limits import ConfigError
from tests.scaling.data.archives import (
    SHARED,
    batch,
    batches,
    python2_pickle,
    write_archive,
    write_folder,
)

HALF_LOADED = "is not a complete archive of CIFAR-10, perhaps a partial download"


def read(path: Path, classes: tuple[str, ...] = ("horse",)) -> Images:
    return read_cifar10(Cifar10Config(path=str(path), classes=list(classes)), path.parent)


def refusal(path: Path) -> str:
    """What is said of an archive; always one line that names the key and the path."""
    with pytest.raises(ConfigError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"data.path={path}")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["folder", "parent", "w:gz", "w"])
def test_folder_and_archive_give_the_chosen_classes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given"
    if kind.startswith("w"):
        write_archive(path, batches(), kind)
    else:
        write_folder(path / FOLDER_NAME if kind == "parent" else path, batches())
    images = read(path, ("horse", "cat"))
    assert images.train.shape == (5 * 4, 32, 32, 3)
    assert images.held_out.shape == (4, 32, 32, 3)
    assert images.train.dtype == np.uint8
    assert sorted(set(images.train[:, 0, 0, 0])) == [3, 7]
    planes = batch(seed=0)[b"data"][3].reshape(3, 32, 32)
    np.testing.assert_array_equal(images.train[0], np.moveaxis(planes, 0, -1))


@pytest.mark.parametrize("protocol", range(6))
def test_batches_pickled_by_python_3(protocol: int) -> None:
    content = {key.decode(): value for key, value in batch(0).items()}
    if protocol < 3 or protocol == 5:  # these need more names than the format has
        with pytest.raises(BatchError, match=r"names (_codecs\.encode|numpy\._?core\.numeric)"):
            load_batch(pickle.dumps(content, protocol))
        return
    rows, labels = load_batch(pickle.dumps(content, protocol))
    np.testing.assert_array_equal(rows, content["data"])
    assert labels.tolist() == content["labels"]


def test_an_array_in_column_order() -> None:
    content = batch(0)
    content[b"data"] = np.asfortranarray(content[b"data"])
    rows, _ = load_batch(python2_pickle(content))
    np.testing.assert_array_equal(rows, content[b"data"])


class Call:
    """Pickled as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_else_is_executed(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    for function, name in ((os.mkdir, "mkdir"), (eval, "eval"), (np.save, "save")):
        argument = f"__import__('os').mkdir({str(victim)!r})" if function is eval else str(victim)
        evil = {"labels": Call(function, argument, *([[1]] * (function is np.save)))}
        contents = batches() | {"data_batch_3": pickle.dumps(evil, protocol)}
        path = write_folder(tmp_path / "given", contents)
        message = refusal(path)
        assert "data_batch_3: names " in message
        assert f"{name}, which no batch of CIFAR-10 needs; it was not run" in message
        assert not victim.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nndarray.tofile\n.",
        b"(ios\nsystem\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x11core._reconstruct\x93.",
        b"Pelsewhere\n.",
    ],
)
def test_no_other_name_is_admitted(text: bytes) -> None:
    with pytest.raises(BatchError, match=r"^(names|refers to)"):
        load_batch(text)


def test_admitted_names_are_fresh_records() -> None:
    """A pickle can give state to a function: it must not stay for the next."""
    admit = cifar10_pickle._Unpickler(io.BytesIO()).find_class
    name = ("numpy.core.multiarray", "_reconstruct")
    assert admit(*name) is not admit(*name)
    with pytest.raises(BatchError, match="not a dict"):
        load_batch(b"cnumpy.core.multiarray\n_reconstruct\n(dVkept\nI1\nsb.")
    assert not hasattr(admit(*name), "kept")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b"labels": list(range(10))}, "has 20 images and 10 labels"),
        ({b"labels": [10] * 20}, "no 'labels' of 0 to 9"),
        ({b"labels": [b"x"] * 20}, "no 'labels' of 0 to 9"),
        ({b"labels": 3}, "no 'labels' of 0 to 9"),
        ({b"data": b"bytes"}, "no 'data' of 3072 bytes a row"),
        ({b"data": np.zeros((20, 10), np.uint8)}, "no 'data' of 3072 bytes a row"),
        ({b"data": np.zeros((20, 3072), np.float32)}, "its array is not of unsigned bytes"),
        ({b"data": np.array([None] * 20)}, "its array is not of unsigned bytes"),
    ],
)
def test_contents_that_are_no_batch(change: dict[bytes, Any], reason: str) -> None:
    with pytest.raises(BatchError) as caught:
        load_batch(python2_pickle(batch(0) | change))
    assert reason in str(caught.value)


def test_a_damaged_pickle_is_an_error_of_one_line_or_gives_a_batch() -> None:
    whole = python2_pickle(batch(0))
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.choice([random.integers(400), random.integers(len(whole))])] ^= 1 << int(
            random.integers(8)
        )
        said, rows = "", np.empty((0, 3072))
        try:
            rows, _ = load_batch(bytes(damaged))
        except BatchError as error:
            said = str(error)
        assert rows.shape[1] == 3072
        assert "\n" not in said


def test_missing_empty_and_foreign_paths(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.tar.gz").endswith("there is no such file")
    empty = tmp_path / "empty.tar.gz"
    empty.touch()
    assert HALF_LOADED in refusal(empty)
    page = tmp_path / "page.tar.gz"
    page.write_text("<html>moved</html>" * 100)
    assert HALF_LOADED in refusal(page)
    write_archive(page, {})
    assert "lacks data_batch_1, " in refusal(page)
    assert "lacks data_batch_1, " in refusal(write_folder(tmp_path / "folder", {}))


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_half_downloaded_archives(tmp_path: Path, mode: str) -> None:
    path = write_archive(tmp_path / "given", batches(), mode)
    whole = path.read_bytes()
    for fraction in (0.001, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(fraction * len(whole))])
        message = refusal(path)
        assert HALF_LOADED in message or "lacks " in message


def test_a_damaged_archive_is_noticed(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "given", batches())
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 16
    path.write_bytes(damaged)
    assert HALF_LOADED in refusal(path)


def test_a_folder_with_a_cut_off_an_empty_or_a_missing_batch(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "given", batches())
    whole = (path / "data_batch_2").read_bytes()
    (path / "data_batch_2").write_bytes(whole[: len(whole) // 2])
    assert "data_batch_2: is damaged or cut off" in refusal(path)
    (path / "data_batch_2").write_bytes(b"")
    assert refusal(path).endswith("data_batch_2: is empty")
    (path / "data_batch_2").unlink()
    assert refusal(path).endswith("lacks data_batch_2 of the Python version of CIFAR-10")


def test_a_file_too_large_for_a_batch_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "MOST_BATCH_BYTES", 1000)
    folder = write_folder(tmp_path / "given", batches())
    assert refusal(folder).endswith("is too large for a batch of CIFAR-10")
    archive = write_archive(tmp_path / "given.tar.gz", batches())
    assert "lacks data_batch_1" in refusal(archive)


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(batches()["test_batch"])
    path = tmp_path / "given.tar"
    write_archive(path, {n: c for n, c in batches().items() if n != "test_batch"}, "w")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo(f"{FOLDER_NAME}/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
    assert "lacks test_batch" in refusal(path)


def test_a_class_without_images(tmp_path: Path) -> None:
    few = {name: python2_pickle(batch(0, n_images=3)) for name in BATCHES}
    path = write_folder(tmp_path / "given", few)
    with pytest.raises(
        ConfigError, match=r"^data\.classes=horse: .* has no images of these classes"
    ):
        read(path)


def test_the_official_layout() -> None:
    path = SHARED / FOLDER_NAME
    if not path.is_dir():
        pytest.skip(f"needs {path}")
    images = read(path)
    assert images.train.shape == (5000, 32, 32, 3)
    assert images.held_out.shape == (1000, 32, 32, 3)
    with pytest.raises(ConfigError, match=r"^data\.classes=ship: "):
        read(path, ("ship",))
