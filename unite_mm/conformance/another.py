"""Check of what another process makes of a plugin: nothing may lie in globals, or follow the order of hashes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from unite_mm.conformance.other_process import HASH_SEEDS, portrait_of_data, portrait_of_model, run_elsewhere
from unite_mm.conformance.report import Blocked, Finding
from unite_mm.conformance.subject import Subject
from unite_mm.conformance.values import alike, contents
from unite_mm.errors import UniteError
from unite_mm.storage.samples import write_samples

ROUNDING = 1e-4

GLOBALS = "a checkpoint is all that sampling has: pass on in statistics() what open_data() found, not in a global"

ORDER = (
    "sort what comes from a set or a folder, use hashlib instead of hash(), and draw from generators of a fixed seed"
)


def another_process(subject: Subject) -> Iterator[Finding]:
    """Another process, with another hash seed, loads the model without any data, and opens the data just so."""
    if subject.mistaken:
        raise Blocked(subject.mistaken[0])
    subject.need("latents", "generated")
    folder = subject.scratch / "elsewhere"
    folder.mkdir(exist_ok=True)
    # A name of its own: write_aside would not replace an older folder.
    samples = folder / f"samples{subject.preferred_suffix}".rstrip("/")
    write_samples(subject.modality, subject.samples, samples)
    job = {
        "model": str(subject.exported),
        "samples": str(samples),
        "name": subject.name,
        "preset": subject.preset,
        "settings": list(subject.settings),
        "source": subject.source,
        "cache": str(subject.cache),
        "indices": subject.indices.tolist(),
        "threads": torch.get_num_threads(),
    }
    natives = subject.modality.read(samples)
    ours = {
        "model": dict(contents(portrait_of_model(subject.model, subject.name, natives))),
        "data": dict(contents(portrait_of_data(subject.data, subject.raw_statistics, subject.indices))),
    }
    for seed in HASH_SEEDS:
        found = run_elsewhere({**job, "out": str(folder / seed)}, seed)
        yield from (findings := list(_compared(ours, found, folder / seed)))
        if findings or not _same_by_chance(subject.raw_statistics, found):
            return


def _compared(ours: Mapping[str, Mapping[str, Tensor | str]], found: dict[str, Any], folder: Path) -> Iterator[Finding]:
    """What differs there; the data only if the model is the same."""
    for part, hint, what in (
        ("model", GLOBALS, "a model that another process loads, without opening any data,"),
        ("data", ORDER, "data that another process opens"),
    ):
        if part not in found:
            raise UniteError(f"the other process ended early: {found.get('error', 'no result')}", "see above")
        if isinstance(found[part], str):
            yield Finding(f"{what} cannot be used: {found[part]}", hint, found.get("traceback", ""))
            return
        theirs: dict[str, Tensor | str] = {**load_file(folder / f"{part}.safetensors"), **found[part]}
        for path, value in ours[part].items():
            other = theirs.get(path)
            same = alike(value, other, ROUNDING) if isinstance(value, Tensor) and isinstance(other, Tensor) else None
            if not (value == other if same is None else same):
                yield Finding(f"{what} differs: {path}", hint)
                return


def _same_by_chance(statistics: Any, found: dict[str, Any]) -> bool:
    """Whether texts among the statistics happen to have one order under both hash seeds, so that nothing is shown."""
    here = [list(set(texts)) for texts in found["texts"]]
    return bool(here) and any(own == other for own, other in zip(here, found["orders"], strict=True))
