"""Properties of a molecule from its elements and positions: what conditional generation is judged by.

Ridge regression on counts (elements, distances by pair of elements, environments of atoms up to their second
neighbours) and on random Fourier features of these. It takes no bonds: what counts as a neighbour follows from
distances, so that it says something of any sample. A closed form, so that training takes a minute and repeats itself.

Dimensions: N molecules, B molecules of a chunk, A atoms of the largest of them, E elements, F features, P properties.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unite_mm.progress import Progress
from unite_mm_molecule.molecule import Molecule

Floats = NDArray[np.float64]

VERSION = 1
"""Of the features and the fit; raise it with any change, so that kept regressors are trained anew."""

CENTRES = np.concatenate([np.arange(0.9, 1.7, 0.04), np.arange(1.7, 3.2, 0.1), np.arange(3.2, 7.01, 0.4)])
"""Distances, in angstrom, around which pairs of atoms are counted: fine where bonds are."""
_WIDTHS = np.gradient(CENTRES)

_RADII = {
    1: 0.31,
    5: 0.84,
    6: 0.76,
    7: 0.71,
    8: 0.66,
    9: 0.57,
    14: 1.11,
    15: 1.07,
    16: 1.05,
    17: 1.02,
    35: 1.2,
    53: 1.39,
}
"""Covalent radii in angstrom (Cordero et al. 2008)."""
_REACH = 1.25
"""Neighbours are nearer than this times the sum of their radii."""

MOST_ENVIRONMENTS = 600
"""Environments that are told apart, those of most molecules."""
RANDOM = 1024
"""Random Fourier features."""
_FREQUENCY = 0.5
"""Their standard deviation along a typical difference of two molecules. On 5,000 molecules of QM9 half of it is better
than once or twice (error of the gap 0.33, 0.34 and 0.37 eV)."""
_PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_CHUNK = 256


@dataclass(frozen=True)
class Regressor:
    """A trained regressor.

    Attributes:
        elements: (E,) atomic numbers it knows.
        environments: (V,) codes of the environments it knows, ascending.
        mean: (F,) of the features over the training molecules.
        scale: (F,) their deviations.
        frequencies: (F, R) of the random Fourier features.
        phases: (R,) likewise.
        weights: (F + R + 1, P) of features, Fourier features and a constant.
        low: (P,) least value of the training molecules; predictions stay within.
        high: (P,) largest value.
    """

    elements: NDArray[np.int64]
    environments: NDArray[np.int64]
    mean: Floats
    scale: Floats
    frequencies: Floats
    phases: Floats
    weights: Floats
    low: Floats
    high: Floats

    def predict(self, molecules: Sequence[Molecule]) -> Floats:
        """(N, P) properties; nan for molecules without finite positions."""
        found = np.full((len(molecules), self.weights.shape[1]), np.nan)
        able = [place for place, one in enumerate(molecules) if readable(one)]
        for start in range(0, len(able), _CHUNK):
            part = able[start : start + _CHUNK]
            raw = features([molecules[place] for place in part], self.elements, self.environments)
            found[part] = np.clip(self._expand(raw) @ self.weights, self.low, self.high)
        return found

    def _expand(self, raw: Floats) -> Floats:
        return expand((raw - self.mean) / self.scale, self.frequencies, self.phases)

    def write(self, path: Path) -> None:
        """Write to a file."""
        with path.open("wb") as file:
            arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> "Regressor":
        """The inverse of `write`.

        Raises:
            FileNotFoundError: there is none.
            ValueError, KeyError, BadZipFile: it is damaged.
        """
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def readable(molecule: Molecule) -> bool:
    """Whether there is anything to compute from: atoms with finite positions."""
    return not molecule.flaw and molecule.size > 0 and molecule.positions is not None and molecule.finite


def train_regressor(molecules: Sequence[Molecule], values: Floats, progress: Progress) -> Regressor:
    """Train on molecules with positions.

    A tenth of them decides how strong the penalty of the ridge is, for each property.

    Args:
        molecules: N of them.
        values: (N, P) their properties.
        progress: where to show the work.
    """
    elements = np.unique(np.concatenate([one.numbers for one in molecules])).astype(np.int64)
    environments = _known_environments(molecules, elements)
    chunks = []
    with progress.task("describing molecules", len(molecules)) as advance:
        for start in range(0, len(molecules), _CHUNK):
            part = molecules[start : start + _CHUNK]
            chunks.append(features(part, elements, environments))
            advance(len(part))
    raw = np.concatenate(chunks)
    mean, scale = raw.mean(0), np.maximum(raw.std(0), 0.05)  # of rare features: a few samples must not count for much
    random = np.random.default_rng(0)
    frequencies = random.standard_normal((raw.shape[1], RANDOM)) * (_FREQUENCY / np.sqrt(raw.shape[1]))
    phases = random.uniform(0, 2 * np.pi, RANDOM)
    inputs = expand((raw - mean) / scale, frequencies, phases)
    weights = _ridge(inputs, values)
    return Regressor(elements, environments, mean, scale, frequencies, phases, weights, values.min(0), values.max(0))


def expand(scaled: Floats, frequencies: Floats, phases: Floats) -> Floats:
    """(N, F + R + 1) features, their Fourier features, and a constant."""
    waves = np.cos(scaled @ frequencies + phases)
    return np.concatenate([scaled, waves, np.ones((len(scaled), 1))], axis=1)


def _ridge(inputs: Floats, values: Floats) -> Floats:
    """(F + R + 1, P) weights; for each property under the penalty that is best for every tenth molecule."""
    tenth = np.arange(len(inputs)) % 10 == 0
    centre, spread = values.mean(0), np.maximum(values.std(0), 1e-12)
    targets = (values - centre) / spread
    fitted, checked = inputs[~tenth], inputs[tenth]
    gram, moments = fitted.T @ fitted, fitted.T @ targets[~tenth]
    solutions = [np.linalg.solve(gram + _diagonal(penalty, gram), moments) for penalty in _PENALTIES]
    errors = np.array([np.abs(checked @ one - targets[tenth]).mean(0) for one in solutions])  # (penalties, P)
    best = errors.argmin(0)
    weights = np.stack([solutions[choice][:, place] for place, choice in enumerate(best.tolist())], axis=1) * spread
    weights[-1] += centre
    return np.asarray(weights)


def _diagonal(penalty: float, gram: Floats) -> Floats:
    return np.eye(len(gram)) * float(penalty * np.trace(gram) / len(gram))


def features(molecules: Sequence[Molecule], elements: NDArray[np.int64], environments: NDArray[np.int64]) -> Floats:
    """(B, F) counts of elements, of distances by pair of elements, and of environments."""
    kinds, distances = _padded(molecules, elements)
    rows, first, second = np.nonzero(np.triu(np.isfinite(distances), 1))
    count = len(elements)
    low, high = np.sort([kinds[rows, first], kinds[rows, second]], axis=0)
    near = np.exp(-0.5 * ((distances[rows, first, second][:, None] - CENTRES) / _WIDTHS) ** 2)  # (pairs, centres)
    histogram = np.zeros((len(molecules) * count * count, len(CENTRES)))
    np.add.at(histogram, (rows * count + low) * count + high, near)
    pairs = histogram.reshape(len(molecules), count * count, -1)[:, np.flatnonzero(np.triu(np.ones((count, count))))]
    single = np.stack([(kinds == kind).sum(1) for kind in range(count)], axis=1)
    return np.concatenate(
        [single, pairs.reshape(len(molecules), -1), _environment_counts(kinds, distances, elements, environments)],
        axis=1,
    )


def _padded(molecules: Sequence[Molecule], elements: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Kinds of atoms (B, A), -1 for none, and their distances (B, A, A), infinite beside and of an atom to itself."""
    most = max(one.size for one in molecules)
    kinds = np.full((len(molecules), most), -1)
    positions = np.zeros((len(molecules), most, 3))
    for row, one in enumerate(molecules):
        known = np.searchsorted(elements, one.numbers).clip(max=len(elements) - 1)
        kinds[row, : one.size] = np.where(elements[known] == one.numbers, known, -1)
        positions[row, : one.size] = one.positions
    distances = np.sqrt(np.square(positions[:, :, None] - positions[:, None]).sum(-1))
    absent = kinds < 0
    distances[absent[:, :, None] | absent[:, None] | np.eye(most, dtype=bool)] = np.inf
    return kinds, distances


