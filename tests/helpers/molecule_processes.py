"""What tests of molecules run in processes of their own; workers can import these functions by name."""

from pathlib import Path
from typing import Protocol

from helpers.processes import Recorder
from unite_mm.contract import DataRequest
from unite_mm_molecule.config import MoleculeConfig


class Barrier(Protocol):
    """A barrier of `multiprocessing`."""

    def wait(self) -> int: ...


class Answers(Protocol):
    """A queue of `multiprocessing`."""

    def put(self, answer: tuple[int, str]) -> None: ...


def prepare_at_once(source: str, cache: str, barrier: Barrier, answers: Answers) -> None:
    """Prepare a source when all processes are ready; answer how often it was done here, and the hash of the splits."""
    from unite_mm_molecule.data.prepare import open_prepared

    progress = Recorder()
    barrier.wait()
    request = DataRequest(source, Path(cache), progress=progress, workers=1)
    prepared = open_prepared(request, MoleculeConfig(), "qm9")
    answers.put((len(progress.titles), prepared.card.split_hash))
