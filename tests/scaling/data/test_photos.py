from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scaling.data import photos
from scaling.data.config import PhotosConfig
from scaling.data.images import Bytes
from scaling.data.photos import PHOTOS, photo_files, read_photos, split_photo
from scaling.limits import ConfigError

SMALL = PhotosConfig(train_images=120, held_out_images=60)


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
def test_regions_share_no_pixel_and_lose_none(edge: str) -> None:
    pixels = np.arange(40 * 60 * 3).reshape(40, 60, 3)
    train, held_out = split_photo(pixels, edge, 0.25)  # pyright: ignore[reportArgumentType]
    assert set(train.ravel()).isdisjoint(held_out.ravel())
    assert train.size + held_out.size == pixels.size
    assert held_out.size == pixels.size // 4
    corner = {"top": (0, 0), "left": (0, 0), "bottom": (-1, -1), "right": (-1, -1)}[edge]
    assert pixels[corner] in held_out


def test_no_training_crop_shows_a_held_out_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_photos(SMALL)

    def with_changed_bands(read: Callable[[Path], Bytes]) -> Callable[[Path], Bytes]:
        edges = {path: p.held_out_edge for p, path in zip(PHOTOS, photo_files(), strict=True)}

        def changed(path: Path) -> Bytes:
            photo = read(path).copy()
            split_photo(photo, edges[path], SMALL.held_out_fraction)[1][:] ^= 255
            return photo

        return changed

    monkeypatch.setattr(photos, "_read", with_changed_bands(photos._read))
    after = read_photos(SMALL)
    np.testing.assert_array_equal(after.train, before.train)
    different = (after.held_out != before.held_out).reshape(len(before.held_out), -1)
    assert different.mean(1).min() > 0.9


def test_photographs_come_with_the_installation() -> None:
    assert all(path.is_file() for path in photo_files())
    assert {p.file.rpartition("/")[2] for p in PHOTOS} == {path.name for path in photo_files()}


def test_the_same_seed_gives_the_same_crops() -> None:
    first, again = read_photos(SMALL), read_photos(SMALL)
    np.testing.assert_array_equal(first.train, again.train)
    np.testing.assert_array_equal(first.held_out, again.held_out)
    other = read_photos(PhotosConfig(train_images=120, held_out_images=60, seed=1))
    assert (first.train != other.train).any(axis=(1, 2, 3)).all()


def test_crops_have_colour_and_contrast_and_differ() -> None:
    images = read_photos(SMALL)
    for crops, count in ((images.train, 120), (images.held_out, 60)):
        assert crops.shape == (count, 32, 32, 3)
        assert crops.dtype == np.uint8
        assert len(np.unique(crops.reshape(count, -1), axis=0)) == count
        assert (crops.mean(-1).std((1, 2)) >= photos.LEAST_CONTRAST).all()
        chroma = np.ptp(crops, axis=-1).mean((1, 2))
        assert np.median(chroma) > 30
    assert "flower: vultilion, CC BY 2.0" in images.notes[0]


def test_crops_have_several_scales_and_half_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a picture whose red grows to the right, a crop's slope is its scale."""
    ramp = np.zeros((250, 250, 3), np.uint8)
    ramp[..., 0] = np.arange(250)
    monkeypatch.setattr(photos, "_read", lambda path: ramp)
    images = read_photos(PhotosConfig(side=10, train_images=300, held_out_images=60))
    slopes = np.diff(images.train[:, 5, 2:8, 0].astype(float), axis=1).mean(1)
    assert 0.4 < (slopes < 0).mean() < 0.6
    assert np.abs(slopes).min() < 1.2
    assert np.abs(slopes).max() > 2.5
    held_out = np.diff(images.held_out[:, 5, 2:8, 0].astype(float), axis=1).mean(1)
    assert (held_out > 0).all()


def test_a_side_larger_than_a_region_says_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"^data\.side=256: must be at most 107 "):
        read_photos(PhotosConfig(side=256))
    crops = read_photos(PhotosConfig(side=107, train_images=6, held_out_images=6)).held_out
    assert crops.shape == (6, 107, 107, 3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"^data\.name=photos: requires .* pip install scikit-image$"
    ):
        photo_files()


def test_a_missing_photograph_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(photos, "photo_files", lambda: [tmp_path / "gone.png"] * len(PHOTOS))
    with pytest.raises(ConfigError, match=r"^data\.name=photos: cannot be read: .*gone\.png"):
        read_photos(SMALL)
