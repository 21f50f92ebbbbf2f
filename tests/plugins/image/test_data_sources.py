"""What `--data` may name for images, how the cache behaves, and clear errors for everything else."""

import errno
import hashlib
import pickle
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.commands import FORKED
from helpers.image_files import Recorder, archive, encoded, excluded, folder, noise, opened, pictures, prepare_and_count

from unite_mm.contract import SPLITS
from unite_mm.errors import UniteError, UsageError
from unite_mm.evaluation.verification import verify_data
from unite_mm_image.data import prepare as preparation
from unite_mm_image.data import torchvision_sources
from unite_mm_image.data.preprocessing import prepare
from unite_mm_image.torchvision_import import import_torchvision


def classed(i: int) -> str:
    return f"{i % 2}/{i}.png"


BROKEN_SOURCES = {
    "gone": "no such file or folder",
    "notes.txt": "unknown kind of file",
    "empty/": "holds no image",
    "texts/": r"holds no image; it holds 1 other files \(a.txt\)",
    "hidden/": "holds no image",
    "texts.zip": "holds no image; it holds 1 other files",
    "nothing.zip": "holds no image",
    "page.zip": "not a readable zip file",
    "escaping.zip": "all 1 images have names that lead out of the archive",
    "one/": r"one: holds one class only \(cats\)",
    "one.zip": r"one.zip: holds one class only \(cats\)",
    "ambiguous/": "test/ looks like a split, cats/ like a class",
    "untrained/": "holds test, val but no train folder",
    "broken/": r"broken: \d of 2 images cannot be used",
    "unsorted/": "no validation image is of a trained class",
    "arrays.npz": "cannot be read",
    "floats.npz": "arr_0 is float64",
    "named.npz": "holds no array arr_0",
    "misfit.npz": r"arr_1 is int64 \(2,\)",
}


def broken_source(name: str, root: Path) -> Path:
    """Make the source that is to be refused."""
    files: dict[str, dict[str, bytes]] = {
        "empty/": {},
        "texts/": {"a.txt": b"x"},
        "hidden/": {".trash/a.png": encoded(noise(1)), ".b.png": encoded(noise(2))},
        "texts.zip": {"a.txt": b"x"},
        "nothing.zip": {},
        "escaping.zip": {"../a.png": encoded(noise(1))},
        "one/": pictures(lambda i: f"cats/{i}.png", 5),
        "one.zip": pictures(lambda i: f"cats/{i}.png", 5),
        "ambiguous/": pictures(lambda i: f"{('train', 'test', 'cats')[i % 3]}/{i}.png", 6),
        "untrained/": pictures(lambda i: f"{('test', 'val')[i % 2]}/{i}.png", 6),
        "broken/": {"0/a.png": b"x", "1/b.png": b"y"},
        "unsorted/": pictures(lambda i: f"train/{i % 2}/{i}.png", 6) | pictures(lambda i: f"val/{i}.png", 3, 50),
    }
    path = root / name.rstrip("/")
    if name.endswith("/"):
        return folder(path, files[name])
    if name in files:
        return archive(path, files[name])
    if name == "floats.npz":
        np.savez(path, arr_0=np.zeros((2, 8, 8, 3)))
    elif name == "named.npz":
        np.savez(path, images=np.zeros((2, 8, 8, 3), dtype=np.uint8))
    elif name == "misfit.npz":
        np.savez(path, arr_0=np.zeros((3, 8, 8, 3), dtype=np.uint8), arr_1=np.zeros(2, dtype=np.int64))
    elif name != "gone":
        path.write_bytes(b"<html>")
    return path


@pytest.mark.parametrize("name", BROKEN_SOURCES)
def test_a_source_that_cannot_serve_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=BROKEN_SOURCES[name]) as caught:
        opened(broken_source(name, tmp_path), tmp_path / "cache")
    assert "\n" not in caught.value.message
    assert not list((tmp_path / "cache").rglob("*.part-*"))


