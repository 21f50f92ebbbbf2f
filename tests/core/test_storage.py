"""Folders of models: damage is noticed and passed over, nothing good is removed, readers never meet half a folder."""

import itertools
import json
import math
import os
import shutil
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy_models import STATISTICS, make_model
from safetensors.torch import load_file, save_file

from unite_mm.api import UNITE
from unite_mm.errors import UniteError, UniteWarning, UsageError
from unite_mm.storage import checkpoint
from unite_mm.storage.checkpoint import (
    FolderWriter,
    checksum,
    read_record,
    read_tensors,
    record_text,
    write_folder,
)
from unite_mm.storage.runs import Pruning, checkpoint_folder, checkpoints_of, newest_checkpoint
from unite_mm.utils.files import file_sha256
from unite_mm_schemas.checkpoint import CheckpointRecord, ModalityRecord


def record_of(step: int, kind: Any = "checkpoint") -> CheckpointRecord:
    own = ModalityRecord(distribution="toy 1", contract=2, statistics=dict(STATISTICS))
    return CheckpointRecord(kind=kind, step=step, config=make_model().config, modalities={"points": own}, files={})


def write_step(run: Path, step: int) -> Path:
    folder = checkpoint_folder(run, step)
    weights = make_model().network.state_dict()
    small = {name: weights[name] for name in list(weights)[:3]}
    write_folder(folder, {"weights": weights, "ema": small, "optimizer": {"a/step": torch.ones(1)}}, record_of(step))
    return folder


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 5 and 10."""
    run = tmp_path_factory.mktemp("storage") / "run"
    for step in (5, 10):
        write_step(run, step)
    return run


@pytest.fixture
def run_folder(two_steps: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(two_steps, tmp_path / "run")


def edit(change: Callable[[dict[str, Any]], Any], *, sign: bool = False) -> Callable[[Path], None]:
    """A change of the record; with `sign` it gets the checksum that fits, as a careful editor would give it."""

    def apply(folder: Path) -> None:
        path = folder / "record.json"
        content = json.loads(path.read_text())
        change(content)
        if sign:
            content["checksum"] = checksum(content)
        path.write_text(json.dumps(content))

    return apply


def flip(name: str, share: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(share * (len(content) - 1))] ^= 1
        (folder / name).write_bytes(content)

    return apply


def not_a_number(name: str) -> Callable[[Path], None]:
    """A value that is no number, with all hashes as they should be."""

    def apply(folder: Path) -> None:
        tensors = load_file(folder / name)
        next(iter(tensors.values())).view(-1)[0] = math.nan
        save_file(tensors, folder / name)
        edit(lambda content: content["files"].update({name: file_sha256(folder / name)}), sign=True)(folder)

    return apply


def text(content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "record.json").write_text(content) and None


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a setting edited": edit(lambda content: content["config"]["trunk"].update(rope_base=20.0)),
    "statistics edited": edit(lambda content: content["modalities"]["points"]["statistics"].update(counts=[9, 9, 9])),
    "the step edited": edit(lambda content: content.update(step=11)),
    "another step, signed": edit(lambda content: content.update(step=11), sign=True),
    "no checksum": edit(lambda content: content.pop("checksum")),
    "an empty checksum": edit(lambda content: content.update(checksum="")),
    "no files": edit(lambda content: content.update(files={})),
    "no files, signed": edit(lambda content: content.update(files={}), sign=True),
    "no average, signed": edit(lambda content: content["files"].pop("ema.safetensors"), sign=True),
    "a file elsewhere, signed": edit(lambda content: content["files"].update({"../x": "0"}), sign=True),
    "an unknown key, signed": edit(lambda content: content.update(colour="red"), sign=True),
    "a newer version, signed": edit(lambda content: content.update(schema_version=3), sign=True),
    "an older format": edit(lambda content: content["config"].update(schema_version=1), sign=True),
    "nested too deeply": text("[" * 100_000),
    "nested in a mapping": text('{"a":' * 50_000 + "1" + "}" * 50_000),
    "a long number": text('{"step": ' + "9" * 5000 + "}"),
    "a list": text("[1]"),
    "nothing": text(""),
    "no text": lambda folder: (folder / "record.json").write_bytes(b"\xff\xfe\x00"),
    "no record": lambda folder: (folder / "record.json").unlink(),
    "a folder as record": lambda folder: ((folder / "record.json").unlink(), (folder / "record.json").mkdir()),
    "a pipe as record": lambda folder: ((folder / "record.json").unlink(), os.mkfifo(folder / "record.json")),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "a pipe as weights": lambda folder: (
        (folder / "weights.safetensors").unlink(),
        os.mkfifo(folder / "weights.safetensors"),
    ),
    "weights cut off": lambda folder: os.truncate(folder / "weights.safetensors", 100),
    "weights that are no numbers": not_a_number("weights.safetensors"),
    "an average that is no number": not_a_number("ema.safetensors"),
    **{f"{name}, flipped at {share}": flip(name, share)
       for name in ("weights.safetensors", "ema.safetensors", "optimizer.safetensors") for share in (0.0, 0.5, 1.0)},
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_older_one_used(run_folder: Path, damage: Callable[[Path], Any]) -> None:
    damage(checkpoint_folder(run_folder, 10))
    found, record, problems = newest_checkpoint(run_folder)
    assert (found.name, record.step) == ("step-000000005", 5)
    (problem,) = problems
    assert "step-000000010" in problem
    assert problem.endswith("; using step-000000005 instead")
    with pytest.warns(UniteWarning, match="using step-000000005 instead"):
        model = UNITE.from_pretrained(run_folder)
    assert model.record is not None
    assert model.record.step == 5


def test_every_flipped_byte_of_a_record_is_noticed_or_means_nothing(run_folder: Path) -> None:
    folder = checkpoint_folder(run_folder, 10)
    whole = (folder / "record.json").read_bytes()
    good = read_record(folder)
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        for bit in (0, 5):
            content = bytearray(whole)
            content[place] ^= 1 << bit
            (folder / "record.json").write_bytes(content)
            try:
                assert read_record(folder, verify=False) == good, place
            except UniteError:
                continue


def test_where_no_checkpoint_is_intact_nothing_is_used(run_folder: Path) -> None:
    for folder in checkpoints_of(run_folder):
        (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UniteError, match="has no intact checkpoint") as caught:
        newest_checkpoint(run_folder)
    assert "using" not in caught.value.message
    assert all(name in caught.value.message for name in ("step-000000005", "step-000000010"))
    assert "train again" in caught.value.hint


def test_a_record_without_a_checksum_from_before_there_were_any_is_read(run_folder: Path) -> None:
    folder = checkpoint_folder(run_folder, 10)
    edit(lambda content: (content.pop("checksum"), content.update(schema_version=1)))(folder)
    assert read_record(folder).step == 10
    edit(lambda content: content.update(schema_version=1))(checkpoint_folder(run_folder, 5))
    with pytest.raises(UniteError, match="its checksum differs"):
        read_record(checkpoint_folder(run_folder, 5))


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, bad: float) -> None:
    own = ModalityRecord.model_construct(distribution="toy 1", contract=2, statistics={"scale": bad}, card=None)
    record = record_of(1).model_copy(update={"modalities": {"points": own}})
    with pytest.raises(UniteError, match="was not written"):
        write_folder(tmp_path / "a", {"weights": {"a": torch.ones(1)}}, record)
    assert list(tmp_path.iterdir()) == []


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    own = ModalityRecord(
        distribution="toy 1", contract=2, statistics={"é": (1, 2.5), "7": {"a": None}, "\ud800": 1e300}
    )
    content = json.loads(record_text(record_of(3).model_copy(update={"modalities": {"points": own}}), tmp_path))
    assert content["modalities"]["points"]["statistics"] == {"é": [1, 2.5], "7": {"a": None}, "\ud800": 1e300}


@pytest.mark.parametrize("stem", ["weights", "ema"])
def test_weights_that_are_no_numbers_are_not_written(tmp_path: Path, stem: str) -> None:
    with pytest.raises(UniteError, match="a is not a number"):
        write_folder(tmp_path / "x", {stem: {"a": torch.tensor([1.0, math.nan])}}, record_of(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        folder = write_step(tmp_path / "run", 1)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~mask}


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "/run/.writing-step-000000001/weights.safetensors"),
        checkpoint.SafetensorError(
            'Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'
        ),
        checkpoint.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_with_the_name_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    target = checkpoint_folder(tmp_path, 1)
    with pytest.raises(UniteError) as caught:
        write_folder(target, {"weights": {"a": torch.ones(1)}}, record_of(1))
    assert caught.value.message == f"could not write {target}: No space left on device"


# -------------------------------------------------------------------------------------------------------------- pruning


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_only_intact_checkpoints_count_when_the_oldest_are_removed(run_folder: Path) -> None:
    """The newest is damaged; a run that goes on from 5 keeps 5 and 7, and leaves the damaged one alone."""
    flip("weights.safetensors", 0.5)(checkpoint_folder(run_folder, 10))
    pruning = Pruning(run_folder)
    write_step(run_folder, 7)
    pruning.keep(2)
    assert names(run_folder) == ["step-000000005", "step-000000007", "step-000000010"]
    assert newest_checkpoint(run_folder)[1].step == 7
    write_step(run_folder, 10)
    pruning.keep(2)
    assert names(run_folder) == ["step-000000007", "step-000000010"]


def test_damage_that_comes_while_a_run_trains_is_seen(run_folder: Path) -> None:
    pruning = Pruning(run_folder)
    pruning.keep(2)
    flip("ema.safetensors", 0.5)(checkpoint_folder(run_folder, 10))
    write_step(run_folder, 15)
    pruning.keep(2)
    assert names(run_folder) == ["step-000000005", "step-000000010", "step-000000015"]


OTHERS = [
    "step-best",
    "step-000000002-best",
    "step-",
    "step-1e3",
    "step-٣",
    "copy-of-step-000000001",
    ".writing-mine",
    "STEP-3",
]


@pytest.mark.parametrize("other", OTHERS)
def test_folders_of_other_names_neither_count_nor_are_touched(run_folder: Path, other: str) -> None:
    mine = run_folder / "checkpoints" / other
    checkpoint_folder(run_folder, 5).rename(mine)
    (run_folder / "checkpoints" / "step-notes.txt").write_text("x")
    write_step(run_folder, 5)
    assert newest_checkpoint(run_folder)[1].step == 10
    Pruning(run_folder).keep(1)
    assert names(run_folder) == sorted([other, "step-000000010", "step-notes.txt"])
    assert (mine / "weights.safetensors").is_file()


def test_a_copy_under_another_step_is_no_checkpoint_of_that_step(run_folder: Path) -> None:
    checkpoint_folder(run_folder, 5).rename(checkpoint_folder(run_folder, 99))
    found, record, problems = newest_checkpoint(run_folder)
    assert record.step == 10
    assert "holds step 5" in problems[0]
    Pruning(run_folder).keep(1)
    assert names(run_folder) == ["step-000000010", "step-000000099"]
    assert found.name == "step-000000010"


def test_steps_are_numbers_whatever_their_width(run_folder: Path) -> None:
    write_step(run_folder, 1_000_000_001)
    checkpoint_folder(run_folder, 10).rename(run_folder / "checkpoints" / "step-10")
    assert [path.name for path in checkpoints_of(run_folder)] == ["step-000000005", "step-10", "step-1000000001"]


def test_what_interrupted_work_left_is_removed(run_folder: Path) -> None:
    for name in (".writing-step-000000011", ".replaced-step-000000010", ".removing-step-000000001"):
        (run_folder / "checkpoints" / name).mkdir()
    Pruning(run_folder).keep(2)
    assert names(run_folder) == ["step-000000005", "step-000000010"]


def test_loading_never_fails_while_a_run_saves_and_prunes_at_every_step(tmp_path: Path) -> None:
    run, stop, errors = tmp_path / "run", threading.Event(), []
    write_step(run, 1)
    weights = make_model().network.state_dict()
    record = record_of(1)

    def save() -> None:
        pruning, step = Pruning(run), 1
        while not stop.is_set():
            step += 1
            try:
                tensors = {"weights": weights, "ema": {}, "optimizer": {}}
                write_folder(checkpoint_folder(run, step), tensors, record.model_copy(update={"step": step}))
                pruning.keep(1)
            except BaseException as error:
                errors.append(error)
                return

    thread = threading.Thread(target=save)
    thread.start()
    steps = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UniteWarning)
            for _ in range(60):
                model = UNITE.from_pretrained(run)
                assert model.record is not None
                steps.append(model.record.step)
    finally:
        stop.set()
        thread.join()
    assert not errors
    assert steps == sorted(steps)
    assert steps[-1] > 10
    Pruning(run).keep(1)
    assert len(names(run)) == 1


# -------------------------------------------------------------------------------------------------------------- exports


def exportable() -> UNITE:
    model = make_model()
    model.record = record_of(3)
    return model


OCCUPIED: dict[str, Callable[[Path], Any]] = {
    "a file in it": lambda folder: (folder.mkdir(), (folder / "thesis.txt").write_text("years")),
    "a hidden file in it": lambda folder: (folder.mkdir(), (folder / ".notes").write_text("x")),
    "a folder in it": lambda folder: (folder / "data").mkdir(parents=True),
    "a run": lambda folder: write_step(folder, 1),
    "a checkpoint": lambda folder: write_folder(folder, {"weights": {}, "ema": {}, "optimizer": {}}, record_of(1)),
    "an export and more": lambda folder: (exportable().save_pretrained(folder), (folder / "README").write_text("x")),
    "other weights": lambda folder: (folder.mkdir(), (folder / "weights.safetensors").write_bytes(b"x")),
    "another record": lambda folder: (folder.mkdir(), (folder / "record.json").write_text("{}")),
    "a file": lambda folder: folder.write_text("x"),
}


@pytest.mark.parametrize("make", OCCUPIED.values(), ids=OCCUPIED)
def test_an_export_replaces_nothing_but_an_export(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    folder = tmp_path / "mine"
    make(folder)
    before = sorted((path.relative_to(tmp_path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"is not empty|is a file") as caught:
        exportable().save_pretrained(folder)
    assert "name another folder" in caught.value.hint
    assert sorted((path.relative_to(tmp_path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_an_export_goes_into_new_empty_and_earlier_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "empty")
    for folder in (tmp_path / "new" / "er", tmp_path / "empty", tmp_path / "linked"):
        for _ in range(2):
            exportable().save_pretrained(folder)
        assert UNITE.from_pretrained(folder.resolve()).record is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "linked", "new"]


def test_an_export_with_weights_that_are_not_finite_does_not_load(tmp_path: Path) -> None:
    model = exportable()
    next(model.network.parameters()).data.view(-1)[0] = math.inf
    model.save_pretrained(tmp_path / "a")
    with pytest.raises(UniteError, match="not finite"):
        UNITE.from_pretrained(tmp_path / "a")


def test_rows_are_read_from_whole_files_and_from_parts(tmp_path: Path) -> None:
    """Whatever the cuts of the files and those that are asked for."""
    whole = {"a": torch.arange(14).view(7, 2), "b": torch.arange(3.0), "count": torch.tensor(5)}
    record = record_of(1).model_copy(update={"kind": "export"})
    write_folder(tmp_path / "one", {"weights": whole}, record)
    writer = FolderWriter(tmp_path / "three")
    writer.begin()
    cuts = {"a": (0, 3, 6, 7), "b": (0, 1, 2, 3)}
    files = {}
    for part in range(3):
        rows = {name: whole[name][ends[part] : ends[part + 1]] for name, ends in cuts.items()}
        own = rows | ({"count": whole["count"]} if part == 0 else {})
        files |= writer.write({"weights": own}, part, 3)
    writer.finish(record, files)
    for folder in (tmp_path / "one", tmp_path / "three"):
        read_record(folder)
        for start, end in itertools.combinations_with_replacement(range(8), 2):
            found = read_tensors(folder, "weights", span=lambda name, s=start, e=end: (s, e) if name == "a" else None)
            assert found.keys() == whole.keys()
            assert torch.equal(found["a"], whole["a"][start:end]) and found["a"].shape == (end - start, 2)
            assert torch.equal(found["b"], whole["b"]) and torch.equal(found["count"], whole["count"])
    (tmp_path / "three" / "weights-2-of-3.safetensors").unlink()
    with pytest.raises(UniteError, match="cannot be read"):
        read_tensors(tmp_path / "three", "weights", span=lambda name: None)
