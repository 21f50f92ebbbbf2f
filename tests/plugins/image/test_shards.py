"""Tar shards: made of any source, read in place, the same images and splits as the source; what is wrong with them."""

import http.server
import io
import json
import tarfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import Recorder, archive, config, encoded, folder, noise, opened, pictures
from helpers.shard_order import check_order

from unite_mm.cli.main import main
from unite_mm.contract import SPLITS, DataRequest
from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.kit import download
from unite_mm.training.data_order import BatchStream
from unite_mm_image.data.dataset import ImageData
from unite_mm_image.data.shard_writer import write_shards

CONFIG = config()


def classed(i: int) -> str:
    return f"{'cats' if i % 2 else 'dogs'}/{i}.png"


def made(source: Path, target: Path, most: int = 6000) -> Path:
    write_shards(DataRequest(str(source), target.parent / "cache"), CONFIG, target, most)
    return target


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as target:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return path


def contents(data: ImageData, split: str) -> set[tuple[bytes, str]]:
    """Pixels and class of every image of a split."""
    pixels, labels = data.pixels(split).numpy(), data.labels(split)
    names = [""] * len(pixels) if labels is None else [data.classes[label] for label in labels.tolist()]
    return {(image.tobytes(), name) for image, name in zip(pixels, names, strict=True)}


