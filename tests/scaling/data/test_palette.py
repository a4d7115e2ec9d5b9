from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.palette import fit_palette, nearest_colour, palette_text, read_palette
from scaling.limits import ConfigError
from tests.scaling.data.archives import SHARED


def random_images(seed: int, n_images: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n_images, side, side, 3)).astype(np.uint8)


def csv_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "palette.csv"
    path.write_text(text)
    return str(path)


def rows(n_rows: int) -> str:
    return "\n".join(f"{i / 1000},0.5,0.25" for i in range(n_rows))


@pytest.mark.parametrize("text", ["r,g,b\n0,0.5,1\n1,0.25,0\n", "0,0.5,1\r\n\r\n1,0.25,0"])
def test_palette_with_and_without_header(tmp_path: Path, text: str) -> None:
    palette = read_palette(csv_of(tmp_path, text))
    assert palette.dtype == np.float32
    assert palette.tolist() == [[0, 0.5, 1], [1, 0.25, 0]]


def test_a_palette_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    palette = fit_palette(random_images(0, 4), 24, seed=1)
    assert np.array_equal(read_palette(csv_of(tmp_path, palette_text(palette))), palette)


def test_palette_of_as_many_colours_as_a_byte_tells_apart(tmp_path: Path) -> None:
    assert read_palette(csv_of(tmp_path, rows(256))).shape == (256, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must have 2 to 256 rows r,g,b; it has 0"),
        ("red,green,blue\n", "must have 2 to 256 rows r,g,b; it has 0"),
        ("0,0,0\n", "must have 2 to 256 rows r,g,b; it has 1"),
        (rows(257), "must have 2 to 256 rows r,g,b; it has 257"),
        (rows(300), "must have 2 to 256 rows r,g,b; it has 300"),
        ("0,0,0\n0,0,1.01\n", "line 2 must be r,g,b, each from 0 to 1; it is '0,0,1.01'"),
        ("0,0,0\n0,-0.1,1\n", "line 2 must be"),
        ("255,0,0\n0,255,0\n", "line 1 must be"),
        ("r,g,b\n0,0,0\n0,nan,0\n", "line 3 must be"),
        ("0,0,0\n0,0\n", "line 2 must be"),
        ("0,0,0\n0,0,0,0\n", "line 2 must be"),
        ("0,0,0\n0,x,0\n", "line 2 must be"),
        ("0,0,0\n1,1,1\n0,0,0\n", "a colour appears twice"),
        ("0,0,0\n\x00\xff", "line 2 must be"),
        ('0,0,0\n"0\n1",0,0', "line 2 must be"),
    ],
)
def test_bad_palettes_say_why(tmp_path: Path, text: str, reason: str) -> None:
    path = csv_of(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_palette(path)
    assert str(caught.value).startswith(f"data.palette={path}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_palette_that_is_no_text_or_no_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match=r"^data\.palette=.*is not a CSV file"):
        read_palette(str(path))
    with pytest.raises(ConfigError, match=r"^data\.palette=nowhere\.csv: there is no such file"):
        read_palette("nowhere.csv")


def test_horse_palette() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    assert read_palette(str(SHARED / "horse_palette_24.csv")).shape == (24, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 256))
def test_nearest_colour_is_the_brute_force_one(seed: int, num_colours: int) -> None:
    images = random_images(seed, 2, side=8)
    palette = np.random.default_rng(seed).random((num_colours, 3), np.float32)
    labels = nearest_colour(images, palette)
    pixels = images.astype(np.float64) / 256
    squares = ((pixels[..., None, :] - palette.astype(np.float64)) ** 2).sum(-1)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, squares.argmin(-1))


def test_nearest_colour_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images, palette = random_images(0, 7), np.random.default_rng(0).random((24, 3), np.float32)
    whole = nearest_colour(images, palette)
    monkeypatch.setattr("scaling.data.palette.CHUNK_IMAGES", 2)
    monkeypatch.setattr("scaling.data.palette.CHUNK_COLOURS", 100)
    np.testing.assert_array_equal(nearest_colour(images, palette), whole)


def test_of_colours_equally_near_the_first() -> None:
    palette = np.array([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]], np.float32)
    image = np.full((1, 1, 1, 3), 128, np.uint8)
    assert nearest_colour(image, palette) == 0
    assert nearest_colour(image, palette[::-1]) == 0


def test_black_and_white_are_looked_up_too() -> None:
    palette = np.array([[0.5, 0.5, 0.5], [0, 0, 0], [1, 1, 1]], np.float32)
    images = np.array([0, 0, 0, 255, 255, 255], np.uint8).reshape(1, 1, 2, 3)
    assert nearest_colour(images, palette).tolist() == [[[1, 2]]]


def test_fitted_palette_finds_the_colours_that_are_there() -> None:
    colours = np.array([[200, 30, 40], [10, 20, 30], [250, 240, 230]], np.uint8)
    images = colours[np.random.default_rng(0).integers(3, size=(4, 16, 16))]
    palette = fit_palette(images, 3, seed=0)
    assert palette.dtype == np.float32
    np.testing.assert_allclose(palette, colours[[1, 0, 2]] / 256, atol=1e-6)


def test_fitted_palette_is_the_same_for_the_same_seed() -> None:
    images = random_images(3, 60)
    assert images[..., 0].size > 50_000
    first = fit_palette(images, 24, seed=0)
    np.testing.assert_array_equal(first, fit_palette(images, 24, seed=0))
    assert (first != fit_palette(images, 24, seed=1)).any()
    assert (np.diff(first.sum(1)) >= 0).all()


def test_fewer_colours_than_asked_for() -> None:
    images = np.repeat(random_images(0, 1, side=2)[:, :, :, :1], 3, axis=3)
    assert fit_palette(images, 4, seed=0).shape == (4, 3)
    with pytest.raises(ConfigError, match=r"^data\.num_colours=5: .* only 4 different colours$"):
        fit_palette(images, 5, seed=0)
