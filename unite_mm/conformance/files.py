"""Checks of what users see: files, pictures, metrics."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import difference
from unite_mm.errors import UniteError, UsageError
from unite_mm.storage.samples import write_samples
from unite_mm_schemas.metrics import Metric, Score

NO_FORMAT = ".no-such-format"
PNG = b"\x89PNG\r\n"

ROUNDING = 1e-2
"""Digits that a file may drop, relative to the largest number."""

LARGEST_REFERENCE = 5000
"""Training samples up to which generated samples are also scored against the data."""


def files(subject: Subject) -> Iterator[Finding]:
    """Samples survive being written and read, in every format of the manifest."""
    samples, preferred = subject.samples, subject.preferred_suffix
    for entry in subject.plugin.manifest.formats:
        if not entry.write:
            continue
        path = _write(subject, samples, f"samples{entry.suffix}")
        if not entry.read:
            continue
        again = _read(subject, path)
        if len(again) != len(samples):
            yield Finding(f"{entry.suffix}: {len(samples)} samples are written and {len(again)} read", "keep each one")
        elif entry.suffix == preferred:
            yield from _survives(subject, again, entry.suffix)


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
        with calling(f"{name}()"):
            call()
        if not path.is_file() or not path.read_bytes().startswith(PNG):
            yield Finding(f"{name}() leaves no PNG file", "write one at the path it is given")


def reconstruction_metrics(subject: Subject) -> Iterator[Finding]:
    """Reconstructions are scored: each number with its definition, and all that the manifest lists."""
    samples, outputs, modality = subject.samples, subject.outputs, subject.modality
    with calling("score_reconstruction()", "every Metric needs name, title, value and definition"):
        score = modality.score_reconstruction(samples, outputs, subject.progress, 1)
    yield from _scored(score, "reconstruction", subject, complete=True)


def generation_metrics(subject: Subject) -> Iterator[Finding]:
    """Generated samples are scored, with and without a reference: each number with its definition."""
    generated, data, modality = subject.generated, subject.data, subject.modality
    small = data.size("train") <= LARGEST_REFERENCE
    for reference in (None, data) if small else (None,):
        with calling("score_generation()", "every Metric needs name, title, value and definition"):
            score = modality.score_generation(generated, reference, subject.progress, 1)
        yield from _scored(score, "generation", subject, complete=reference is not None)


def _write(subject: Subject, samples: Sequence[Any], name: str) -> Path:
    path = subject.scratch / name.rstrip("/")
    modality = subject.modality
    with calling(f"write() to {name}"):
        write_samples(modality, samples, path)
    return path


def _read(subject: Subject, path: Path) -> list[Any]:
    modality = subject.modality
    with calling(f"read() of {path.name}"):
        return modality.read(path)


def _survives(subject: Subject, again: list[Any], suffix: str) -> Iterator[Finding]:
    """Compare what the model would see of the samples before and after."""
    modality, statistics = subject.modality, subject.statistics
    with calling("encode_samples()"):
        before = modality.encode_samples(subject.samples, statistics)
    with calling(f"encode_samples() of samples read from {suffix}"):
        after = modality.encode_samples(again, statistics)
    where = difference(before, after, ROUNDING)
    if where:
        yield Finding(
            f"samples do not survive writing and reading as {suffix}: {where} differs",
            "write all of a sample, with enough digits, or list a format that does so first",
        )


def _scored(score: Any, kind: str, subject: Subject, *, complete: bool) -> Iterator[Finding]:
    what = f"score_{kind}()"
    if not isinstance(score, Score) or score.kind != kind:
        raise UniteError(
            f"{what} returns {score.kind if isinstance(score, Score) else type(score).__name__}",
            f'return Score(kind="{kind}", metrics=...) of unite_mm_schemas.metrics',
        )
    names = [metric.name for metric in score.metrics]
    if not names:
        yield Finding(f"{what} measures nothing", "report at least one metric; value=None where it is unavailable")
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding(f"{what} reports {name!r} twice", "give each metric a name of its own")
    for metric in score.metrics:
        yield from _number(metric, what)
    listed = [entry.name for entry in subject.plugin.manifest.metrics if entry.kind == kind]
    for name in listed if complete else ():
        if name not in names:
            yield Finding(
                f"the manifest lists the metric {name!r}, but {what} does not report it",
                "report it, with value=None where it cannot be measured, or take it off the manifest",
            )


def _number(metric: Metric, what: str) -> Iterator[Finding]:
    where = f"{what}, metric {metric.name!r}:"
    if not metric.definition.strip() or not metric.title.strip():
        yield Finding(f"{where} it has no definition or no title", "say what is counted over what")
    if metric.value is not None and not math.isfinite(metric.value):
        yield Finding(f"{where} its value is {metric.value}", "use None where nothing can be measured")
    if metric.count is not None and metric.total is not None and metric.count > metric.total:
        yield Finding(f"{where} {metric.count} of {metric.total}", "the count is part of the total")
    if metric.interval is not None and metric.value is not None:
        low, high = metric.interval
        if not low - 1e-9 <= metric.value <= high + 1e-9:
            yield Finding(f"{where} {metric.value} lies outside its interval", "give the 95 % interval of the value")