def test_one_class_serves_a_model_without_classes(tmp_path: Path) -> None:
    data = opened(broken_source("one/", tmp_path), tmp_path / "cache", condition="none")
    assert data.card.kept == 5 and data.classes == ()


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = folder(tmp_path / "vehicles", pictures(lambda i: f"{('train', 'car')[i % 2]}/{i}.png", 10))
    assert opened(root, tmp_path / "cache").classes == ("car", "train")


def test_what_other_programs_leave_behind_is_passed_over(tmp_path: Path) -> None:
    files = pictures(lambda i: f"mine\\{i % 2}\\{i}.png", 10)  # as some Windows programs name members
    files |= {"__MACOSX/mine/0/._1.png": b"x", "mine/0/.DS_Store": b"x", "mine/0/Thumbs.db": b"x"}
    data = opened(archive(tmp_path / "own.zip", files), tmp_path / "cache")
    assert data.card.read == 10 and data.classes == ("0", "1")
    assert data.card.notes == ("1 files that are no images by their names (mine/0/Thumbs.db).",)


def test_links_are_followed_once_and_odd_names_do_no_harm(tmp_path: Path) -> None:
    store = folder(tmp_path / "store", pictures(lambda i: f"{i}.png", 6))
    root = folder(tmp_path / "own", pictures(lambda i: f"b/line\n{i}.png", 6, first=50))
    (root / "a").symlink_to(store)
    (store / "round").symlink_to(store)
    odd = root / "b" / "odd\udcff.png"
    try:
        odd.write_bytes(b"no image")
    except OSError:
        pytest.skip("this file system takes no such names")
    data = opened(root, tmp_path / "cache", max_unreadable=0.2)
    assert data.classes == ("a", "b") and data.card.kept == 12
    assert excluded(data)["cannot be read"][1] == ("b/odd\\udcff.png: not an image of a known kind",)


def test_encrypted_and_damaged_members_are_counted(tmp_path: Path) -> None:
    path = archive(tmp_path / "own.zip", pictures(classed, 20))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as images:
        first, second = images.infolist()[:2]
    content[first.header_offset + 60] ^= 255  # a byte of the first image
    directory = content.index(b"PK\x01\x02", second.header_offset)
    second_entry = content.index(b"PK\x01\x02", directory + 4)
    content[second.header_offset + 6] |= 1
    content[second_entry + 8] |= 1  # marked as encrypted
    path.write_bytes(content)
    data = opened(path, tmp_path / "cache", max_unreadable=0.1)
    count, examples = excluded(data)["cannot be read"]
    assert count == 2 and "Bad CRC-32" in examples[0] and "encrypted" in examples[1]


def test_arrays_as_a_source(tmp_path: Path) -> None:
    rows = np.stack([np.asarray(noise(i, 8, 8)) for i in range(20)])
    np.savez(tmp_path / "own.npz", arr_0=rows, arr_1=np.arange(20) % 2)
    data = opened(tmp_path / "own.npz", tmp_path / "cache")
    assert data.classes == ("0", "1") and data.card.kept == 20
    assert {r.numpy().tobytes() for s in SPLITS for r in data.pixels(s).permute(0, 2, 3, 1)} == {
        r.tobytes() for r in rows
    }


def test_prepared_once_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "own", pictures(classed, 150))
    progress = Recorder()
    data = opened(root, tmp_path / "cache", progress=progress)
    assert progress.titles == ["Preparing own / 150"] and progress.advanced == 150
    again = Recorder()
    same = opened(root, tmp_path / "cache", progress=again)
    assert again.titles == [] and same.card == data.card
    assert torch.equal(same.pixels("train"), data.pixels("train"))
    assert torch.equal(same.labels("train"), data.labels("train"))
    refreshed = Recorder()
    opened(root, tmp_path / "cache", progress=refreshed, refresh=True)
    assert refreshed.titles == ["Preparing own / 150"]
    # A large set is mapped instead of read.
    monkeypatch.setattr(preparation, "IN_MEMORY", 0)
    mapped = opened(root, tmp_path / "cache")
    assert isinstance(mapped._pixels, np.memmap)
    assert torch.equal(mapped.pixels("test"), data.pixels("test"))
    assert torch.equal(
        mapped.batch("train", torch.tensor([3, 1])).pixels, data.batch("train", torch.tensor([3, 1])).pixels
    )


