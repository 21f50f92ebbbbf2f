"""From image files to squares of pixels: preprocessing, batches, splits, and what is left out."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import CIFAR, archive, config, encoded, excluded, folder, needs_cifar, noise, opened, pictures
from PIL import Image

from unite_mm.contract import SPLITS
from unite_mm.errors import UsageError
from unite_mm_image.data.dataset import ImageData
from unite_mm_image.data.image_files import decode
from unite_mm_image.data.limits import Unreadable
from unite_mm_image.data.native import label_of, to_pictures, to_pixels
from unite_mm_image.data.preprocessing import centre_crop, prepare
from unite_mm_image.data.splits import complete, key_of, split_hash


def by_hand(image: Image.Image, size: int) -> np.ndarray:
    """The reference's crop for extents that stay even while they are halved: means of pairs, bicubic, centre."""
    while min(image.size) >= 2 * size:
        pixels = np.asarray(image).astype(int)
        pixels = (pixels[:, 0::2] + pixels[:, 1::2] + 1) // 2  # rounded after each direction, as Pillow does
        pixels = (pixels[0::2] + pixels[1::2] + 1) // 2
        image = Image.fromarray(pixels.astype(np.uint8))
    short = min(image.size)
    image = image.resize(tuple(round(side * size / short) for side in image.size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]


@pytest.mark.parametrize("extent", [(128, 96), (96, 160), (40, 40), (39, 20), (20, 20), (15, 33), (320, 64)])
def test_preprocessing_is_that_of_the_reference(extent: tuple[int, int]) -> None:
    image = noise(1, *extent)
    np.testing.assert_array_equal(np.asarray(centre_crop(image, 20)), by_hand(image, 20))
    np.testing.assert_array_equal(prepare(image, 20, "rgb"), by_hand(image, 20))
    np.testing.assert_array_equal(prepare(image, 20, "grey")[..., 0], by_hand(image.convert("L"), 20))


def test_halving_stops_before_the_short_side_gets_too_short() -> None:
    # 39 < 2 * 20: bicubic alone; halved first, the result would be another.
    image = noise(2, 39, 39)
    halved = image.resize((19, 19), Image.Resampling.BOX).resize((20, 20), Image.Resampling.BICUBIC)
    alone = image.resize((20, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(centre_crop(image, 20)), np.asarray(alone))
    assert not np.array_equal(np.asarray(alone), np.asarray(halved))


def test_pixels_and_pictures_are_inverse_and_clamped() -> None:
    images = [noise(i, 8, 8) for i in range(3)]
    pixels = to_pixels(images, config())
    assert pixels.shape == (3, 3, 8, 8) and pixels.dtype == torch.float32
    assert torch.equal(pixels[1], torch.from_numpy(np.asarray(images[1]).copy()).permute(2, 0, 1) / 255)
    back = to_pictures(pixels, torch.tensor([4, 0, 9]))
    assert [label_of(image) for image in back] == [4, 0, 9] and label_of(images[0]) is None
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(images, back, strict=True))
    wild = torch.tensor([-3.0, 0.5 / 255, 0.49 / 255, 1.2, float("nan"), float("inf")]).view(1, 1, 2, 3)
    (grey,) = to_pictures(wild)
    assert grey.mode == "L" and np.asarray(grey).tolist() == [[0, 0, 0], [255, 0, 255]]
    assert to_pixels([], config(colours="grey")).shape == (0, 1, 8, 8)


def test_a_sample_of_any_mode_fits_any_model() -> None:
    for mode in ("RGB", "L", "RGBA", "LA", "CMYK"):
        for colours, channels in (("rgb", 3), ("grey", 1)):
            assert to_pixels([noise(3, 30, 9, mode)], config(colours=colours)).shape == (1, channels, 8, 8)
    with pytest.raises(UsageError, match="without a known range: mode F"):
        to_pixels([Image.new("F", (8, 8))], config())


def test_class_folders_give_classes_in_plain_order(tmp_path: Path) -> None:
    names = ["10", "2", "b", "a"]
    root = folder(tmp_path / "own", pictures(lambda i: f"{names[i % 4]}/deeper/{i:03}.png", 40))
    data = opened(root, tmp_path / "cache")
    assert data.classes == ("10", "2", "a", "b")
    assert data.card.splits == {"train": 32, "validation": 4, "test": 4} and excluded(data) == {}
    assert data.card.name == "own" and data.card.description == "images of own, 8 x 8 RGB"
    labels = {split: data.labels(split) for split in SPLITS}
    assert data.statistics["classes"] == ["10", "2", "a", "b"]
    assert data.statistics["class_counts"] == torch.bincount(labels["train"], minlength=4).tolist()
    # Every image kept its class.
    expected = {prepare(noise(i), 8, "rgb").tobytes(): sorted(names).index(names[i % 4]) for i in range(40)}
    found = {}
    for split in SPLITS:
        for image, label in zip(data.samples(split, torch.arange(data.size(split))), labels[split], strict=True):
            assert label_of(image) == label
            found[np.asarray(image).tobytes()] = int(label)
    assert found == expected


def test_batches_are_the_samples_and_flips_are_seeded(tmp_path: Path) -> None:
    data = opened(folder(tmp_path / "own", pictures(lambda i: f"{i % 2}/{i}.png", 30)), tmp_path / "cache")
    indices = torch.tensor([5, 0, 5, 11])
    plain = data.batch("train", indices)
    assert plain.pixels.shape == (4, 3, 8, 8) and plain.pixels.dtype == torch.float32
    assert plain.registers.mask.shape == (4, 4) and plain.registers.mask.all() and not plain.registers.padded
    assert torch.equal(plain.condition, data.labels("train")[indices])
    assert torch.equal(plain.pixels, to_pixels(data.samples("train", indices), data.config))
    assert torch.equal(plain.pixels, data.pixels("train", indices) / 255)
    assert data.pixels("train").shape == (24, 3, 8, 8)
    many = torch.arange(24).repeat(20)
    flipped = data.batch("train", many, torch.Generator().manual_seed(1)).pixels
    again = data.batch("train", many, torch.Generator().manual_seed(1)).pixels
    straight = data.batch("train", many).pixels
    turned = (flipped == straight.flip(-1)).flatten(1).all(1)
    kept = (flipped == straight).flatten(1).all(1)
    assert torch.equal(flipped, again) and (turned ^ kept).all() and 180 < turned.sum() < 300
    fixed = opened(tmp_path / "own", tmp_path / "cache", flip=False)
    assert torch.equal(fixed.batch("train", many, torch.Generator().manual_seed(1)).pixels, straight)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("prefix", ["", "set/"])
def test_given_splits_are_honoured(packed: bool, prefix: str, tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number, (name, count) in enumerate({"Train": 12, "val": 5, "test": 4}.items()):
        files |= pictures(lambda i, name=name: f"{prefix}{name}/{'ab'[i % 2]}/{i}.png", count, first=100 * number)
    root = archive(tmp_path / "own.zip", files) if packed else folder(tmp_path / "own", files)
    data = opened(root, tmp_path / "cache")
    assert data.card.splits == {"train": 12, "validation": 5, "test": 4}
    assert data.classes == ("a", "b") and data.card.notes == ()
    for number, split in enumerate(SPLITS):
        ours = {row.numpy().tobytes() for row in data.pixels(split).permute(0, 2, 3, 1)}
        assert ours == {prepare(noise(100 * number + i), 8, "rgb").tobytes() for i in range(data.size(split))}


def test_a_missing_split_is_taken_from_the_training_images(tmp_path: Path) -> None:
    files = pictures(lambda i: f"training/{i % 2}/{i}.png", 40) | pictures(lambda i: f"test/{i % 2}/{i}.png", 6, 100)
    data = opened(folder(tmp_path / "own", files), tmp_path / "cache")
    assert data.card.splits == {"train": 36, "validation": 4, "test": 6}
    assert data.card.notes == ("Taken from the training images by a hash of their content: validation (4).",)


def test_no_image_stands_in_two_splits_whatever_its_name_and_file_type(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(60):
        for copy in range(1 + i % 4):
            kind, suffix = (("PNG", "png"), ("BMP", "bmp"), ("TIFF", "tif"), ("WEBP", "webp"))[copy]
            options = {"lossless": True} if kind == "WEBP" else {}
            files[f"{(i + copy) % 2}/{copy}-{i}.{suffix}"] = encoded(noise(i), kind, **options)
    data = opened(folder(tmp_path / "own", files), tmp_path / "cache")
    sets = {split: {row.numpy().tobytes() for row in data.pixels(split)} for split in SPLITS}
    assert not sets["train"] & sets["test"] and not sets["train"] & sets["validation"]
    assert not sets["test"] & sets["validation"] and sum(map(len, sets.values())) == 60
    assert min(data.size(split) for split in SPLITS) > 0
    # Other names, another order and another size: the same split.
    renamed = {f"{name.split('/')[0]}/x{hash(name)}.{name.split('.')[-1]}": files[name] for name in reversed(files)}
    other = opened(archive(tmp_path / "other.zip", renamed), tmp_path / "cache", size=16)
    assert other.card.split_hash == data.card.split_hash


def test_images_that_given_splits_share_are_noted(tmp_path: Path) -> None:
    files = pictures(lambda i: f"train/{i % 2}/{i}.png", 10) | pictures(lambda i: f"test/{i % 2}/{i}.png", 3)
    files |= pictures(lambda i: f"val/{i % 2}/{i}.png", 2, first=50)
    data = opened(folder(tmp_path / "own", files), tmp_path / "cache")
    assert data.card.splits == {"train": 10, "validation": 2, "test": 3}
    assert data.card.notes == ("3 held-out images stand in another split too, as the folders give them.",)


def test_what_a_given_split_shows_is_not_taken_for_another() -> None:
    keys = np.stack([np.arange(30) % 20, np.zeros(30)], axis=1).astype(np.uint64)  # the last 10 repeat the first 10
    given = np.repeat([0, 2], [20, 10]).astype(np.uint8)
    splits = complete(keys, given)
    assert np.array_equal(splits[20:], given[20:])
    assert np.flatnonzero(splits == 1).tolist() == [10, 11]


def test_splits_are_complete_and_of_fixed_sizes() -> None:
    keys = np.random.default_rng(0).integers(0, 2**60, (120_000, 2)).astype(np.uint64)
    undecided = np.full(len(keys), 255, dtype=np.uint8)
    splits = complete(keys, undecided)
    assert np.bincount(splits).tolist() == [110_000, 5_000, 5_000]
    order = np.random.default_rng(1).permutation(len(keys))
    assert np.array_equal(complete(keys[order], undecided), splits[order])
    assert split_hash(keys[order], splits[order]) == split_hash(keys, splits)
    for count, expected in ((1, [1]), (2, [2]), (3, [1, 1, 1]), (25, [21, 2, 2])):
        assert np.bincount(complete(keys[:count], undecided[:count])).tolist() == expected
    assert key_of(noise(1)).tolist() != key_of(noise(2)).tolist()
    grey = noise(1, mode="L")
    assert key_of(grey).tolist() == key_of(grey.convert("RGB")).tolist()


def test_a_folder_without_classes(tmp_path: Path) -> None:
    root = folder(tmp_path / "own", pictures(lambda i: f"{i}.png", 20))
    for condition in ("class", "none"):
        data = opened(root, tmp_path / "cache", condition=condition)
        assert data.classes == () and data.labels("train") is None
        assert data.statistics == {"classes": [], "class_counts": []}
        assert data.batch("train", torch.arange(3)).condition is None
        assert label_of(data.samples("train", torch.arange(1))[0]) is None


def test_classes_that_are_not_wanted_are_not_told(tmp_path: Path) -> None:
    root = folder(tmp_path / "own", pictures(lambda i: f"{i % 2}/{i}.png", 20))
    data = opened(root, tmp_path / "cache", condition="none")
    assert data.classes == () and data.batch("train", torch.arange(3)).condition is None


def test_grey_among_colours_is_converted_and_noted(tmp_path: Path) -> None:
    files = pictures(lambda i: f"{i}.png", 8) | {f"g{i}.png": encoded(noise(20 + i, mode="L")) for i in range(2)}
    root = folder(tmp_path / "own", files)
    rgb, grey = opened(root, tmp_path / "cache"), opened(root, tmp_path / "cache", colours="grey")
    assert rgb.card.notes == ("2 grey images were converted to RGB.",)
    assert grey.card.notes == ("8 images in colour were converted to grey.",)
    assert rgb.pixels("train").shape[1] == 3 and grey.pixels("train").shape[1] == 1
    everything = torch.cat([rgb.pixels(split) for split in SPLITS])
    assert int((everything == everything[:, :1]).flatten(1).all(1).sum()) == 2
    assert rgb.card.split_hash == grey.card.split_hash


def test_what_a_conversion_loses_is_noted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.full((9, 9), 257 * 200, dtype=np.uint16))
    files = pictures(lambda i: f"{i}.png", 4) | {
        "see-through.png": encoded(noise(10, mode="RGBA")),
        "turned.jpg": encoded(noise(11, 30, 10), "JPEG", exif=exif),
        "deep.png": encoded(deep),
        "cmyk.jpg": encoded(noise(12, mode="CMYK"), "JPEG"),
    }
    data = opened(folder(tmp_path / "own", files), tmp_path / "cache")
    assert excluded(data) == {}
    assert data.card.notes == (
        "1 grey images were converted to RGB.",
        "1 images lost their transparency.",
        "1 images of 16 bits a pixel were reduced to 8.",
        "1 images ask in EXIF to be rotated; as in the reference, they are taken as they are stored.",
    )
    assert 200 in {int(row.max()) for split in SPLITS for row in data.pixels(split) if row.max() == row.min()}
    assert decode(tmp_path / "own" / "turned.jpg").size == (30, 10)


def huge_png(width: int, height: int) -> bytes:
    """A valid PNG header of a huge image with hardly anything behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


DAMAGED = {
    "cut.png": encoded(noise(1, 60, 60))[:300],
    "cut.jpg": encoded(noise(2, 200, 200), "JPEG")[:2000],
    "text.jpg": b"no image at all",
    "empty.png": b"",
    "page.png": b"<html>404</html>",
    "bomb.png": huge_png(60_000, 60_000),
    "large.png": huge_png(11_000, 11_000),
    "strip.bmp": encoded(Image.new("RGB", (3_000_000, 1)), "BMP"),
    "flawed.png": encoded(noise(3)).replace(b"IDAT", b"IDAT\xff"),
    "float.tif": encoded(Image.new("F", (8, 8)), "TIFF"),
    "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.filterwarnings("error")
def test_unusable_images_are_counted_named_and_left_out(packed: bool, tmp_path: Path) -> None:
    files = pictures(lambda i: f"{i % 2}/{i}.png", 40) | {f"0/{name}": content for name, content in DAMAGED.items()}
    if packed:
        files["../../0/escaped.png"] = encoded(noise(77))
        root = archive(tmp_path / "own.zip", files)
    else:
        root = folder(tmp_path / "own", files)
        (root / "0" / "nowhere.png").symlink_to(tmp_path / "gone.png")
    data = opened(root, tmp_path / "cache", max_unreadable=0.3)
    found = excluded(data)
    named = " ".join(example for _, examples in found.values() for example in examples)
    assert all(name in named for name in DAMAGED) and ("escaped" if packed else "nowhere") in named
    assert data.card.kept == 40 and data.card.read == 40 + len(DAMAGED) + 1
    assert {"cannot be read", "is too large", "is too elongated", "has pixels without a known range"} <= set(found)
    assert found["is too large"][0] == 2
    assert ("has a name that leads out of the archive" in found) == packed
    assert sum(data.size(split) for split in SPLITS) == 40
    assert not any(bool((data.pixels(split).flatten(1) == 0).all(1).any()) for split in SPLITS)
    assert not (tmp_path.parent / "0").exists() and not (tmp_path / "0").exists()


def test_too_many_unusable_images_stop_the_preparation(tmp_path: Path) -> None:
    files = pictures(lambda i: f"{i}.png", 18) | {"bad.png": b"x", "worse.jpg": b"y"}
    root = folder(tmp_path / "own", files)
    for limit in (0.0, 0.01, 0.09):
        with pytest.raises(
            UsageError, match=r"own: \d of 20 images cannot be used, .*cannot be read: .*not an"
        ) as caught:
            opened(root, tmp_path / "cache", max_unreadable=limit)
        assert "\n" not in caught.value.message and "--set image.max_unreadable" in caught.value.hint
        assert list((tmp_path / "cache" / "image").glob("own*")) == list((tmp_path / "cache" / "image").glob("*.lock"))
    assert opened(root, tmp_path / "cache", max_unreadable=0.1).card.kept == 18
    # What a laxer limit prepared does not pass a stricter one.
    with pytest.raises(UsageError, match=r"2 of 20 images cannot be used, more than max_unreadable=0\.05"):
        opened(root, tmp_path / "cache", max_unreadable=0.05)


def test_images_without_a_learnable_class_are_left_out_and_counted(tmp_path: Path) -> None:
    files = pictures(lambda i: f"train/{'ab'[i % 2]}/{i}.png", 12) | pictures(
        lambda i: f"val/{'abz'[i % 3]}/{i}.png", 6, 50
    )
    files |= pictures(lambda i: f"test/{'ab'[i % 2]}/{i}.png", 4, 70)
    files |= {"train/stray.png": encoded(noise(90)), "cover.png": encoded(noise(91)), "readme.txt": b"hello"}
    root = folder(tmp_path / "own", files)
    data = opened(root, tmp_path / "cache")
    assert data.classes == ("a", "b") and data.statistics["class_counts"] == [6, 6]
    assert data.card.splits == {"train": 12, "validation": 4, "test": 4}
    assert excluded(data) == {
        "lies beside the folders of the splits": (1, ("cover.png",)),
        "lies in no class folder": (1, ("train/stray.png",)),
        "is of a class without training images": (2, ("val/z/2.png", "val/z/5.png")),
    }
    assert data.card.notes == ("1 files that are no images by their names (readme.txt).",)
    free = opened(root, tmp_path / "cache", condition="none")
    assert free.card.splits == {"train": 13, "validation": 6, "test": 4}
    assert free.card.split_hash != data.card.split_hash


@needs_cifar
def test_real_photographs(tmp_path: Path) -> None:
    data = opened(CIFAR, tmp_path, size=32)
    assert data.card.splits == {"train": 4500, "validation": 500, "test": 1000} and excluded(data) == {}
    assert len(data.classes) == 10 and data.classes[3] == "cat"
    assert torch.bincount(data.labels("test")).tolist() == [100] * 10
    assert data.card.files[0].name == CIFAR.name
    mean = data.pixels("train").float().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.491, 0.482, 0.447]), atol=0.01)  # as published for CIFAR-10
    with zipfile.ZipFile(CIFAR) as images:
        first = np.asarray(Image.open(io.BytesIO(images.read("cifar10/test/airplane/0000.jpg"))))
    assert np.array_equal(np.asarray(data.samples("test", torch.tensor([0]))[0]), first)


def test_decoding_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"60000 x 60000|more than 89"):
        decode(io.BytesIO(DAMAGED["bomb.png"]))
    with pytest.raises(Unreadable, match="not an image of a known kind"):
        decode(io.BytesIO(DAMAGED["script.jpg"]))
    assert isinstance(opened(None, tmp_path), ImageData)
