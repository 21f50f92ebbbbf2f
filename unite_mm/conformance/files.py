"""Checks of what users see: files and pictures."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unite_mm.conformance.natives import order_of
from unite_mm.conformance.opened import FILED
from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import difference, left_alone, unlike
from unite_mm.errors import UniteError, UsageError
from unite_mm.storage.samples import write_samples

NO_FORMAT = ".no-such-format"
PNG = b"\x89PNG\r\n"

DIGITS = 1e-4
"""What a file may round, relative to the largest number: four decimals of numbers around one, but no half precision."""


def files(subject: Subject) -> Iterator[Finding]:
    """A dozen samples survive being written and read, in every format of the manifest, also over an older file."""
    samples = subject.filed
    _ = subject.preferred_suffix
    for entry in subject.plugin.manifest.formats:
        if not entry.write:
            continue
        before = set(subject.scratch.iterdir())
        path = _write(subject, samples, f"samples{entry.suffix}")
        beside = sorted(other.name for other in set(subject.scratch.iterdir()) - before - {path})
        if beside:
            yield Finding(
                f"{entry.suffix}: write() leaves {beside[0]!r} beside the file", "write one file, or a folder"
            )
        if not entry.read:
            continue
        again = _read(subject, path)
        if len(again) != len(samples):
            yield Finding(f"{entry.suffix}: {len(samples)} samples are written and {len(again)} read", "keep each one")
            continue
        if entry.exact:
            yield from _survives(subject, samples, again, entry.suffix)
        yield from _stays(subject, again, entry.suffix)
        yield from _replaces(subject, path, samples[:3], entry.suffix)


def generated_files(subject: Subject) -> Iterator[Finding]:
    """Generated samples, which may be unsound, are written and read one by one too."""
    subject.need("written")
    generated, preferred = subject.generated, subject.preferred_suffix
    again = _read(subject, _write(subject, generated, f"generated{preferred}"))
    if len(again) != len(generated):
        yield Finding(
            f"{preferred}: {len(generated)} generated samples are written and {len(again)} read",
            "write every sample, unsound ones too: shares are taken of them all",
        )


def pairs(subject: Subject) -> Iterator[Finding]:
    """Inputs and reconstructions in two files are matched sample by sample."""
    subject.need("written")
    samples, outputs, modality, suffix = subject.samples, subject.outputs, subject.modality, subject.preferred_suffix
    inputs = _write(subject, samples, f"inputs{suffix}")
    results = _write(subject, outputs, f"reconstructions{suffix}")
    with calling("read_pairs()"):
        left, right = modality.read_pairs(inputs, results)
    if not len(left) == len(right) == len(samples):
        yield Finding(
            f"read_pairs() gives {len(left)} inputs and {len(right)} reconstructions of {len(samples)}",
            "match each sample of one file with its partner in the other",
        )


def refused_files(subject: Subject) -> Iterator[Finding]:
    """Files of no known format and files that do not exist are refused with a message."""
    samples, modality, suffix = subject.samples, subject.modality, subject.preferred_suffix
    absent = subject.scratch / f"absent{'' if suffix == '/' else suffix}"
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        (f"write() to a file *{NO_FORMAT}", lambda: modality.write(samples, subject.scratch / f"x{NO_FORMAT}")),
        ("read() of a file that does not exist", lambda: modality.read(absent)),
    )
    for what, call in calls:
        try:
            call()
        except UsageError:
            continue
        except Exception as error:
            raise UniteError(f"{what} raised {type(error).__name__}: {error}", "raise UsageError") from error
        yield Finding(f"{what} is not refused", "raise UsageError that names the file and the known formats")


def pictures(subject: Subject) -> Iterator[Finding]:
    """Samples, and inputs beside their reconstructions, can be drawn as PNG."""
    samples, outputs, modality = subject.samples, subject.outputs, subject.modality
    path = subject.scratch / "picture.png"
    calls: tuple[tuple[str, Callable[[], object]], ...] = (
        ("save_picture", lambda: modality.save_picture(samples, path)),
        ("save_pairs_picture", lambda: modality.save_pairs_picture(samples, outputs, path)),
    )
    for name, call in calls:
        path.unlink(missing_ok=True)
        with left_alone(f"{name}()", samples=samples, outputs=outputs), calling(f"{name}()"):
            call()
        if not path.is_file() or not path.read_bytes().startswith(PNG):
            yield Finding(f"{name}() leaves no PNG file", "write one at the path it is given")


def _write(subject: Subject, samples: Sequence[Any], name: str) -> Path:
    path = subject.scratch / name.rstrip("/")
    modality = subject.modality
    with left_alone("write()", samples=samples), calling(f"write() to {name}"):
        write_samples(modality, samples, path)
    return path


def _read(subject: Subject, path: Path) -> list[Any]:
    modality = subject.modality
    with calling(f"read() of {path.name}"):
        again = modality.read(path)
    if not isinstance(again, list):
        raise UniteError(f"read() of {path.name} returns {type(again).__name__}", "return a list of samples")
    return again


def _survives(subject: Subject, samples: Sequence[Any], again: list[Any], suffix: str) -> Iterator[Finding]:
    """Compare what the model would see of the samples before and after, and the numbers they hold."""
    modality, statistics = subject.modality, subject.statistics
    with calling("encode_samples()"):
        before = modality.encode_samples(samples, statistics)
    with calling(f"encode_samples() of samples read from {suffix}"):
        after = modality.encode_samples(again, statistics)
    where = difference(before, after, DIGITS) or _difference(samples, again)
    if where and order_of(samples, again, DIGITS) is not None:
        yield Finding(
            f"samples come back from {suffix} in another order",
            "keep their order: of numbered names 10 sorts before 9, so fill them up with zeros",
        )
    elif where:
        yield Finding(
            f"samples do not survive writing and reading as {suffix}: {where} differs",
            "write all of a sample, with all its digits, or mark the format in the manifest with `exact: false`",
        )


def _stays(subject: Subject, again: list[Any], suffix: str) -> Iterator[Finding]:
    """What was read is written and read again: nothing may change any more, whatever a format leaves out."""
    second = _read(subject, _write(subject, again, f"second{suffix}"))
    where = "their number" if len(again) != len(second) else _difference(again, second)
    if where:
        yield Finding(
            f"{suffix}: what was read, written once more, reads differently: {where} differs",
            "write and read in one order, in one unit, and with all digits",
        )


def _replaces(subject: Subject, path: Path, fewer: Sequence[Any], suffix: str) -> Iterator[Finding]:
    """Fewer samples over an older file: refused, or nothing of the older ones is left."""
    modality = subject.modality
    try:
        modality.write(fewer, path)
    except UniteError:
        return
    except Exception as error:
        raise UniteError(
            f"write() over an older {suffix} raised {type(error).__name__}: {error}",
            "replace what was there, or refuse with UsageError",
        ) from error
    left = _read(subject, path)
    if len(left) != len(fewer):
        yield Finding(
            f"{suffix}: {len(fewer)} samples written over {FILED} are read as {len(left)}",
            "replace what was there, or refuse a folder that is not empty with UsageError",
        )


def _difference(left: Sequence[Any], right: Sequence[Any]) -> str | None:
    found = (unlike(one, other, DIGITS, texts=False) for one, other in zip(left, right, strict=True))
    return next((path for path in found if path), None)
