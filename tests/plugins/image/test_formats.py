"""Sample files of images: written and read one to one; pictures of samples and of pairs."""

import errno
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.image_files import archive, encoded, folder, noise, pictures
from PIL import Image

from unite_mm.errors import UniteError, UsageError
from unite_mm_image.data.native import label_of
from unite_mm_image.files.formats import read, write
from unite_mm_image.files.pictures import difference, save_pairs_picture, save_picture


def samples(count: int, mode: str = "RGB", labelled: bool = True) -> list[Image.Image]:
    images = [noise(i, 8, 8, mode) for i in range(count)]
    for index, image in enumerate(images):
        if labelled:
            image.info["label"] = (7 * index) % 10
    return images


def same(first: list[Image.Image], second: list[Image.Image]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(a.mode == b.mode and np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", ["out", "out.npz"])
def test_what_is_written_is_read_back_in_order(name: str, mode: str, tmp_path: Path) -> None:
    images = samples(23, mode)
    write(images, tmp_path / "new" / name)
    back = read(tmp_path / "new" / name)
    expected = [image.convert("RGB") for image in images] if name.endswith(".npz") else images
    assert same(back, expected)
    assert [label_of(image) for image in back] == [label_of(image) for image in images]


def test_a_folder_holds_numbered_png_files(tmp_path: Path) -> None:
    write(samples(3), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000.png", "000001.png", "000002.png"]
    with pytest.raises(UsageError, match="folder is not empty"):
        write(samples(3), tmp_path / "out")
    write(samples(2, labelled=False), tmp_path / "plain")
    assert [label_of(image) for image in read(tmp_path / "plain")] == [None, None]


def test_arrays_are_those_of_the_adm_suite(tmp_path: Path) -> None:
    write(samples(4), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["arr_0"].shape == (4, 8, 8, 3) and arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_1"].tolist() == [0, 7, 4, 1] and arrays["arr_1"].dtype == np.int64
        assert np.array_equal(arrays["arr_0"][2], np.asarray(noise(2, 8, 8)))
    images = samples(4)
    del images[2].info["label"]
    write(images, tmp_path / "partly.npz")
    with np.load(tmp_path / "partly.npz") as arrays:
        assert arrays.files == ["arr_0"]
    with pytest.raises(UsageError, match=r"images of 2 extents \(5 x 5, 8 x 8\)"):
        write([noise(1, 8, 8), noise(2, 5, 5)], tmp_path / "mixed.npz")
    with pytest.raises(UsageError, match="no image to write"):
        write([], tmp_path / "none.npz")


def test_a_png_is_one_image_or_a_grid(tmp_path: Path) -> None:
    write(samples(1), tmp_path / "one.png")
    (back,) = read(tmp_path / "one.png")
    assert same([back], samples(1)) and label_of(back) == 0
    write(samples(120), tmp_path / "grid.png")
    (grid,) = read(tmp_path / "grid.png")
    assert grid.size == (10 * 66 - 2, 12 * 66 - 2) and label_of(grid) is None
    with pytest.raises(UsageError, match="a grid of 10,001 images is too large"):
        write(samples(1) * 10_001, tmp_path / "huge.png")


def test_own_files_are_read_at_their_own_extent(tmp_path: Path) -> None:
    files = {"b/2.jpg": encoded(noise(1, 30, 20), "JPEG"), "b/10.bmp": encoded(noise(2, 5, 6), "BMP")}
    files |= {"a.webp": encoded(noise(3, mode="L"), "WEBP"), "notes.txt": b"x", "c.png": encoded(noise(4, mode="RGBA"))}
    for source in (folder(tmp_path / "own", files), archive(tmp_path / "own.zip", files)):
        images = read(source)
        assert [image.size for image in images] == [(20, 16), (5, 6), (30, 20), (20, 16)]
        assert {image.mode for image in images} <= {"RGB", "L"}
        assert [Path(image.info["name"].split(": ")[-1]).name for image in images] == [
            "a.webp",
            "10.bmp",
            "2.jpg",
            "c.png",
        ]
    assert read(tmp_path / "own" / "b" / "2.jpg")[0].size == (30, 20)


def test_another_programs_label_is_not_a_class(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("label", "a cat")
    (tmp_path / "a.png").write_bytes(encoded(noise(1), pnginfo=notes))
    assert label_of(read(tmp_path / "a.png")[0]) is None


def broken(name: str, root: Path) -> Path:
    path = root / name
    if name == "folder":
        return folder(path, pictures(lambda i: f"{i}.png", 3) | {"cut.png": encoded(noise(9, 60, 60))[:200]})
    if name == "bare":
        return folder(path, {"a.txt": b"x"})
    if name == "escaping.zip":
        return archive(path, {"a.png": encoded(noise(1)), "../b.png": encoded(noise(2))})
    if name == "damaged.zip":
        return archive(path, {"a.png": b"x"})
    if name == "crc.zip":
        content = bytearray(archive(path, pictures(lambda i: f"{i}.png", 2)).read_bytes())
        content[100] ^= 255
        path.write_bytes(content)
        return path
    if name == "list.npz":
        with path.open("wb") as file:
            np.save(file, np.zeros((2, 8, 8, 3), dtype=np.uint8))
        return path
    if name == "objects.npz":
        np.savez(path, arr_0=np.array([{}, []], dtype=object))
        return path
    if name == "cut.npz":
        write(samples(3), path)
        path.write_bytes(path.read_bytes()[:-30])
        return path
    if name != "gone.png":
        path.write_bytes(b"nothing")
    return path


BROKEN = {
    "gone.png": "no such file or folder",
    "page.png": r"page.png cannot be read: not an image",
    "words.txt": "cannot read images from .txt files",
    "folder": r"folder/cut.png cannot be read: ",
    "bare": "holds no image",
    "escaping.zip": "leads out of the archive",
    "damaged.zip": "damaged.zip: a.png cannot be read",
    "crc.zip": "0.png cannot be read: Bad CRC",
    "page.zip": "not a readable zip file",
    "list.npz": "list.npz: cannot be read",
    "objects.npz": "objects.npz: cannot be read",
    "cut.npz": "cut.npz: cannot be read",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=BROKEN[name]) as caught:
        read(broken(name, tmp_path))
    assert "\n" not in caught.value.message


def test_unknown_formats_and_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"cannot write images as \.jpg files"):
        write(samples(2), tmp_path / "out.jpg")

    def full(*arguments: object, **options: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    for name in ("out", "one.png"):
        with pytest.raises(UniteError, match=f"{name}: cannot be written: No space left"):
            write(samples(1), tmp_path / name)
    with pytest.raises(UniteError, match="cannot be written"):
        save_picture(samples(3), tmp_path / "grid.png")


def test_the_grid_shows_each_image_in_its_place(tmp_path: Path) -> None:
    images = samples(13)
    save_picture(images, tmp_path / "grid.png", columns=5)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (3 * 66 - 2, 5 * 66 - 2, 3)  # 8 pixels enlarged to 64, gaps of 2
    for index, image in enumerate(images):
        top, left = 66 * (index // 5), 66 * (index % 5)
        assert np.array_equal(grid[top : top + 64 : 8, left : left + 64 : 8], np.asarray(image))
    assert (grid[140:, 3 * 66 :] == 255).all()
    save_picture(images, tmp_path / "few.png", most=4)
    assert Image.open(tmp_path / "few.png").size == (4 * 66 - 2, 64)
    save_picture([noise(1, 300, 200), noise(2, 9, 9, "L")], tmp_path / "large.png")
    assert Image.open(tmp_path / "large.png").size == (602, 200)
    with pytest.raises(ValueError, match="no images"):
        save_picture([], tmp_path / "none.png")


def test_pairs_are_drawn_with_their_difference(tmp_path: Path) -> None:
    first, second = noise(1, 8, 8), noise(2, 8, 8)
    exact = np.minimum(4 * np.abs(np.asarray(first).astype(int) - np.asarray(second)), 255)
    assert np.array_equal(np.asarray(difference(first, second)), exact)
    save_pairs_picture([noise(3, 40, 30), first], [noise(4, 8, 8, "L"), second], tmp_path / "pairs.png")
    drawn = np.asarray(Image.open(tmp_path / "pairs.png"))
    assert drawn.shape[1] == 2 * (3 * 66 - 2) + 14
    body = drawn[-64::8]
    start = 3 * 66 - 2 + 14
    for place, picture in enumerate((first, second, difference(first, second))):
        left = start + 66 * place
        assert np.array_equal(body[:, left : left + 64 : 8], np.asarray(picture))
    with pytest.raises(ValueError, match="1 inputs beside 2"):
        save_pairs_picture([first], [first, second], tmp_path / "none.png")


def test_reading_a_zip_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    path = archive(tmp_path / "own.zip", pictures(lambda i: f"x/{i}.png", 3))
    assert len(read(path)) == 3 and [p.name for p in tmp_path.iterdir()] == ["own.zip"]
    assert zipfile.is_zipfile(path)