def test_a_changed_source_is_prepared_anew(tmp_path: Path) -> None:
    root = folder(tmp_path / "own", pictures(classed, 10))
    assert opened(root, tmp_path / "cache").card.kept == 10
    folder(root, pictures(classed, 12, first=30))
    assert opened(root, tmp_path / "cache").card.kept == 12
    path = archive(tmp_path / "own.zip", pictures(classed, 6))
    first = opened(path, tmp_path / "cache").card
    archive(path, pictures(classed, 6, first=90))
    assert opened(path, tmp_path / "cache").card.split_hash != first.split_hash
    for settings in ({"size": 16}, {"colours": "grey"}):
        progress = Recorder()
        opened(path, tmp_path / "cache", progress=progress, **settings)
        assert progress.titles == ["Preparing own.zip / 6"]


@pytest.mark.parametrize("damage", ["pixels.npy", "index.npz", "card.json", "classes.json", "gone"])
def test_a_damaged_cache_is_prepared_anew(damage: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "own", pictures(classed, 10))
    data = opened(root, tmp_path / "cache")
    (place,) = (path for path in (tmp_path / "cache" / "image").iterdir() if path.is_dir())
    if damage == "gone":
        (place / "pixels.npy").unlink()
    else:
        (place / damage).write_bytes((place / damage).read_bytes()[:-40])
    progress = Recorder()
    again = opened(root, tmp_path / "cache", progress=progress)
    assert again.card == data.card and torch.equal(again.pixels("train"), data.pixels("train"))
    assert progress.titles == ["Preparing own / 10"]
    assert damage == "gone" or "damaged" in progress.messages[0]


def test_two_processes_prepare_once(tmp_path: Path) -> None:
    root = folder(tmp_path / "own", pictures(classed, 60))
    with FORKED.Pool(1) as pool:
        pool.apply(int)  # it runs
        other = pool.apply_async(prepare_and_count, (root, tmp_path / "cache"))
        results = [prepare_and_count(root, tmp_path / "cache"), other.get(timeout=60)]
    assert sorted(prepared for prepared, _ in results) == [0, 1]
    assert len({digest for _, digest in results}) == 1


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "own", pictures(classed, 10))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(UniteError, match=r"preparing own needs 0.0 GB, 0.0 GB are free"):
        opened(root, tmp_path / "cache")
    monkeypatch.undo()

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(UniteError, match="No space left on device"):
        opened(root, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "image").iterdir() if path.is_dir()]


def test_verification_of_a_zip(tmp_path: Path) -> None:
    path = archive(tmp_path / "own.zip", pictures(classed, 20) | {"0/bad.png": b"x"})
    data = opened(path, tmp_path / "cache", max_unreadable=0.1)
    checks = verify_data(data, path, Recorder())
    assert all(check.passed for check in checks) and len(checks) == 5
    path.write_bytes(path.read_bytes() + b"x")
    assert not verify_data(data, path, Recorder())[-1].passed


def no_network(*arguments: object, **options: object) -> None:
    raise urllib.error.URLError("[Errno -3] Temporary failure in name resolution")


def test_without_a_network_the_alternatives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(UniteError, match=r"CIFAR-10 is unavailable: .*name resolution") as caught:
        opened("cifar10", tmp_path)
    assert "\n" not in caught.value.message
    assert all(word in caught.value.hint for word in ("cifar-10-python.tar.gz", "FOLDER", "shapes"))
    with pytest.raises(UniteError, match="ImageNet is not in ") as caught:
        opened("imagenet", tmp_path)
    assert "\n" not in caught.value.message
    assert all(word in caught.value.hint for word in ("ILSVRC2012_img_train.tar", "devkit", "FOLDER", "shapes"))


