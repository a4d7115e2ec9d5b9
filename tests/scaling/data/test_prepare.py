from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scaling.data.config import (
    Cifar10Config,
    ImageFolderConfig,
    NpzConfig,
    PhotosConfig,
)
from scaling.data.prepare import grey_of, prepare_data
from scaling.limits import ConfigError
from tests.scaling.data.archives import SHARED, batches, write_archive, write_folder
from tests.scaling.data.examples import PALETTE, assert_same, random_images, source


def test_grey_is_the_mean_over_256() -> None:
    images = random_images(0, 3)
    grey = grey_of(images)
    assert grey.dtype == np.float32
    assert grey.shape == (3, 1, 8, 8)
    exact = images.astype(np.float64).mean(-1) / 256
    np.testing.assert_array_equal(grey[:, 0], exact.astype(np.float32))
    assert grey_of(np.full((1, 1, 1, 3), 255, np.uint8)).item() == np.float32(255 / 256)


def test_prepared_once_and_the_same_from_the_cache(tmp_path: Path, n_loads: list[str]) -> None:
    config = source(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache")
    assert first.grey.shape == (12, 1, 8, 8)
    assert first.labels.shape == (12, 8, 8)
    assert first.held_out_grey.shape == (4, 1, 8, 8)
    assert first.held_out_labels.shape == (4, 8, 8)
    assert first.labels.dtype == first.held_out_labels.dtype == np.uint8
    assert first.palette.shape == (4, 3)
    pixels = random_images(0, 12)[..., None, :] / 256.0 - first.palette
    np.testing.assert_array_equal(first.labels, np.square(pixels).sum(-1).argmin(-1))
    for lock in (tmp_path / "cache").rglob("*.lock"):
        lock.unlink()
    assert_same(prepare_data(config, tmp_path / "cache"), first)
    assert n_loads == ["npz"]
    assert not list((tmp_path / "cache").rglob("*.lock")), "the cache may be read-only"


def test_cached_arrays_can_be_written_to(tmp_path: Path) -> None:
    """torch warns of arrays that cannot."""
    config = source(tmp_path / "data")
    for _ in range(2):
        prepared = prepare_data(config, tmp_path / "cache")
        assert prepared.grey.flags.writeable
        assert prepared.labels.flags.writeable


def test_hash_is_of_images_and_palette_wherever_they_lie(tmp_path: Path) -> None:
    config = source(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache").content_hash
    assert prepare_data(source(tmp_path / "moved"), tmp_path / "cache").content_hash == first
    assert prepare_data(config, tmp_path / "other").content_hash == first
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
    other = prepare_data(source(tmp_path / "data", seed=5), tmp_path / "cache").content_hash
    fitted = replace(source(tmp_path / "data"), palette=None, num_colours=4)
    recoloured = prepare_data(fitted, tmp_path / "cache").content_hash
    fewer = prepare_data(replace(fitted, num_colours=3), tmp_path / "cache").content_hash
    assert len({first, other, recoloured, fewer}) == 4


def test_hash_tells_training_from_held_out_images(tmp_path: Path) -> None:
    hashes = set()
    for n_train in (5, 6):
        config = source(tmp_path / "data")
        images = random_images(0, 10)
        np.savez(config.path, train=images[:n_train], held_out=images[n_train:])
        hashes.add(prepare_data(config, tmp_path / "cache").content_hash)
    assert len(hashes) == 2


def test_a_changed_palette_is_noticed(tmp_path: Path) -> None:
    config = source(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache")
    assert config.palette
    Path(config.palette).write_text(PALETTE.replace("0.9,0.1,0.1", "0.1,0.9,0.1"))
    second = prepare_data(config, tmp_path / "cache")
    assert second.content_hash != first.content_hash
    assert second.palette[3, 1] == np.float32(0.9)


def image_folder(folder: Path) -> ImageFolderConfig:
    folder.mkdir()
    for i, image in enumerate(random_images(0, 12)):
        Image.fromarray(image).save(folder / f"{i}.bmp")
    return ImageFolderConfig(folder=str(folder), side=8, num_colours=4)


def change_in_size(folder: Path) -> None:
    state = (folder / "3.bmp").stat()
    Image.new("RGB", (20, 20)).save(folder / "3.bmp")
    os.utime(folder / "3.bmp", ns=(state.st_atime_ns, state.st_mtime_ns))


def change_in_time(folder: Path) -> None:
    state = (folder / "3.bmp").stat()
    Image.new("RGB", (8, 8)).save(folder / "3.bmp")
    assert (folder / "3.bmp").stat().st_size == state.st_size
    os.utime(folder / "3.bmp", ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def change_of_name(folder: Path) -> None:
    (folder / "3.bmp").rename(folder / "a3.bmp")


def one_more(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "new.bmp")


def one_less(folder: Path) -> None:
    (folder / "3.bmp").unlink()


@pytest.mark.parametrize(
    "change", [change_in_size, change_in_time, change_of_name, one_more, one_less]
)
def test_changed_files_of_a_folder_are_noticed(
    tmp_path: Path, n_loads: list[str], change: Callable[[Path], None]
) -> None:
    config = image_folder(tmp_path / "data")
    first = prepare_data(config, tmp_path / "cache")
    assert prepare_data(config, tmp_path / "cache").content_hash == first.content_hash
    assert len(n_loads) == 1
    change(tmp_path / "data")
    assert prepare_data(config, tmp_path / "cache").content_hash != first.content_hash
    assert len(n_loads) == 2


def test_what_was_skipped_is_said_again_from_the_cache(tmp_path: Path, n_loads: list[str]) -> None:
    config = image_folder(tmp_path / "data")
    (tmp_path / "data" / "broken.png").touch()
    (tmp_path / "data" / "nowhere.png").symlink_to(tmp_path / "gone")
    for _ in range(2):
        prepared = prepare_data(replace(config, side=16), tmp_path / "cache")
        assert [line.partition(":")[0] for line in prepared.skipped] == [
            "broken.png",
            "nowhere.png",
        ]
        assert prepared.notes == ["12 images were smaller than side 16 and enlarged"]
    assert len(n_loads) == 1


def test_nothing_is_kept_of_a_source_that_fails(tmp_path: Path) -> None:
    config = source(tmp_path / "data")
    np.savez(config.path, other=random_images(0, 3))
    with pytest.raises(ConfigError, match=r"^data\.path="):
        prepare_data(config, tmp_path / "cache")
    assert [p.suffix for p in (tmp_path / "cache").rglob("*") if p.is_file()] in ([], [".lock"])
    assert prepare_data(source(tmp_path / "data"), tmp_path / "cache").grey.shape[0] == 12


def test_bad_values_are_found_before_anything_is_read(tmp_path: Path) -> None:
    for config, key in (
        (PhotosConfig(side=0), "data.side"),
        (PhotosConfig(num_colours=300), "data.num_colours"),
        (Cifar10Config(classes=["unicorn"]), "data.classes"),
        (PhotosConfig(palette=str(tmp_path / "none.csv")), "data.palette"),
        (NpzConfig(path=str(tmp_path / "none.npz")), "data.path"),
        (ImageFolderConfig(folder=str(tmp_path / "none")), "data.folder"),
        (Cifar10Config(path=str(tmp_path / "none.tar.gz")), "data.path"),
    ):
        with pytest.raises(ConfigError) as caught:
            prepare_data(config, tmp_path / "cache")
        assert str(caught.value).startswith(f"{key}=")
    assert not (tmp_path / "cache").exists()


def test_cifar10_from_folder_archive_and_download_is_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "folder", batches())
    archive = write_archive(tmp_path / "x.tar.gz", batches())
    monkeypatch.setattr("scaling.data.cifar10.download_once", shutil_copy(archive))
    hashes = {
        prepare_data(Cifar10Config(path=path, num_colours=4), tmp_path / "cache").content_hash
        for path in (str(folder), str(archive), None)
    }
    assert len(hashes) == 1
    (tmp_path / "cache" / "cifar-10-python.tar.gz").unlink()
    monkeypatch.setattr("scaling.data.cifar10.download_once", None)
    assert prepare_data(Cifar10Config(num_colours=4), tmp_path / "cache").content_hash in hashes


def shutil_copy(archive: Path) -> object:
    return lambda url, target, md5: shutil.copy(archive, target)


def test_photos_prepare_and_start_again(tmp_path: Path, n_loads: list[str]) -> None:
    config = PhotosConfig(train_images=60, held_out_images=30)
    first = prepare_data(config, tmp_path)
    assert first.grey.shape == (60, 1, 32, 32)
    assert first.palette.shape == (24, 3)
    assert len(np.unique(first.labels)) == 24
    assert_same(prepare_data(config, tmp_path), first)
    assert len(n_loads) == 1
    assert first.notes[0].startswith("photographs: astronaut: NASA")


def test_six_thousand_horses_in_time(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    config = Cifar10Config(
        path=str(SHARED / "cifar-10-batches-py"), palette=str(SHARED / "horse_palette_24.csv")
    )
    for most_seconds in (5, 1):
        start = time.perf_counter()
        prepared = prepare_data(config, tmp_path)
        assert time.perf_counter() - start < most_seconds
        assert prepared.grey.shape == (5000, 1, 32, 32)
        assert prepared.held_out_labels.shape == (1000, 32, 32)
