"""Folders of a model: safetensors and one JSON record, written aside and renamed into place.

A folder exists under its final name only when it is complete. Every tensor file's SHA-256 stands in the record, and the
record has a checksum of its own, so a torn, damaged or edited folder is recognised. Nothing is ever unpickled. Several
processes may write a folder together, each its own files (`unite_mm.storage.shards`).
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from pydantic_core import to_jsonable_python
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from unite_mm.errors import UniteError
from unite_mm.storage.shards import SUFFIX, Span, file_name, files_of, join, read_rows
from unite_mm.utils.files import file_sha256
from unite_mm.utils.sharded import as_in, on_this_rank
from unite_mm.utils.validation import check_format, one_line
from unite_mm_schemas.base import RECORD
from unite_mm_schemas.checkpoint import CheckpointRecord

USE_ANOTHER = "use another checkpoint"

FINITE = ("weights", "ema")
"""Files whose tensors make the model: what is not a number in them is damage."""

REQUIRED = {"checkpoint": ("weights", "ema", "optimizer"), "export": ("weights",)}
"""Files of each kind of folder."""


def write_folder(
    target: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    record: CheckpointRecord,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint or export folder; the target appears complete or not at all.

    Args:
        target: final folder; replaced if it exists.
        tensors: file stem -> name -> tensor.
        record: everything else; its `files` and its checksum are filled in here.
        texts: further files by name, for readers: they may be edited later, so they have no checksum.

    Raises:
        UniteError: the disk is full or not writable, or what would be written could not be read; nothing half-written
            remains.
    """
    writer = FolderWriter(target)
    try:
        writer.begin()
        writer.finish(record, writer.write(tensors), texts)
    finally:
        writer.discard()


class FolderWriter:
    """Writes a folder in steps, so that several processes can: one begins and finishes, each writes files of its own.

    Every step raises a `UniteError` where the disk is full or not writable, or what would be written could not be read.

    Args:
        target: final folder; replaced if it exists, when all is finished.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.aside = target.with_name(f".writing-{target.name}")

    def begin(self) -> None:
        """Make the folder in which everything is written first."""
        with self._naming_errors():
            shutil.rmtree(self.aside, ignore_errors=True)
            self.aside.mkdir(parents=True)

    def write(self, tensors: Mapping[str, Mapping[str, Tensor]], part: int = 0, parts: int = 1) -> dict[str, str]:
        """Write tensor files; returns their SHA-256 by name.

        Args:
            tensors: file stem -> name -> tensor.
            part: which part of the files this is, from 0.
            parts: of how many.
        """
        for stem in FINITE:
            for name, tensor in tensors.get(stem, {}).items():
                if has_nan(tensor):
                    raise UniteError(f"{self.target} was not written: {name} is not a number", "earlier files are kept")
        files = {}
        with self._naming_errors():
            mode = self.aside.stat().st_mode & 0o666  # what the umask leaves; the library makes files for their owner
            for stem, content in tensors.items():
                path = self.aside / file_name(stem, part, parts)
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in content.items()}, path)
                path.chmod(mode)
                _flush(path)
                files[path.name] = file_sha256(path)
        return files

    def finish(
        self, record: CheckpointRecord, files: Mapping[str, str], texts: Mapping[str, str] | None = None
    ) -> None:
        """Write the record and give the folder its name.

        Args:
            record: its `files` and its checksum are filled in here.
            files: SHA-256 of every tensor file by name.
            texts: as for `write_folder`.
        """
        with self._naming_errors():
            written = record_text(record.model_copy(update={"files": dict(files)}), self.target)
            for name, text in {**(texts or {}), RECORD: written}.items():
                (self.aside / name).write_text(text, encoding="utf-8")
                _flush(self.aside / name)
            _flush(self.aside)
            _put_in_place(self.aside, self.target)

    def discard(self) -> None:
        """Remove what was not finished, if anything."""
        shutil.rmtree(self.aside, ignore_errors=True)

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise UniteError(
                f"could not write {self.target}: {_reason(error)}",
                "free some disk space or choose another folder; earlier files are kept",
            ) from error


def _put_in_place(aside: Path, target: Path) -> None:
    """Give a finished folder its name; what had the name before goes out of the way first, and then for good."""
    before = target.with_name(f".replaced-{target.name}")
    shutil.rmtree(before, ignore_errors=True)
    if target.exists():
        target.rename(before)
    try:
        aside.rename(target)
    except OSError:
        if before.exists():
            before.rename(target)
        raise
    _flush(target.parent)
    shutil.rmtree(before, ignore_errors=True)


def _reason(error: Exception) -> str:
    """Why a file could not be written, without the name that it has while it is written."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = re.search(r'message: "(.+?)"|([^:]+) \(os error \d+\)', str(error))  # as the library writes files in Rust
    return (found[1] or found[2]).strip() if found else str(error)


