from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.data.config import NpzConfig
from scaling.data.npz import read_npz
from scaling.limits import ConfigError


def images(n_images: int, height: int = 4, width: int = 6) -> np.ndarray:
    """Every pixel of an image bears its number."""
    numbers = np.arange(n_images, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(numbers, (n_images, height, width, 3)).copy()


def npz_of(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "images.npz", **arrays)
    return str(tmp_path / "images.npz")


def test_given_split(tmp_path: Path) -> None:
    path = npz_of(tmp_path, train=images(5), held_out=images(2) + 5)
    read = read_npz(NpzConfig(path=path))
    np.testing.assert_array_equal(read.train, images(5))
    np.testing.assert_array_equal(read.held_out, images(2) + 5)


def test_random_split_is_a_split_and_fixed_by_the_seed(tmp_path: Path) -> None:
    path = npz_of(tmp_path, images=images(50))
    splits = []
    for seed in (0, 0, 1):
        read = read_npz(NpzConfig(path=path, seed=seed))
        train, held_out = (list(part[:, 0, 0, 0]) for part in (read.train, read.held_out))
        assert len(held_out) == 10
        assert sorted(train + held_out) == list(range(50))
        splits.append(held_out)
    assert splits[0] == splits[1] != splits[2]


def test_a_split_of_few_leaves_one_on_each_side(tmp_path: Path) -> None:
    path = npz_of(tmp_path, images=images(2))
    for fraction in (0.01, 0.99):
        read = read_npz(NpzConfig(path=path, held_out_fraction=fraction))
        assert len(read.train) == len(read.held_out) == 1


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"train": images(2)}, "must hold arrays `train` and `held_out`, or `images`"),
        ({}, "it holds nothing"),
        ({"images": images(2).astype(float)}, "must be uint8 [N, H, W, 3]"),
        ({"images": images(2)[..., 0]}, "it is uint8 [2, 4, 6]"),
        ({"images": images(2)[:0]}, "with N, H, W >= 1"),
        ({"images": images(1)}, "must hold two or more"),
        ({"train": images(2), "held_out": images(2)[..., :2]}, "`held_out` must be uint8"),
        ({"train": images(2), "held_out": images(2, 8, 8)}, "differ in size"),
        ({"images": np.array([print], object)}, "cannot be read: Object arrays cannot be loaded"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:20],
)
def test_other_contents_say_what_is_expected(
    tmp_path: Path, arrays: dict[str, Any], reason: str
) -> None:
    path = npz_of(tmp_path, **arrays)
    with pytest.raises(ConfigError) as caught:
        read_npz(NpzConfig(path=path))
    assert str(caught.value).startswith(f"data.path={path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_empty_cut_off_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.path=.*there is no such file"):
        read_npz(NpzConfig(path=str(tmp_path / "images.npz")))
    path = npz_of(tmp_path, images=images(50))
    whole = Path(path).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        Path(path).write_bytes(content)
        with pytest.raises(ConfigError, match=r"^data\.path=.*not a \.npz file, or an incomplete"):
            read_npz(NpzConfig(path=path))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    Path(path).write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"^data\.path=.*cannot be read: Bad CRC-32"):
        read_npz(NpzConfig(path=path))


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images(3))
    with pytest.raises(ConfigError, match=r"^data\.path=.*not a \.npz file"):
        read_npz(NpzConfig(path=str(tmp_path / "images.npy")))


def test_entries_that_are_no_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("images", "text")
    with pytest.raises(ConfigError, match=r"^data\.path=.*must be uint8"):
        read_npz(NpzConfig(path=str(tmp_path / "images.npz")))
