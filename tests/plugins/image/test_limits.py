"""Files that hold more than they seem to, devices and pipes, formats that are not read, and damage of every kind."""

import io
import json
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.image_damage import arrays, damaged, sound_files, surprises
from helpers.image_files import Recorder, config, encoded, excluded, folder, noise, opened, pictures
from PIL import Image, ImageFile, PngImagePlugin

from unite_mm.contract import DataRequest
from unite_mm.errors import UsageError
from unite_mm.progress import Silent
from unite_mm_image.config import ImageConfig
from unite_mm_image.data import limits
from unite_mm_image.data.image_files import SUFFIXES, decode
from unite_mm_image.data.limits import in_memory
from unite_mm_image.files.formats import read, read_squares
from unite_mm_image.metrics.generation import score_generation
from unite_mm_image.metrics.image_sets import FolderSet, PictureSet
from unite_mm_image.metrics.references import open_reference
from unite_mm_image.metrics.scoring import Scorer
from unite_mm_image.modality import Images


def blank(width: int, height: int, mode: str = "L", kind: str = "PNG") -> bytes:
    """A small file of a large image."""
    return encoded(Image.new(mode, (width, height)), kind)


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return stream.getvalue()


def npz(**members: bytes) -> bytes:
    """A file of arrays, each given by its bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(f"{name}.npy", content)
    return stream.getvalue()


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    text = str({"descr": descr, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def webp_of(width: int, height: int) -> bytes:
    """An animated WebP file whose canvas claims another extent."""
    content = bytearray(encoded(noise(1), "WEBP", save_all=True, append_images=[noise(2)]))
    content[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


def labelled(*labels: int, kind: str = "i8") -> bytes:
    return arrays(arr_0=np.zeros((len(labels), 4, 4, 3), np.uint8), arr_1=np.array(labels, dtype=kind))


LARGE = {
    "wide.png": (lambda: blank(2049, 2048), r"too large: 2049 x 2048 pixels, more than 4,194,304"),
    "wide.jpg": (lambda: blank(3000, 1500, "RGB", "JPEG"), "too large: 3000 x 1500 pixels"),
    "wide.gif": (lambda: blank(3000, 1500, "P", "GIF"), "too large: 3000 x 1500 pixels"),
    "wide.tif": (lambda: blank(3000, 1500, "1", "TIFF"), "too large: 3000 x 1500 pixels"),
    "wide.webp": (lambda: blank(3000, 1500, "RGB", "WEBP"), "too large: 3000 x 1500 pixels"),
    "canvas.webp": (lambda: webp_of(20_000, 100), "a WebP canvas of 20000 x 100 pixels"),
    "wide.zip": (lambda: zipped({"a/b.png": blank(2049, 2048)}), "a/b.png is too large: 2049 x 2048 pixels"),
    "wide.npz": (lambda: npz(arr_0=header((1, 5000, 1000, 3)) + bytes(15_000_000)), "1,000 x 5,000 pixels, more than"),
    "short.npz": (lambda: npz(arr_0=header((9, 1024, 1024, 3)) + bytes(99)), r"arr_0 is cut off: 28,311,552 bytes"),
    "endless.npz": (lambda: npz(arr_0=header((10**30, 4, 4, 3))), "arr_0 is cut off"),
    "negative.npz": (lambda: npz(arr_0=header((-1, 4, 4, 3))), "negative size"),
    "digits.npz": (lambda: npz(arr_0=header((1,)).replace(b"(1,)", b"(" + b"9" * 99 + b",)")), "cannot be read"),
    "class.npz": (lambda: labelled(0, 2_000_000_000), "arr_1 holds the class 2,000,000,000; classes are numbered"),
    "class64.npz": (lambda: labelled(0, 2**64 - 1, kind="u8"), r"arr_1 holds the class 18,446,744,073,709,551,615"),
    "edge.npz": (lambda: labelled(0, 100_000), "arr_1 holds the class 100,000"),
}


@pytest.mark.parametrize("name", LARGE)
def test_samples_larger_than_can_be_needed_are_refused_by_their_headers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = LARGE[name]
    (tmp_path / name).write_bytes(make())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path / name)
    assert name in caught.value.message and "\n" not in caught.value.message and caught.value.hint
    if name.startswith(("class", "edge")):
        with pytest.raises(UsageError, match=message):
            opened(tmp_path / name, tmp_path / "cache")
        with pytest.raises(UsageError, match=message):
            open_reference(DataRequest(str(tmp_path / name), tmp_path, Silent()), ImageConfig())


def test_images_at_the_limits_are_read(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", {"a.png": blank(2048, 2048), "b.png": blank(4096, 1024)})
    assert [image.size for image in read(root)] == [(2048, 2048), (4096, 1024)]
    (tmp_path / "edge.npz").write_bytes(labelled(0, 99_999))
    assert read(tmp_path / "edge.npz")[1].info["label"] == 99_999


HOLDS = {
    "many/": lambda: {f"{i}.png": blank(256, 256) for i in range(20)},
    "many.zip": lambda: {f"{i}.png": blank(256, 256) for i in range(20)},
    "colours/": lambda: {f"{i}.png": blank(150, 100, "RGB") for i in range(20)},
}


@pytest.mark.parametrize("name", HOLDS)
def test_many_small_files_that_hold_too_much_together_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ALWAYS_HELD", 1_000_000)
    monkeypatch.setattr(limits, "MOST_TIMES", 20)
    path = tmp_path / name.rstrip("/")
    if name.endswith("/"):
        folder(path, HOLDS[name]())
    else:
        path.write_bytes(zipped(HOLDS[name]()))
    with pytest.raises(UsageError, match=r"bytes hold images of more than 0\.0 GB") as caught:
        read(path)
    assert "20 times the bytes" in caught.value.hint
    # Of photographs to be reconstructed the squares alone are kept.
    assert len(read_squares(path, 8, "rgb")) == 20


def test_arrays_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unite_mm.kit.arrays._ALWAYS", 1_000_000)
    path = tmp_path / "many.npz"
    for content in (
        {"arr_0": np.zeros((20, 256, 256), np.uint8)},
        {"mu": np.zeros(512), "sigma": np.zeros((512, 512))},
    ):
        path.write_bytes(arrays(compressed=True, **content))
        with pytest.raises(UsageError, match=r"many.npz: unpacks to . MB, more than"):
            open_reference(DataRequest(str(path), tmp_path, Silent()), ImageConfig())
    path.write_bytes(arrays(compressed=True, arr_0=np.zeros((20, 256, 256), np.uint8)))
    for reader in (read, lambda path: opened(path, tmp_path / "cache")):
        with pytest.raises(UsageError, match=r"many.npz: unpacks to . MB, more than"):
            reader(path)


def test_real_images_are_never_taken_for_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALWAYS_HELD", 0)
    files = {f"{i}.jpg": encoded(noise(i, 64, 64).resize((512, 512)), "JPEG", quality=50) for i in range(3)}
    assert len(read(folder(tmp_path / "in", files))) == 3
    rows = np.stack([np.asarray(noise(i)) for i in range(3)])
    (tmp_path / "a.npz").write_bytes(arrays(arr_0=rows))
    assert len(read(tmp_path / "a.npz")) == 3


def test_a_file_too_large_in_a_zip_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_FILE", 1_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    (tmp_path / "own.zip").write_bytes(zipped({"a/b.png": bytes(2_000_000)}))
    for reader in (read, lambda path: read_squares(path, 8, "rgb")):
        with pytest.raises(UsageError, match=r"a/b.png is too large: a file of 2,000,000 bytes, more than 1,000,000"):
            reader(tmp_path / "own.zip")
    with pytest.raises(UsageError, match=r"one is too large: a/b.png: a file of 2,000,000 bytes"):
        opened(tmp_path / "own.zip", tmp_path / "cache")


def test_training_images_may_be_larger_but_only_some_are_held_at_once() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def work() -> None:
        with in_memory(limits.AT_ONCE // 3):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.01)
            with lock:
                running[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 3
    with in_memory(10 * limits.AT_ONCE):  # one larger than the whole has it alone
        pass


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": lambda path: os.mkfifo(path),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "null": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.npz", "a.zip", "a"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_pipes_and_devices_are_refused_at_once(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    SPECIAL[kind](path)
    request = DataRequest(str(path), tmp_path / "cache", Silent())
    for reader in (
        lambda: read(path),
        lambda: read_squares(path, 8, "rgb"),
        lambda: opened(path, tmp_path / "cache"),
        lambda: open_reference(request, ImageConfig()),
    ):
        with pytest.raises(UsageError, match="is a device or a pipe, not a file"):
            reader()


@pytest.mark.parametrize("kind", SPECIAL)
def test_pipes_and_devices_in_a_folder_are_unreadable_images(kind: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "in", pictures(lambda i: f"{i % 2}/{i}.png", 9))
    SPECIAL[kind](root / "0" / "odd.png")
    reason = "a device or a pipe, not a file"
    assert excluded(opened(root, tmp_path / "cache", max_unreadable=0.2)) == {
        "cannot be read": (1, (f"0/odd.png: {reason}",))
    }
    with pytest.raises(UsageError, match=f"odd.png cannot be read: {reason}"):
        read(root)
    shown = FolderSet(root, ["0/0.png", "0/odd.png"], 8, most_unreadable=0.9)
    assert sum(len(batch) for batch in shown.batches(4)) == 1 and reason in shown.check()[0]


def noted(kind: str) -> bytes:
    """A sound image with more text or a larger colour profile than Pillow takes."""
    image, long = noise(5), "x" * 2_000_000
    info = PngImagePlugin.PngInfo()
    if kind == "zTXt":
        info.add_text("workflow", long, zip=True)
    elif kind == "iTXt":
        info.add_itxt("workflow", long, zip=True)
    elif kind == "tEXt":
        info.add_text("workflow", long)
    elif kind == "many":
        for index in range(9):
            info.add_text(f"part{index}", long[:250_000], zip=True)
    elif kind == "after":
        info.add(b"zTXt", b"late\0\0" + zlib.compress(long.encode()), after_idat=True)
    elif kind == "torn":
        info.add(b"zTXt", b"workflow\0\0no stream")
    info.add_text("label", "7")
    profile = {"icc_profile": bytes(3_000_000)} if kind == "iCCP" else {}
    return encoded(image, pnginfo=info, **profile)


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "tEXt", "many", "after", "iCCP", "torn"])
def test_long_texts_and_profiles_do_not_hide_the_pixels(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1 << 20)  # 64 times as much; the file would be as large
    (tmp_path / "a.png").write_bytes(noted(kind))
    (image,) = read(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), np.asarray(noise(5))) and image.info["label"] == 7
    assert opened(folder(tmp_path / "in", {"a.png": noted(kind)}), tmp_path / "cache").card.kept == 1


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF")])
def test_large_profiles_in_other_formats(suffix: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(encoded(noise(5), kind, icc_profile=bytes(2_000_000)))
    assert decode(tmp_path / f"a.{suffix}").size == noise(5).size


def test_a_damaged_picture_stays_unreadable_whatever_its_notes(tmp_path: Path) -> None:
    content = bytearray(noted("zTXt"))
    content[content.index(b"IDAT") + 40] ^= 255
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"a.png cannot be read: "):
        read(tmp_path / "a.png")


FRAMES = {"tif": "TIFF", "gif": "GIF", "webp": "WEBP", "png": "PNG"} | ({"avif": "AVIF"} if ".avif" in SUFFIXES else {})
TAKEN = "images have further pages or frames; the first of each is taken."


@pytest.mark.parametrize("suffix", FRAMES)
def test_further_pages_and_frames_are_told(suffix: str, tmp_path: Path) -> None:
    files = pictures(lambda i: f"{i % 2}/{i}.png", 6)
    for index in range(4):
        pages = [noise(50 + 5 * index + page, 16, 16) for page in range(3)]
        further = {} if index == 3 else {"save_all": True, "append_images": pages[1:]}
        files[f"{index % 2}/m{index}.{suffix}"] = encoded(pages[0], FRAMES[suffix], **further)
    root = folder(tmp_path / "in", files)
    assert opened(root, tmp_path / "cache").card.notes == (f"3 {TAKEN}",)
    images = read(root)
    score = score_generation(images, None, Scorer(config()), Silent())
    assert f"samples: 3 {TAKEN}" in score.notes
    found = FolderSet(root, [f"0/m0.{suffix}", f"1/m3.{suffix}"], 8)
    list(found.batches(2))
    assert f"{root}: 1 {TAKEN}" in found.check()
    progress = Recorder()
    squares = Images(config(), "image").read_inputs(root, progress)
    assert progress.messages == [f"{root}: 3 {TAKEN}"] and {image.size for image in squares} == {(8, 8)}
    assert PictureSet(images[:1]).check() == []


def test_inputs_to_reconstruct_are_what_the_model_would_see(tmp_path: Path) -> None:
    files = {f"{i}.png": encoded(noise(i, 40 + i, 50, mode)) for i, mode in enumerate(("RGB", "L", "RGBA", "CMYK")[:3])}
    root = folder(tmp_path / "in", files | {"large.png": blank(2100, 2100)})
    for colours in ("rgb", "grey"):
        modality = Images(config(colours=colours), "image")
        statistics = {"classes": [], "class_counts": []}
        squares = modality.read_inputs(root, Silent())
        own = [decode(root / name) for name in sorted(p.name for p in root.iterdir())]
        assert all(
            np.array_equal(a, b)
            for a, b in zip(
                modality.encode_samples(squares, statistics).pixels,
                modality.encode_samples(own, statistics).pixels,
                strict=True,
            )
        )


HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(40)
UNREAD = {
    "a.heic": (HEIC, "cannot read images from .heic files", "convert them to JPEG or PNG"),
    "a.jpg": (HEIC, "not an image of a known kind but HEIC, which is not read here; convert them", ""),
    "b.jpg": (struct.pack(">I", 12) + b"JXL \r\n\x87\n" + bytes(40), "but JPEG XL", ""),
    "c.png": (b"%PDF-1.7\n" + bytes(40), "but PDF", ""),
    "d.png": (b'<?xml version="1.0"?><svg>', "but SVG", ""),
}


@pytest.mark.parametrize("name", UNREAD)
def test_formats_that_are_not_read_are_named(name: str, tmp_path: Path) -> None:
    content, message, hint = UNREAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path / name)
    assert hint in caught.value.hint


def test_formats_that_are_not_read_are_noted_beside_images(tmp_path: Path) -> None:
    files = pictures(lambda i: f"{i % 2}/{i}.png", 6) | {f"0/{i}.HEIC": HEIC for i in range(3)} | {"1/a.txt": b"x"}
    assert opened(folder(tmp_path / "in", files), tmp_path / "cache").card.notes == (
        "3 HEIC files, which are not read; convert them to JPEG or PNG (0/0.HEIC).",
        "1 files that are no images by their names (1/a.txt).",
    )
    with pytest.raises(UsageError, match="holds no image; it holds 2 other files") as caught:
        opened(folder(tmp_path / "none", {"a.heic": HEIC, "b.jxl": b"x"}), tmp_path / "cache")
    assert caught.value.hint == "HEIC and JPEG XL files are not read; convert them to JPEG or PNG."


def test_other_names_of_jpeg_and_avif_are_read(tmp_path: Path) -> None:
    files = {
        "a.jfif": encoded(noise(1), "JPEG"),
        "b.jpe": encoded(noise(2), "JPEG"),
        "c.JFIF": encoded(noise(3), "JPEG"),
    }
    if ".avif" in SUFFIXES:
        files["d.avif"] = encoded(noise(4), "AVIF")
        files["e.jpg"] = files["d.avif"]
    assert len(read(folder(tmp_path / "in", files))) == len(files)


@pytest.mark.parametrize("text", ["2000000000", "-1", "9" * 5000, "9" * 30, "1e5", "\x00"])
def test_a_label_of_another_program_is_none(text: str, tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("label", text)
    (tmp_path / "a.png").write_bytes(encoded(noise(1), pnginfo=info))
    images = read(tmp_path / "a.png")
    assert "label" not in images[0].info
    assert score_generation(images, None, Scorer(config()), Silent()).histograms == ()


@pytest.mark.parametrize("name", sound_files())
@pytest.mark.filterwarnings("ignore:::PIL")
def test_damage_never_ends_in_an_error_that_was_not_foreseen(name: str, tmp_path: Path) -> None:
    content = sound_files()[name]
    (tmp_path / name).write_bytes(content)
    assert surprises(tmp_path / name) == []
    for seed in range(60):
        changed = damaged(content, seed)
        (tmp_path / name).write_bytes(changed)
        assert surprises(tmp_path / name) == [], f"seed {seed}"


@pytest.mark.parametrize("file", ["index.npz", "pixels.npy", "card.json", "classes.json"])
def test_a_cache_with_any_damage_is_prepared_anew(file: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "own", pictures(lambda i: f"{i % 2}/{i}.png", 6))
    card = opened(root, tmp_path / "cache").card
    (place,) = (path for path in (tmp_path / "cache" / "image").iterdir() if path.is_dir())
    content = (place / file).read_bytes()
    for seed in range(12):
        (place / file).write_bytes(damaged(content, seed))
        again = opened(root, tmp_path / "cache").card
        assert again.kept == card.kept or file == "card.json"
        (place / file).write_bytes(content)
    for odd in (b"null", b"[" * 5000, b"{}", b"5"):
        (place / file).write_bytes(odd)
        progress = Recorder()
        assert opened(root, tmp_path / "cache", progress=progress).card == card
        assert progress.titles and "damaged" in progress.messages[0]
    assert json.loads((place / "classes.json").read_bytes()) == ["0", "1"]
