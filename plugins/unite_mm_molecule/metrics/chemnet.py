"""Frechet ChemNet distance (Preuer et al. 2018): Frechet distance of two sets of molecules in the features of ChemNet.

Needs the package `fcd` of ChemNet's authors, which holds the network and is imported inside. Its file of weights is
read by `torch.load` without code (`weights_only`, the default since torch 2.6).

Dimensions: N molecules, D = 512 features.
"""

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.errors import UniteError
from unite_mm.kit.parallel import map_items
from unite_mm.progress import Progress

_CHUNK = 64
"""Molecules that the network sees at once."""
_LIMIT = 600.0
"""Seconds for a chunk, which takes a quarter of one."""
_LENGTH = 350
"""Letters that ChemNet pads a SMILES to; its features depend on it."""


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features.

    Attributes:
        mu: (D,).
        sigma: (D, D).
        count: molecules they were taken of.
    """

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    count: int

    def write(self, path: Path) -> None:
        """Write as `.npz`.

        Raises:
            OSError: it cannot be written.
        """
        with path.open("wb") as file:
            np.savez(file, mu=self.mu, sigma=self.sigma, count=self.count)

    @classmethod
    def read(cls, path: Path) -> "Moments":
        """The inverse of `write`.

        Raises:
            OSError, KeyError, ValueError: there is no such file, or it is damaged.
        """
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["mu"], arrays["sigma"], int(arrays["count"]))


def chemnet_moments(smiles: Sequence[str], title: str, progress: Progress, workers: int) -> Moments:
    """Moments of the features of molecules.

    Args:
        smiles: canonical SMILES, at least two; equal ones count as often as they occur.
        title: of the progress bar.
        progress: where to show it.
        workers: processes; 0: as many as there are cores.

    Raises:
        UniteError: the network crashed.
    """
    distinct, places = np.unique(np.array(smiles), return_inverse=True)
    texts = distinct.tolist()
    short = [text for text in texts if len(text) < _LENGTH]
    chunks = [short[start : start + _CHUNK] for start in range(0, len(short), _CHUNK)]
    chunks += [[text] for text in texts if len(text) >= _LENGTH]  # alone: padding is common to a chunk
    # Loading torch takes a process two seconds, as long as the work on a few hundred molecules.
    limit = _LIMIT if len(chunks) > 8 and workers != 1 else None
    parts = map_items(chemnet_features, chunks, title=title, progress=progress, workers=workers, chunk=1, limit=limit)
    rows: dict[str, NDArray[np.float32]] = {}
    for chunk, part in zip(chunks, parts, strict=True):
        if part is None:
            hint = "leave the distance out with --set NAME.metrics.fcd=false"
            raise UniteError(f"ChemNet crashed or took over {_LIMIT:.0f} s on {len(chunk)} molecules", hint)
        rows.update(zip(chunk, part, strict=True))
    features = np.stack([rows[text] for text in texts])[places.reshape(-1)].astype(np.float64)
    return Moments(features.mean(axis=0), np.cov(features, rowvar=False), len(smiles))


def chemnet_features(smiles: Sequence[str]) -> NDArray[np.float32]:
    """(N, D) features of a few molecules.

    Raises:
        ImportError: `fcd` is not installed.
    """
    import torch
    from fcd.utils import SmilesDataset

    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)
    length = max(_LENGTH, *(len(text) + 1 for text in smiles))
    letters = SmilesDataset(list(smiles), pad_len=length, warn=False)
    rows = np.stack([letters[index] for index in range(len(smiles))])
    with torch.no_grad():
        found: NDArray[np.float32] = _network()(torch.from_numpy(rows).float().transpose(1, 2)).numpy()
    return found


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Frechet distance of two normal distributions (Heusel et al. 2017), from their moments.

    The trace of the square root of the product of the covariances is taken from a symmetric matrix, so that singular
    ones do no harm: there are fewer molecules than features in small sets.
    """
    values, vectors = np.linalg.eigh(first.sigma)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    middle = np.sqrt(np.linalg.eigvalsh(root @ second.sigma @ root).clip(min=0)).sum()
    gap = first.mu - second.mu
    return max(0.0, float(gap @ gap + np.trace(first.sigma) + np.trace(second.sigma) - 2 * middle))


@cache
def _network() -> Any:
    from fcd import load_ref_model

    return load_ref_model()
