"""A second Python with another hash seed, in which a check loads a model and opens data anew.

It is started once and kept: importing torch takes longer than all else. Each job runs in a fork of it, where the system
has forks, so that none sees what another has imported.

    python -m unite_mm.conformance.other_process < lines of JSON, one for each job
"""

import atexit
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from unite_mm.api import UNITE
from unite_mm.conformance.opened import OpenedPlugin
from unite_mm.conformance.values import check_generator, contents
from unite_mm.contract import ModalityData
from unite_mm.registry import discover

HASH_SEEDS = ("1", "2", "3")
"""Of the other processes; the second and third are started only where the first has the order of this one by chance."""

DRAWS = 16

MODULE = "unite_mm.conformance.other_process"


def portrait_of_model(model: UNITE, name: str, samples: list[Any]) -> dict[str, Any]:
    """What a model makes of native samples, and draws from its prior, without any data."""
    batch = model.modalities[name].encode_samples(samples, model.statistics[name])
    latents = model.tokenize(batch, name)
    draws = [model.modules_of(name).prior(check_generator(seed)) for seed in range(DRAWS)]
    spec = model.modules_of(name).condition
    return {
        "latents": latents.values,
        "samples": model.decode(latents),
        "prior": draws,
        "condition": [spec.kind, spec.size, list(map(str, spec.names))],
    }


def portrait_of_data(data: ModalityData, statistics: Any, indices: Tensor) -> dict[str, Any]:
    """What data hold: their card's hash, statistics, a batch and native samples."""
    return {
        "card.split_hash": data.card.split_hash,
        "card.splits": dict(data.card.splits),
        "statistics()": json.loads(json.dumps(dict(statistics))),
        "batch()": data.batch("train", indices, check_generator(0)),
        "samples()": data.samples("train", indices),
    }


def run_elsewhere(job: dict[str, Any], hash_seed: str) -> dict[str, Any]:
    """Run a job in the other process.

    Returns:
        What it wrote: under `model` and `data` the texts of each portrait, or what was raised, in words.
    """
    words = {**job, "environment": dict(os.environ), "path": sys.path, "folder": str(Path.cwd())}
    result = Path(job["out"]) / "result.json"
    server = _server(hash_seed)
    assert server.stdin is not None and server.stdout is not None
    try:
        server.stdin.write(json.dumps(words) + "\n")
        server.stdin.flush()
        said = server.stdout.readline().strip()
    except OSError as error:
        return {"error": str(error)}
    if not result.is_file():
        return {"error": f"exit code {said or server.poll()}"}
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def start() -> None:
    """Begin to start the first of the other processes, if none runs: it is ready when it is needed."""
    _server(HASH_SEEDS[0])


@cache
def _server(hash_seed: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    atexit.register(_end, process)
    return process


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def serve(jobs: IO[str], answers: IO[str]) -> None:
    """Run each job of a line, and say how it ended."""
    for line in jobs:
        job = json.loads(line)
        if sys.platform == "linux":
            child = os.fork()
            if child == 0:
                do(job)
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            do(job)
            code = 0
        answers.write(f"{code}\n")
        answers.flush()


def do(job: dict[str, Any]) -> None:
    """Load the model, then open the data, and write what was found."""
    os.environ.update(job["environment"])
    sys.path[:] = job["path"]
    os.chdir(job["folder"])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(987654321)
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    part = "model"
    try:
        model = UNITE.from_pretrained(job["model"])
        model.network.train()
        samples = model.modalities[job["name"]].read(Path(job["samples"]))
        found[part] = _kept(portrait_of_model(model, job["name"], samples), out / f"{part}.safetensors")
        part = "data"
        settings = {key: job[key] for key in ("preset", "settings", "source")}
        opened = OpenedPlugin(discover(), job["name"], **settings, cache=Path(job["cache"]), scratch=out)
        found["texts"] = list(_texts(opened.raw_statistics))
        found["orders"] = [list(set(texts)) for texts in found["texts"]]
        portrait = portrait_of_data(opened.data, opened.raw_statistics, torch.tensor(job["indices"]))
        found[part] = _kept(portrait, out / f"{part}.safetensors")
    except (Exception, SystemExit) as error:  # third-party code may raise anything
        lines = str(error).splitlines() or [""]
        found[part] = f"{type(error).__name__}: {lines[0]}"
        found["traceback"] = traceback.format_exc()
    (out / "result.json").write_text(json.dumps(found), encoding="utf-8")


def _kept(portrait: dict[str, Any], file: Path) -> dict[str, str]:
    """Write the tensors of a portrait; returns its texts."""
    parts = dict(contents(portrait))
    save_file({path: part.contiguous() for path, part in parts.items() if isinstance(part, Tensor)}, file)
    return {path: part for path, part in parts.items() if isinstance(part, str)}


def _texts(value: Any) -> Iterator[list[str]]:
    """Lists of several different texts, and keys of mappings, anywhere among the statistics."""
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    own = list(value) if isinstance(value, dict) else [item for item in items if isinstance(item, str)]
    if len(set(own)) > 1 and not isinstance(value, dict):
        yield own
    for item in items:
        yield from _texts(item)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a plugin prints
    serve(sys.stdin, channel)
