from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scaling.data.config import ImageFolderConfig
from scaling.data.image_folder import read_image_folder
from scaling.data.images import Images
from scaling.limits import ConfigError
from tests.scaling.data.archives import SHARED

RED = (200, 20, 30)


def read(folder: Path, side: int = 8, held_out_fraction: float = 0.2) -> Images:
    config = ImageFolderConfig(folder=str(folder), side=side, held_out_fraction=held_out_fraction)
    return read_image_folder(config)


def one_image(folder: Path, side: int = 8) -> np.ndarray:
    """The image of a folder of one, which is read beside a plain blue one."""
    Image.new("RGB", (9, 9), (0, 0, 255)).save(folder / "plain_blue.png")
    images = read(folder, side)
    assert images.skipped == []
    both = np.concatenate([images.train, images.held_out]).astype(int)
    blue = [tuple(image[0, 0]) == (0, 0, 255) for image in both]
    assert sorted(blue) == [False, True]
    return both[blue.index(False)]


def numbered(folder: Path, n_images: int) -> Path:
    """Images whose colour is their number."""
    folder.mkdir(exist_ok=True)
    for i in range(n_images):
        Image.new("RGB", (10, 10), (i, i, i)).save(folder / f"image {i}.png")
    return folder


def in_mode(mode: str, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, ...]]:
    """A picture of one colour, and that colour in RGB."""
    if mode.startswith("I"):
        grey = Image.fromarray(np.full(size[::-1], 200 * 257, np.uint16))
        return grey.convert(mode), (200, 200, 200)
    if mode in ("L", "LA", "1"):
        return Image.new("RGB", size, "white").convert(mode), (255, 255, 255)
    picture = Image.new("RGB", size, RED)
    return picture.quantize(2) if mode == "P" else picture.convert(mode), RED


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LA", "L", "1", "I;16", "I"])
@pytest.mark.parametrize("size", [(30, 12), (12, 31), (40, 40)])
def test_modes_and_shapes(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    picture, colour = in_mode(mode, size)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "I") else "x.png")
    picture.save(path)
    with Image.open(path) as saved:
        assert saved.mode in (mode, mode.partition(";")[0])  # older Pillows read I;16 as I
    image = one_image(tmp_path)
    assert image.shape == (8, 8, 3)
    assert np.abs(image - np.array(colour)).max() <= 2


def test_transparency_stands_on_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (10, 10), (*RED, 0))
    picture.paste((*RED, 255), (0, 0, 5, 10))
    picture.save(tmp_path / "x.png")
    image = one_image(tmp_path, side=10)
    np.testing.assert_array_equal(image[5, 1], RED)
    np.testing.assert_array_equal(image[5, 8], (255, 255, 255))


def test_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    picture = Image.new("P", (10, 10), 0)
    picture.putpalette([*RED, 0, 255, 0])
    picture.paste(1, (0, 0, 5, 10))
    picture.save(tmp_path / "x.gif", transparency=0)
    image = one_image(tmp_path, side=10)
    np.testing.assert_array_equal(image[5, 1], (0, 255, 0))
    np.testing.assert_array_equal(image[5, 8], (255, 255, 255))


