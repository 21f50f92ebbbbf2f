"""Parquet files of images: what they hold, their order, what is wrong with them; and patterns and lists of shards."""

import http.server
import json
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.image_files import encoded, noise, opened
from helpers.shard_order import check_order

from unite_mm.contract import SPLITS
from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.kit import download
from unite_mm.utils.files import file_sha256
from unite_mm_image.data.remote import expand

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def parquet(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[Any] | None = None,
    rows: int = 5,
    image: str = "image",
    label: str = "label",
    names: Sequence[str] = (),
    plain: bool = False,
) -> Path:
    """A file as `datasets` writes it: a struct of bytes and path, classes as numbers, their names in the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [None if one is None else {"bytes": one, "path": None} for one in images]
    kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"id": pa.array(range(len(images))), image: pa.array(images if plain else structs, type=kind)}
    if labels is not None:
        columns[label] = pa.array(labels)
    table = pa.table(columns)
    if names:
        info = {"info": {"features": {label: {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=rows)
    return path


def made(root: Path, counts: Sequence[int] = (13, 7, 22)) -> Path:
    """Uneven files of the training split, and one of each other."""
    first = 0
    for number, count in enumerate(counts):
        seeds = range(first, first + count)
        images, labels = [encoded(noise(seed)) for seed in seeds], [seed % 3 for seed in seeds]
        parquet(root / f"train-{number:05d}-of-{len(counts):05d}.parquet", images, labels, names=("a", "b", "c"))
        first += count
    for split in ("validation", "test"):
        seeds = range(first, first + 6)
        images, labels = [encoded(noise(seed)) for seed in seeds], [seed % 3 for seed in seeds]
        parquet(root / f"{split}-00000-of-00001.parquet", images, labels, names=("a", "b", "c"))
        first += 6
    return root


def test_images_classes_and_splits_are_those_of_the_files(tmp_path: Path) -> None:
    data = opened(made(tmp_path / "set"), tmp_path / "cache")
    assert data.card.splits == {"train": 42, "validation": 6, "test": 6}
    assert data.classes == ("a", "b", "c")
    labels = data.labels("train")
    assert labels is not None and labels.tolist() == [seed % 3 for seed in range(42)]
    (tmp_path / "images").mkdir()
    for seed in range(42):
        (tmp_path / "images" / f"{seed:02}.png").write_bytes(encoded(noise(seed)))
    whole = opened(tmp_path / "images", tmp_path / "other")
    expected = {image.tobytes() for split in SPLITS for image in whole.pixels(split).numpy()}
    assert {image.tobytes() for image in data.pixels("train").numpy()} == expected
    blocks = data.blocks("train")
    assert blocks is not None  # row groups
    assert blocks.unique(return_counts=True)[1].tolist() == [5, 5, 3, 5, 2, 5, 5, 5, 5, 2]
    again = opened(tmp_path / "set", tmp_path / "cache")  # from the cache
    assert torch.equal(again.pixels("test"), data.pixels("test"))
    assert again.card == data.card


@pytest.mark.parametrize(
    ("settings", "kinds", "classes"),
    [
        ({}, {"plain": True, "labels": list("xyxyxyxyxyxy")}, ("x", "y")),
        ({"parquet_image": "photo", "parquet_label": "kind"}, {"image": "photo", "label": "kind"}, ("0", "1")),
        ({}, {"image": "jpg", "label": "cls"}, ("0", "1")),
        ({}, {"labels": None}, ()),
        ({}, {"labels": [-1] * 12}, ()),
        ({}, {"labels": [None] * 12}, ()),
        ({"condition": "none"}, {}, ()),
    ],
)
def test_columns_are_found_or_named(
    settings: dict[str, Any], kinds: dict[str, Any], classes: tuple[str, ...], tmp_path: Path
) -> None:
    images = [encoded(noise(seed)) for seed in range(12)]
    path = parquet(tmp_path / "set.parquet", images, **({"labels": [seed % 2 for seed in range(12)]} | kinds))
    data = opened(path, tmp_path / "cache", **settings)
    assert data.classes == classes
    assert sum(data.card.splits.values()) == 12


def test_the_order_is_the_same_on_any_number_of_ranks_and_after_a_resume(tmp_path: Path) -> None:
    check_order(made(tmp_path / "set"), tmp_path / "cache")


def damaged(name: str, root: Path) -> tuple[Path, dict[str, Any]]:
    """A source with something wrong, and settings."""
    images = [encoded(noise(seed)) for seed in range(12)]
    path = parquet(root / "train-0.parquet", images, [seed % 2 for seed in range(12)])
    content = path.read_bytes()
    settings: dict[str, Any] = {}
    if name == "torn":
        path.write_bytes(content[: len(content) // 2])
    elif name == "no bytes":
        path.write_bytes(b"")
    elif name == "no parquet":
        path.write_bytes(b"hello" * 100)
    elif name == "no image column":
        parquet(path, images, image="photo")
    elif name == "column not there":
        settings = {"parquet_image": "photo"}
    elif name == "classes not there":
        settings = {"parquet_label": "kind"}
    elif name == "column of numbers":
        settings = {"parquet_image": "id"}
    elif name == "classes of floats":
        parquet(path, images, [0.5] * 12)
    elif name == "numbers beyond the names":
        parquet(path, images, [7] * 12, names=("a", "b"))
    elif name == "no row":
        parquet(path, [])
    elif name == "both kinds":
        (root / "a.tar").write_bytes(bytes(1024))
    elif name == "two columns":
        parquet(root / "train-1.parquet", images, image="img")
    return root, settings


REFUSED = {
    "torn": r"train-0\.parquet: not a whole parquet file",
    "no bytes": "not a whole parquet file",
    "no parquet": "not a whole parquet file",
    "no image column": "no column image or img or .* of images",
    "column not there": "no column photo of images",
    "classes not there": "no column kind of classes",
    "column of numbers": "holds int64, not the bytes of image files",
    "classes of floats": "holds float, neither numbers nor names of classes",
    "numbers beyond the names": "class 7, but 2 classes are named",
    "no row": "1 parquet files hold no row",
    "both kinds": r"both \.tar and \.parquet files",
    "two columns": "its images are in img.bytes, those of other files in image.bytes",
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    source, settings = damaged(name, tmp_path / "set")
    with pytest.raises(UsageError, match=REFUSED[name]) as refused:
        opened(source, tmp_path / "cache", **settings)
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    """Its pages are read when training comes to them; the footer is whole."""
    images = [np.random.default_rng(seed).bytes(4000) for seed in range(12)]
    path = parquet(tmp_path / "set" / "train-0.parquet", images)
    data = opened(tmp_path / "set", tmp_path / "cache", max_unreadable=1)
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    with path.open("r+b") as file:
        file.seek(column.data_page_offset)
        file.write(b"\xff" * 40)
    with warnings.catch_warnings(), pytest.raises(UniteError, match=r"train-0\.parquet: row group 1: ") as told:
        warnings.simplefilter("ignore")
        for split in SPLITS:
            data.pixels(split)
    assert "\n" not in told.value.message


def test_rows_without_an_image_are_skipped_up_to_the_limit(tmp_path: Path) -> None:
    images: list[bytes | None] = [encoded(noise(seed)) for seed in range(40)]
    images[3], images[17] = None, b"no image"
    parquet(tmp_path / "set" / "train-0.parquet", images)
    data = opened(tmp_path / "set", tmp_path / "cache", max_unreadable=0.1)
    with pytest.warns(UniteWarning, match=r"train-0\.parquet:\d+ cannot be read"):
        pixels = np.concatenate([data.pixels(split).numpy() for split in SPLITS])
    assert len(np.unique(pixels.reshape(40, -1), axis=0)) == 38
    strict = opened(tmp_path / "set", tmp_path / "cache", max_unreadable=0.03)
    with warnings.catch_warnings(), pytest.raises(UsageError, match="2 of 40 images cannot be used"):
        warnings.simplefilter("ignore")
        for split in SPLITS:
            strict.pixels(split)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "set.parquet", [encoded(noise(0))])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match="parquet files need pyarrow") as refused:
        opened(path, tmp_path / "cache")
    assert "unite-mm[parquet]" in (refused.value.hint or "")


def test_row_groups_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unite_mm_image.data.parquet._LARGEST_GROUP", 1000)
    path = parquet(tmp_path / "set.parquet", [encoded(noise(seed)) for seed in range(9)])
    with pytest.raises(UsageError, match=r"row group 0 has .* MB of images"):
        opened(path, tmp_path / "cache")


# ------------------------------------------------------------------------------------------------- patterns and lists


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("t-{000..002}.tar", ["t-000.tar", "t-001.tar", "t-002.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{2..1}.tar", ["2.tar", "1.tar"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
    ],
)
def test_patterns_stand_for_names_as_in_a_shell(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


@pytest.mark.parametrize("pattern", ["{a}.tar", "{0..9.tar", "{0..99999999}.tar", "{0..999}{0..999}.tar"])
def test_patterns_that_mean_nothing_or_too_much_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"braces hold neither|more than 100,000 files"):
        expand(pattern)


class Server:
    """Files on localhost; `busy` names those that are answered by 503 so many times first."""

    def __init__(self, root: Path) -> None:
        self.busy: dict[str, int] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *given: Any, **named: Any) -> None:
                super().__init__(*given, directory=str(root), **named)

            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                outer.asked.append(name)
                if outer.busy.get(name, 0):
                    outer.busy[name] -= 1
                    self.send_error(503)
                else:
                    super().do_GET()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    monkeypatch.setattr(download, "_PAUSE", 0.001)

    @contextmanager
    def serving(root: Path) -> Iterator[Server]:
        server = Server(root)
        threading.Thread(target=server.server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.server.shutdown()

    return serving


def test_patterns_and_lists_of_urls_are_fetched_once_and_checked(serve: Callable[[Path], Any], tmp_path: Path) -> None:
    root = made(tmp_path / "set")
    first = "train-00000-of-00003.parquet"
    local = opened(root, tmp_path / "cache")
    with serve(root) as server:
        server.busy = {first: 2}
        pattern = f"{server.address}/train-{{00000..00002}}-of-00003.parquet"
        data = opened(pattern, tmp_path / "cache")
        assert server.asked.count(first) == 3  # a busy server is asked again
        assert data.card.kept == 42
        digest = file_sha256(root / first)
        names = [path.name for path in sorted(root.glob("*.parquet"))]
        lines = [f"{server.address}/{name}" + (f"  {digest}" if name == first else "") for name in names]
        (tmp_path / "list.txt").write_text("# all\n" + "\n".join(lines))
        listed = opened(tmp_path / "list.txt", tmp_path / "cache")
        assert len(server.asked) == 7  # the two that were missing, and none again
        wrong = f"{server.address}/{first} {'0' * 64}\n"
        (tmp_path / "wrong.txt").write_text(wrong)
        with pytest.raises(UniteError, match=r"train-00000-of-00003\.parquet could not be downloaded .*SHA-256"):
            opened(tmp_path / "wrong.txt", tmp_path / "fresh")
    assert listed.card.splits == local.card.splits
    with serve(root) as server:
        (tmp_path / "gone.txt").write_text(
            f"{server.address}/train-{{00000..00001}}-of-00003.parquet\n{server.address}/gone.parquet\n"
        )
        with pytest.raises(UniteError, match=r"gone\.parquet could not be downloaded \(.*404.*\)") as missing:
            opened(tmp_path / "gone.txt", tmp_path / "fresh")
        assert "\n" not in missing.value.message
        assert server.asked.count("gone.parquet") == 1  # what is missing stays missing
        server.busy = {first: 99}
        with pytest.raises(UniteError, match=r"could not be downloaded \(127\.0\.0\.1:\d+: [^;]*503[^;]*\)"):
            opened(f"{server.address}/{first}", tmp_path / "fresh")
        assert server.asked.count(first) == 1 + 4


def test_a_pattern_of_paths_names_what_is_missing(tmp_path: Path) -> None:
    made(tmp_path / "set")
    pattern = str(tmp_path / "set" / "train-{00000..00002}-of-00003.parquet")
    assert opened(pattern, tmp_path / "cache").card.kept == 42
    with pytest.raises(UsageError, match=r"train-00003-of-00003\.parquet does not exist"):
        opened(pattern.replace("00002}", "00003}"), tmp_path / "cache")