def _flush(path: Path) -> None:
    """Force a file or folder onto the disk before anything is renamed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def record_text(record: CheckpointRecord, target: Path) -> str:
    """The text of `record.json`, with its checksum, after it has been read back.

    Raises:
        UniteError: it cannot be read back, such as numbers that JSON does not know.
    """
    current = CheckpointRecord.model_fields["schema_version"].default
    try:
        content = _plain(record.model_copy(update={"schema_version": current, "checksum": ""}))
        content["checksum"] = checksum(content)
        text = json.dumps(content, indent=1)
        again = CheckpointRecord.model_validate(json.loads(text))
        if _plain(again) != content:
            raise ValueError("it would be read as something else")
    except ValidationError as error:
        raise UniteError(f"{target} was not written: its record: {one_line(error, CheckpointRecord)}") from error
    except (ValueError, TypeError) as error:
        raise UniteError(f"{target} was not written: its record: {error}") from error
    return text


def _plain(record: CheckpointRecord) -> dict[str, Any]:
    """A record as JSON gives it back. Pydantic's own way to JSON turns infinities into null without a word."""
    content: dict[str, Any] = json.loads(json.dumps(record.model_dump(), allow_nan=False, default=to_jsonable_python))
    return content


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its checksum, whatever the order and the blanks of its text."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_record(folder: Path, *, verify: bool = True) -> CheckpointRecord:
    """The record of a folder, after checking that it and its files are whole.

    Raises:
        UniteError: the record is missing or invalid, or a file is missing or damaged; the message says which.
    """
    path = folder / RECORD
    if not path.is_file():
        raise UniteError(f"{path} is missing", USE_ANOTHER)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it must hold a mapping of keys")
        check_format(path, content.get("config", {}))
        _check_checksum(content)
        record = CheckpointRecord.model_validate(content)
    except ValidationError as error:
        raise UniteError(f"{path} cannot be read: {one_line(error, CheckpointRecord)}", USE_ANOTHER) from error
    except RecursionError as error:
        raise UniteError(f"{path} cannot be read: too deeply nested", USE_ANOTHER) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise UniteError(f"{path} cannot be read: {reason}", USE_ANOTHER) from error
    for stem in REQUIRED[record.kind]:
        if not files_of(record.files, stem):
            raise UniteError(f"{path} names no {stem}{SUFFIX}", USE_ANOTHER)
    if verify:
        _check_files(folder, record)
    return record


def _check_checksum(content: Mapping[str, Any]) -> None:
    """Refuse a record that was changed after it was written.

    Raises:
        ValueError: it was, or it is of a version that has a checksum and has none.
    """
    found = content.get("checksum")
    if content.get("schema_version") == 1 and not found:
        return  # written before there were checksums
    if found != checksum(content):
        raise ValueError("it is damaged or was edited (its checksum differs)" if found else "it has no checksum")


def _check_files(folder: Path, record: CheckpointRecord) -> None:
    for name, digest in record.files.items():
        path = folder / name
        if Path(name).name != name:
            raise UniteError(f"{folder / RECORD} names a file outside its folder", USE_ANOTHER)
        try:
            whole = path.is_file() and file_sha256(path) == digest
        except OSError as error:
            raise UniteError(f"{path} cannot be read: {error.strerror or error}", USE_ANOTHER) from error
        if not whole:
            raise UniteError(f"{path} is missing or damaged", USE_ANOTHER)
    for stem in FINITE:
        for file in files_of(record.files, stem):
            for name, tensor in _tensors_of(folder / file):
                if has_nan(tensor):
                    raise UniteError(f"{folder / file} is damaged: {name} is not a number", USE_ANOTHER)


def has_nan(tensor: Tensor) -> bool:
    """Whether anything in a tensor is not a number; infinities are, and a mask may hold them."""
    return bool(torch.isnan(tensor).any()) if tensor.is_floating_point() else False


def read_tensors(folder: Path, stem: str, device: str = "cpu", span: Span | None = None) -> dict[str, Tensor]:
    """Tensors of one stem of a folder, whether one process has written them or several.

    Args:
        folder: of a checkpoint or export.
        stem: of the files.
        device: where they are put; only whole ones are.
        span: which rows of them are wanted; None: all.

    Raises:
        UniteError: a file is missing or damaged.
    """
    try:
        names = files_of(os.listdir(folder), stem) or [file_name(stem)]
    except OSError as error:
        raise UniteError(f"{folder} cannot be read: {error.strerror or error}", USE_ANOTHER) from error
    if span is None:
        return join([dict(_tensors_of(folder / name, device)) for name in names])
    try:
        return read_rows([folder / name for name in names], span)
    except (OSError, SafetensorError) as error:
        raise UniteError(f"{stem} of {folder} cannot be read: {error}", USE_ANOTHER) from error


def _tensors_of(path: Path, device: str = "cpu") -> Iterator[tuple[str, Tensor]]:
    """All tensors of a file, one after the other.

    Raises:
        UniteError: it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt", device=device) as stream:
            for name in stream.keys():  # noqa: SIM118 - not a dict
                yield name, stream.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise UniteError(f"{path} cannot be read: {error}", USE_ANOTHER) from error


def load_state(module: torch.nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load tensors, or the rows of them that lie on this rank, into a module, naming what does not fit.

    Raises:
        UniteError: names or shapes differ (the message lists the first ones), or a parameter is not finite.
    """
    try:
        module.load_state_dict(as_in(module, state), strict=True)
    except RuntimeError as error:
        lines = " ".join(str(error).split())[:300]
        raise UniteError(f"{where} does not fit the model: {lines}", "was it made by another version?") from error
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(on_this_rank(parameter)).all()):
            raise UniteError(f"{where}: {name} holds numbers that are not finite", USE_ANOTHER)