def test_cifar10_is_read_by_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"kind{i}" for i in range(10)]
    base = tmp_path / "own" / "cifar-10-batches-py"
    base.mkdir(parents=True)
    rows = np.random.default_rng(0).integers(0, 256, (6, 10, 3072), dtype=np.uint8)
    lists: list[list[str]] = []
    for number in range(6):
        content = pickle.dumps({"data": rows[number], "labels": list(range(10))})
        (base / f"part{number}").write_bytes(content)
        lists.append([f"part{number}", hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({"label_names": names})
    (base / "batches.meta").write_bytes(meta)
    kind = import_torchvision().datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", lists[:5])
    monkeypatch.setattr(kind, "test_list", lists[5:])
    facts = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(kind, "meta", facts)
    data = opened(tmp_path / "own", tmp_path / "cache", size=32)
    assert data.classes == tuple(names) and data.card.splits == {"train": 45, "validation": 5, "test": 10}
    assert torch.equal(data.pixels("test"), torch.from_numpy(rows[5].reshape(10, 3, 32, 32)))
    assert data.labels("test").tolist() == list(range(10))
    # Once prepared, the originals are needed no more; damaged ones are refused.
    (base / "part2").write_bytes(b"x")
    assert opened(tmp_path / "own", tmp_path / "cache", size=32).card == data.card
    with pytest.raises(UniteError, match="Dataset not found or corrupted"):
        opened(tmp_path / "own", tmp_path / "cache", size=16)


def test_imagenet_is_read_by_torchvision(tmp_path: Path) -> None:
    root = tmp_path / "own"
    wnids = ["n01", "n02", "n03"]
    files: dict[str, bytes] = {}
    for number, wnid in enumerate(wnids):
        for split, count in (("train", 8), ("val", 2)):
            names = lambda i, wnid=wnid, split=split: f"{split}/{wnid}/{wnid}_{i}.JPEG"  # noqa: E731
            files |= {names(i): encoded(noise(100 * number + i + 50 * (split == "val")), "JPEG") for i in range(count)}
    folder(root, files)
    meaning = {"n01": ("crane", "big machine"), "n02": ("tench",), "n03": ("crane", "bird")}
    torch.save((meaning, wnids), root / "meta.bin")
    data = opened(root, tmp_path / "cache")
    assert data.classes == ("crane (n01)", "tench", "crane (n03)")
    assert data.card.splits == {"train": 22, "validation": 6, "test": 2} and data.card.name == "imagenet"
    assert data.card.description == "ImageNet 2012, 8 x 8 RGB"
    assert torch.bincount(data.labels("validation")).tolist() == [2, 2, 2]
    expected = prepare(torchvision_sources.decode(root / "val/n02/n02_0.JPEG"), 8, "rgb").tobytes()
    ours = [row.numpy().tobytes() for row in data.pixels("validation").permute(0, 2, 3, 1)]
    assert data.labels("validation")[ours.index(expected)] == 1


def test_sources_ask_only_for_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Cifar10:
        targets, classes = [i % 2 for i in range(20)], ["a", "b"]

        def __init__(self, root: str, train: bool, download: bool) -> None:
            calls.append((root, train, download))
            self.data = np.random.default_rng(train).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)

    monkeypatch.setattr(import_torchvision().datasets, "CIFAR10", Cifar10)
    progress = Recorder()
    data = opened("cifar10", tmp_path, progress=progress, size=32)
    place = str(tmp_path / "image" / "downloads" / "cifar10")
    assert calls == [(place, True, True), (place, False, True)]
    assert data.card.splits == {"train": 18, "validation": 2, "test": 20}
    opened("cifar10", tmp_path, size=32)
    assert len(calls) == 2