def test_exif_rotation_is_undone(tmp_path: Path) -> None:
    picture = Image.new("RGB", (16, 16), "white")
    picture.paste(RED, (0, 0, 16, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right by a quarter
    picture.save(tmp_path / "x.jpg", exif=exif, quality=95)
    image = one_image(tmp_path, side=16)
    assert np.abs(image[8, 14] - RED).max() < 20
    assert image[8, 2].min() > 230


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_middle_square_is_kept(tmp_path: Path, suffix: str) -> None:
    picture = Image.new("RGB", (96, 32), "black")
    picture.paste(RED, (32, 0, 64, 32))
    picture.save(tmp_path / f"x.{suffix}", quality=95)
    for side in (32, 8):
        image = one_image(tmp_path, side)
        inside = image[:, 1:-1]
        assert np.abs(inside - np.array(RED)).max() < (8 if suffix == "jpg" else 3)


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in (RED, (0, 255, 0))]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert np.abs(one_image(tmp_path)[4, 4] - RED).max() <= 2


def test_unreadable_files_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    numbered(tmp_path, 10)
    Image.effect_noise((50, 50), 50).save(tmp_path / "cut off.jpg")
    whole = (tmp_path / "cut off.jpg").read_bytes()
    (tmp_path / "cut off.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_text("<html>")
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    Image.new("RGB", (1, 40)).save(tmp_path / "thin.png")
    Image.new("F", (10, 10)).save(tmp_path / "depth.tif")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "two\nlines.png").touch()
    (tmp_path / "README.txt").write_text("no image, and not said to be one")
    (tmp_path / "._image 1.png").write_text("what another system leaves")
    images = read(tmp_path)
    assert len(images.train) + len(images.held_out) == 10
    assert [line.partition(":")[0] for line in images.skipped] == [
        "cut off.jpg",
        "depth.tif",
        "empty.png",
        "nowhere.png",
        "page.jpg",
        "pixel.png",
        "thin.png",
        "two\\nlines.png",
    ]
    reasons = dict(line.split(": ", 1) for line in images.skipped)
    assert "truncated" in reasons["cut off.jpg"]
    assert reasons["page.jpg"] == "not an image"
    assert reasons["pixel.png"] == "1 x 1 pixels are too few"


def test_what_pillow_only_warns_of_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # warns above, refuses above twice that
    images = read(numbered(tmp_path, 3))
    assert images.skipped == []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ConfigError, match="decompression bomb"):
        read(tmp_path)


def test_folders_without_two_readable_images(tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(ConfigError) as caught:
            read(tmp_path / "given")
        assert str(caught.value).startswith(f"data.folder={tmp_path / 'given'}: ")
        return str(caught.value)

    assert refusal().endswith("there is no such folder")
    (tmp_path / "given" / "empty").mkdir(parents=True)
    (tmp_path / "given" / "README.txt").touch()
    assert "has no image; images are files named .bmp, .gif, .jfif, .jpeg, .jpg" in refusal()
    (tmp_path / "given" / "broken.png").touch()
    assert refusal().endswith("0 are readable, 1 not, the first broken.png: not an image")
    numbered(tmp_path / "given", 1)
    assert "requires at least two readable images: 1 are readable, 1 not" in refusal()


def test_split_is_by_name_and_stays_when_files_are_added(tmp_path: Path) -> None:
    def colours(part: np.ndarray) -> set[int]:
        return set(part[:, 0, 0, 0].tolist())

    before = read(numbered(tmp_path, 100))
    assert colours(before.train) | colours(before.held_out) == set(range(100))
    assert colours(before.train).isdisjoint(colours(before.held_out))
    assert 8 <= len(before.held_out) <= 35
    after = read(numbered(tmp_path, 200))
    assert colours(before.held_out) <= colours(after.held_out)
    assert colours(before.train) <= colours(after.train)
    assert len(read(tmp_path, held_out_fraction=0.5).held_out) > len(after.held_out)


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_a_split_of_few_leaves_one_on_each_side(tmp_path: Path, fraction: float) -> None:
    images = read(numbered(tmp_path, 3), held_out_fraction=fraction)
    assert min(len(images.train), len(images.held_out)) == 1


def test_small_images_are_enlarged_and_counted(tmp_path: Path) -> None:
    images = read(numbered(tmp_path, 3), side=20)
    assert images.train.shape[1:] == (20, 20, 3)
    assert images.notes == ["3 images were smaller than side 20 and enlarged"]
    assert read(tmp_path, side=10).notes == []


def test_folders_in_folders_and_links_in_circles(tmp_path: Path) -> None:
    numbered(tmp_path / "elsewhere", 3)
    folder = numbered(tmp_path / "given", 2)
    numbered(folder / "a", 4)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "circle").symlink_to(folder)
    images = read(folder)
    assert len(images.train) + len(images.held_out) == 2 + 4 + 3


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbered(tmp_path, 2)
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(ConfigError, match=r"^data\.folder=.*closed cannot be listed"):
        read(tmp_path)


def test_a_real_folder() -> None:
    folder = SHARED / "flower_photos_64" / "roses"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    images = read(folder, side=32)
    assert len(images.train) + len(images.held_out) == len(list(folder.glob("*.jpg")))
    assert 0.1 < len(images.held_out) / len(images.train) < 0.4
    assert images.skipped == images.notes == []