@contextmanager
def served(root: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@pytest.mark.parametrize("kind", ["folder", "zip", "npz"])
def test_shards_hold_what_their_source_holds(kind: str, tmp_path: Path) -> None:
    """The same images, classes and splits, to the last bit of the card's hash."""
    files = pictures(classed, 40)
    source = folder(tmp_path / "mine", files)
    if kind == "zip":
        source = archive(tmp_path / "mine.zip", files)
    if kind == "npz":
        source = tmp_path / "mine.npz"
        rows = np.stack([np.asarray(noise(seed, 16, 16)) for seed in range(40)])
        np.savez(source, arr_0=rows, arr_1=np.arange(40) % 2)
    shards = made(source, tmp_path / "shards")
    assert len(list(shards.glob("*.tar"))) > 3
    whole, read = opened(source, tmp_path / "a"), opened(shards, tmp_path / "b")
    assert read.card.split_hash == whole.card.split_hash
    assert read.card.splits == whole.card.splits
    assert read.statistics == whole.statistics
    for split in SPLITS:
        assert contents(read, split) == contents(whole, split)


def test_files_are_kept_as_they_are_and_shards_are_reproducible(tmp_path: Path) -> None:
    files = {classed(i): encoded(noise(i), "JPEG", quality=60) for i in range(12)}
    files = {name.replace(".png", ".jpg"): content for name, content in files.items()}
    source = folder(tmp_path / "mine", files)
    one, other = made(source, tmp_path / "one"), made(source, tmp_path / "other")
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes()
    kept = set()
    for path in one.glob("*.tar"):
        with tarfile.open(path) as opened_tar:
            kept |= {opened_tar.extractfile(m).read() for m in opened_tar if m.name.endswith(".jpg")}  # type: ignore[union-attr]
    assert kept == set(files.values())


def test_the_order_visits_few_blocks_at_a_time_and_all_samples_once(tmp_path: Path) -> None:
    blocks = torch.arange(4000) // 50  # 80 blocks
    stream = BatchStream(4000, None, 40, seed=3, blocks=blocks)
    plan = [stream.indices(step) for step in range(stream.batches_per_epoch)]
    assert torch.equal(torch.cat(plan).sort().values, torch.arange(4000))
    for start in range(0, 80, 20):  # a fifth of the epoch is 800 samples: 16 blocks
        assert len(set(blocks[torch.cat(plan[start : start + 20])].tolist())) == 16
    again = BatchStream(4000, None, 40, seed=3, blocks=blocks)
    assert torch.equal(again.indices(157), stream.indices(157))  # in the second epoch, without the first
    assert not torch.equal(stream.indices(100), plan[0])


def test_the_order_is_the_same_on_any_number_of_ranks_and_after_a_resume(tmp_path: Path) -> None:
    for number, seeds in enumerate((range(13), range(13, 20), range(20, 42))):  # uneven shards
        tar(tmp_path / "set" / f"train-{number}.tar", {f"{seed:03}.png": encoded(noise(seed)) for seed in seeds})
    check_order(tmp_path / "set", tmp_path / "cache")


def test_a_run_on_shards_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    shards = made(folder(tmp_path / "mine", pictures(classed, 40)), tmp_path / "shards")
    tiny = ["trunk.width=16", "trunk.depth=1", "trunk.heads=1", "image.size=16", "image.lpips_weight=0"]
    tiny += ["image.decoder_width=16", "image.decoder_depth=1", "image.decoder_heads=1", "train.batch_size=6"]
    tiny += ["train.log_every=1", "train.precision=32-true", "optim.schedule=constant", "sampling.steps=2"]
    words = [
        "train",
        "--modality",
        "image",
        "--data",
        str(shards),
        "--cache",
        str(tmp_path / "cache"),
        "--devices",
        "1",
    ]
    words += [word for setting in tiny for word in ("--set", setting)]

    def losses(run: Path) -> list[float]:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [row["reconstruction"] for row in rows if row["kind"] == "train"]

    def call(*more: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main([*words, *more] if "--resume" not in more else ["train", *more])
        assert not ended.value.code

    call("--max-steps", "9", "--out", str(tmp_path / "whole"))
    call("--max-steps", "4", "--out", str(tmp_path / "parts"))
    call("--resume", "--max-steps", "9", "--out", str(tmp_path / "parts"), "--cache", str(tmp_path / "cache"))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 9


def test_webdataset_layouts_are_read(tmp_path: Path) -> None:
    """Classes as numbers, names, in JSON, by folder; splits by the names of shards; other members passed over."""
    images = [encoded(noise(i)) for i in range(12)]
    layouts: dict[str, dict[str, bytes]] = {
        "numbers": {f"{i:03}.png": images[i] for i in range(12)} | {f"{i:03}.cls": b"%d" % (i % 3) for i in range(12)},
        "names": {f"x/{i}.png": images[i] for i in range(12)} | {f"x/{i}.cls": b"c%d\n" % (i % 3) for i in range(12)},
        "json": {f"{i}.png": images[i] for i in range(12)}
        | {f"{i}.json": b'{"label": %d}' % (i % 3) for i in range(12)},
        "folders": {f"./c{i % 3}/{i}.png": images[i] for i in range(12)} | {"README.md": b"hello"},
    }
    for name, files in layouts.items():
        root = tmp_path / name
        for split, part in (("train", files), ("val", files)):
            tar(root / f"set-{split}-000.tar", part)
        data = opened(root, tmp_path / "cache")
        assert len(data.classes) == 3, name
        assert data.card.splits["train"] + data.card.splits["test"] == data.card.splits["validation"] == 12
        assert any("stand in another split" in note for note in data.card.notes)
    plain = tar(tmp_path / "plain.tar", {f"{i}.jpg": encoded(noise(i), "JPEG") for i in range(12)})
    assert opened(plain, tmp_path / "cache").classes == ()


def test_shards_from_a_server_are_fetched_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = made(folder(tmp_path / "mine", pictures(classed, 30)), tmp_path / "shards")
    listed = tmp_path / "list.txt"
    with served(shards) as address:
        data = opened(f"{address}/shards.json", tmp_path / "cache")
        listed.write_text("# mine\n" + "".join(f"{address}/{path.name}\n" for path in sorted(shards.glob("*.tar"))))
        again = opened(listed, tmp_path / "cache")
        (tmp_path / "gone.txt").write_text(f"{address}/gone.tar\n")
        for source in (f"{address}/gone.tar", tmp_path / "gone.txt", f"{address}/gone-{{0..3}}.tar"):
            with pytest.raises(UniteError, match=r"gone.*\.tar could not be downloaded .*404") as missing:
                opened(source, tmp_path / "cache")
            assert "\n" not in missing.value.message
    assert contents(data, "train") == contents(opened(shards, tmp_path / "other"), "train")
    assert again.card.split_hash == data.card.split_hash
    opened(f"{address}/shards.json", tmp_path / "cache")  # without the server
    told = json.loads((shards / "shards.json").read_text())
    told["shards"][0]["sha256"] = "0" * 64
    (shards / "shards.json").write_text(json.dumps(told))
    monkeypatch.setattr(download, "_PAUSE", 0.001)
    with served(shards) as address, pytest.raises(UniteError, match="could not be downloaded"):
        opened(f"{address}/shards.json", tmp_path / "cache")


def damaged(name: str, shards: Path) -> Path:
    """Shards with something wrong, or another source that is refused."""
    first = sorted(shards.glob("*.tar"))[0]
    if name == "torn":
        first.write_bytes(first.read_bytes()[:1500])
        (shards / "shards.json").unlink()
    elif name == "shorter than the manifest says":
        first.write_bytes(first.read_bytes()[:-512])
    elif name == "missing":
        first.unlink()
    elif name == "no tar file":
        first.write_bytes(b"hello" * 1000)
        (shards / "shards.json").unlink()
    elif name == "no bytes":
        first.write_bytes(b"")
        (shards / "shards.json").unlink()
    elif name == "packed":
        (shards / "shards.json").unlink()
        first.write_bytes(b"\x1f\x8b\x08" + bytes(600))
    elif name == "no image":
        for path in shards.glob("*"):
            path.unlink()
        tar(shards / "train-0.tar", {"a.txt": b"x"})
    elif name == "manifest":
        (shards / "shards.json").write_text('{"shards": [{"name": "../a.tar"}]}')
    elif name == "list":
        (shards.parent / "list.txt").write_text("a.tar\na.zip\n")
        return shards.parent / "list.txt"
    elif name == "list of nothing there":
        (shards.parent / "list.txt").write_text("a.tar\n")
        return shards.parent / "list.txt"
    elif name == "several splits":
        (shards / "shards.json").unlink()
        first.rename(shards / "train-test-0.tar")
    return shards


REFUSED = {
    "torn": "ends within|not a whole tar file",
    "shorter than the manifest says": r"bytes in place of the .* that shards.json names",
    "missing": "is missing, which shards.json names",
    "no tar file": "not a whole tar file",
    "no bytes": "not a whole tar file",
    "packed": "not a whole tar file",
    "no image": "1 shards hold no image",
    "manifest": "not a manifest of shards",
    "list": "'a.zip' is no tar file",
    "list of nothing there": "a.tar does not exist",
    "several splits": "says several splits",
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_shards_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    shards = made(folder(tmp_path / "mine", pictures(classed, 20)), tmp_path / "shards")
    with pytest.raises(UsageError, match=REFUSED[name]) as refused:
        opened(damaged(name, shards), tmp_path / "cache")
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_an_unreadable_member_is_skipped_told_once_and_counted(tmp_path: Path) -> None:
    files = {f"{i:02}.png": encoded(noise(i)) for i in range(30)}
    files["03.png"] = files["07.png"] = b"no image"
    tar(tmp_path / "shards" / "train-0.tar", files)
    data = opened(tmp_path / "shards", tmp_path / "cache", max_unreadable=0.1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UniteWarning)
        pixels = np.concatenate([data.pixels(split).numpy() for split in SPLITS])
        again = np.concatenate([data.pixels(split).numpy() for split in SPLITS])
    assert np.array_equal(pixels, again)
    assert len(pixels) == 30
    assert len([one for one in told if issubclass(one.category, UniteWarning)]) == 1
    assert len(np.unique(pixels.reshape(30, -1), axis=0)) == 28  # the next one stands in
    strict = opened(tmp_path / "shards", tmp_path / "cache")
    with warnings.catch_warnings(), pytest.raises(UsageError, match="of 30 images cannot be used"):
        warnings.simplefilter("ignore")
        for split in SPLITS:
            strict.pixels(split)


def test_what_stands_in_is_of_the_same_split_and_class(tmp_path: Path) -> None:
    """Otherwise training would see held-out images, or one class under the name of another."""
    whole = {f"{i:02}.png": encoded(noise(i)) for i in range(60)} | {f"{i:02}.cls": b"%d" % (i % 2) for i in range(60)}
    tar(tmp_path / "whole" / "a.tar", whole)
    tar(tmp_path / "torn" / "a.tar", whole | {f"{i:02}.png": b"no image" for i in range(0, 60, 7)})
    sound = opened(tmp_path / "whole", tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UniteWarning)
        torn = opened(tmp_path / "torn", tmp_path / "cache", max_unreadable=0.5)
        assert torn.card.split_hash == sound.card.split_hash
        for split in SPLITS:
            assert torn.size(split) > 4
            assert contents(torn, split) <= contents(sound, split)


def test_an_empty_shard_among_others_is_noted(tmp_path: Path) -> None:
    tar(tmp_path / "shards" / "train-0.tar", {f"{i}.png": encoded(noise(i)) for i in range(12)})
    tar(tmp_path / "shards" / "train-1.tar", {})
    data = opened(tmp_path / "shards", tmp_path / "cache")
    assert any("1 shards hold no image (train-1.tar)" in note for note in data.card.notes)


def test_the_command_writes_shards_and_refuses_what_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path / "mine", pictures(classed, 20) | {"cats/broken.png": b"x"})
    words = ["data", "shard", "--modality", "image", "--cache", str(tmp_path / "cache"), "--data"]

    def call(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    loose = ("--set", "image.max_unreadable=0.1")
    code, printed = call(str(source), "-o", str(tmp_path / "shards"), *loose)
    assert code == 0 and "20 images in 3 shards; 1 left out: cannot be read" in printed
    for source_name, output, message in (
        (str(source), "shards", "exists and is not empty"),
        (str(tmp_path / "shards"), "again", "already is shards"),
        ("shapes", "again", "is rendered on the fly"),
        (str(source), "again", "1 of 21 images cannot be used"),
    ):
        code, printed = call(source_name, "-o", str(tmp_path / output))
        assert code == 2 and message in printed, printed
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".again*"))
    with pytest.raises(SystemExit):
        main(["data", "shard", "--modality", "qm9", "--data", "embedded", "-o", str(tmp_path / "again")])
    assert "modality 'qm9' has no shards" in "".join(capsys.readouterr())


def test_preparing_shows_progress(tmp_path: Path) -> None:
    shards = made(folder(tmp_path / "mine", pictures(classed, 20)), tmp_path / "shards")
    recorder = Recorder()
    opened(shards, tmp_path / "cache", progress=recorder)
    assert any(title.startswith("Indexing shards") for title in recorder.titles)
    again = Recorder()
    opened(shards, tmp_path / "cache", progress=again)
    assert not again.titles  # from the cache
