"""Checkpoints: a folder of safetensors and one JSON record, written aside and renamed into place.

A checkpoint exists under its final name only when it is complete. Every tensor file's SHA-256 stands in the record, so
a torn or damaged folder is recognised; the one before it is used instead. Nothing is ever unpickled.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unite_mm.errors import UniteError
from unite_mm.utils.files import file_sha256
from unite_mm.utils.validation import check_format
from unite_mm_schemas.checkpoint import CheckpointRecord

RECORD = "record.json"
PREFIX = "step-"


def write_folder(target: Path, tensors: Mapping[str, Mapping[str, Tensor]], record: CheckpointRecord) -> None:
    """Write a checkpoint or export folder; the target appears complete or not at all.

    Args:
        target: final folder; replaced if it exists.
        tensors: file stem -> name -> tensor.
        record: everything else; its `files` are filled in here.

    Raises:
        UniteError: the disk is full or not writable; nothing half-written remains.
    """
    aside = target.with_name(f".writing-{target.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        files = {}
        for stem, content in tensors.items():
            path = aside / f"{stem}.safetensors"
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in content.items()}, path)
            _flush(path)
            files[path.name] = file_sha256(path)
        complete = record.model_copy(update={"files": files})
        (aside / RECORD).write_text(complete.model_dump_json(indent=1), encoding="utf-8")
        _flush(aside / RECORD)
        _flush(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush(target.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UniteError(
            f"could not write {target}: {error}", "free some disk space or choose another --out; earlier files are kept"
        ) from error


def _flush(path: Path) -> None:
    """Force a file or folder onto the disk before anything is renamed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(folder: Path, *, verify: bool = True) -> CheckpointRecord:
    """The record of a folder, after checking that its files are whole.

    Raises:
        UniteError: the record is missing or invalid, or a file is missing or damaged; the message says which.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_format(path, content.get("config", {}) if isinstance(content, dict) else {})
        record = CheckpointRecord.model_validate(content)
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UniteError(f"{path} cannot be read: {first}", "use another checkpoint") from error
    for name, digest in record.files.items() if verify else ():
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise UniteError(f"{folder / name} is missing or damaged", "use another checkpoint")
    return record


def read_tensors(folder: Path, stem: str, device: str = "cpu") -> dict[str, Tensor]:
    """All tensors of one file of a folder.

    Raises:
        UniteError: the file is missing or damaged.
    """
    path = folder / f"{stem}.safetensors"
    try:
        with safe_open(path, framework="pt", device=device) as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise UniteError(f"{path} cannot be read: {error}", "use another checkpoint") from error


def load_state(module: torch.nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load tensors into a module, naming what does not fit.

    Raises:
        UniteError: names or shapes differ; the message lists the first ones.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:300]
        raise UniteError(f"{where} does not fit the model: {lines}", "was it made by another version?") from error


def checkpoints_of(run: Path) -> list[Path]:
    """Checkpoint folders of a run, oldest first."""
    found = [path for path in (run / "checkpoints").glob(f"{PREFIX}*") if path.is_dir()]
    return sorted(found, key=lambda path: path.name)


def newest_checkpoint(run: Path) -> tuple[Path, CheckpointRecord, list[str]]:
    """The newest intact checkpoint of a run, and messages about damaged newer ones.

    Raises:
        UniteError: there is none.
    """
    problems: list[UniteError] = []
    for folder in reversed(checkpoints_of(run)):
        try:
            record = read_record(folder)
        except UniteError as error:
            problems.append(error)
        else:
            return folder, record, [f"{problem.message}; using the checkpoint before it" for problem in problems]
    if problems:
        raise UniteError("; ".join(problem.message for problem in problems), problems[0].hint)
    raise UniteError(f"{run} holds no checkpoint", "check the folder, or train without --resume")


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / "checkpoints" / f"{PREFIX}{step:09d}"


def prune(run: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what interrupted writes left."""
    for folder in checkpoints_of(run)[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (run / "checkpoints").glob(".writing-*"):
        shutil.rmtree(folder, ignore_errors=True)