def _codes(kinds: NDArray[np.int64], distances: Floats, elements: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, A, 3) codes of each atom's environment up to its first, second and third neighbours."""
    radii = np.array([_RADII.get(number, 1.2) for number in elements.tolist()])[kinds]
    joined = (distances < _REACH * (radii[:, :, None] + radii[:, None])).astype(np.int64)
    found: list[NDArray[np.int64]] = [kinds + 1]
    for _ in range(3):
        around = np.einsum("bij,bj->bi", joined, _mixed(found[-1]))
        found.append(_mixed(found[-1] * 31 + around))
    return np.stack(found[1:], axis=-1)


def _mixed(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes scattered over 40 bits, so that their sums differ."""
    with np.errstate(over="ignore"):
        scattered = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        scattered = (scattered ^ (scattered >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (scattered >> np.uint64(24)).astype(np.int64)


def _known_environments(molecules: Sequence[Molecule], elements: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes of the environments that occur most often, ascending."""
    codes = []
    for start in range(0, len(molecules), _CHUNK):
        kinds, distances = _padded(molecules[start : start + _CHUNK], elements)
        codes.append(_codes(kinds, distances, elements)[kinds >= 0].ravel())
    distinct, counts = np.unique(np.concatenate(codes), return_counts=True)
    often = np.argsort(-counts, kind="stable")[:MOST_ENVIRONMENTS]
    return np.sort(distinct[often])


def _environment_counts(
    kinds: NDArray[np.int64], distances: Floats, elements: NDArray[np.int64], environments: NDArray[np.int64]
) -> Floats:
    """(B, V) how often each known environment occurs."""
    codes = _codes(kinds, distances, elements)
    place = np.searchsorted(environments, codes).clip(max=len(environments) - 1)
    known = (environments[place] == codes) & (kinds >= 0)[..., None]
    rows = np.broadcast_to(np.arange(len(kinds))[:, None, None], codes.shape)[known]
    counted = np.bincount(rows * len(environments) + place[known], minlength=len(kinds) * len(environments))
    return counted.reshape(len(kinds), len(environments)).astype(np.float64)
