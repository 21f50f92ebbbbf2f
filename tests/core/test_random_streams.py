"""No two uses of random numbers share a stream, whatever their seeds, steps and samples."""

import ast
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.repository import ROOT

from unite_mm.random_streams import Stream, seed_sequence, stream_generator, stream_seed, to_stream

HOME = ROOT / "unite_mm" / "random_streams.py"
GLOBAL = {"torch.manual_seed", "np.random.seed", "random.seed"}
"""Allowed where the global generators are put elsewhere and back: start weights, and the checks of a plugin."""


def calls() -> list[tuple[Path, str]]:
    """Every call in the core, and in the plugins, by its dotted name."""
    found = []
    for folder in ("unite_mm", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [(path, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return found


def test_every_stream_has_one_use() -> None:
    uses: Counter[str] = Counter()
    for path in sorted((ROOT / "unite_mm").rglob("*.py")):
        if path != HOME:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
            uses.update(node.attr for node in attributes if ast.unparse(node.value) == "Stream")
    assert uses == {stream.name: 1 for stream in Stream}


def test_the_core_draws_from_named_streams_alone() -> None:
    for path, name in calls():
        if path == HOME or not path.is_relative_to(ROOT / "unite_mm"):
            continue
        if name.endswith(("manual_seed", "random.seed")):
            where = path.relative_to(ROOT / "unite_mm").as_posix()
            assert name in GLOBAL or where.startswith("conformance/"), f"{where}: {name}"
            assert where.startswith("conformance/"), f"{where}: {name}"
        assert not name.endswith("SeedSequence"), path


def test_a_generator_that_is_used_again_has_the_numbers_of_a_fresh_one() -> None:
    used = torch.Generator()
    for step in (3, 1, 3):
        torch.rand(5, generator=used)
        again = to_stream(used, Stream.TRAINING_NOISE, 7, step)
        assert again is used
        fresh = stream_generator(Stream.TRAINING_NOISE, 7, step)
        assert torch.equal(torch.randn(40, generator=again), torch.randn(40, generator=fresh))


def test_members_are_different_and_not_zero() -> None:
    assert len({int(stream) for stream in Stream}) == len(Stream)
    assert all(stream > 0 for stream in Stream)


def test_streams_of_small_and_zero_names_are_all_different() -> None:
    """NumPy ignores zeros at the end of the entropy, and pads short entropy with them."""
    names = [*itertools.product(range(3), repeat=1), *itertools.product(range(3), repeat=2)]
    names += [*itertools.product(range(3), repeat=3), *itertools.product(range(2), repeat=4)]
    seeds = {stream_seed(stream, *own): (stream, own) for stream in Stream for own in names}
    assert len(seeds) == len(Stream) * len(names)
    plain = np.random.SeedSequence((1,)).generate_state(4), np.random.SeedSequence((1, 0)).generate_state(4)
    assert np.array_equal(*plain)  # why the member comes last


@pytest.mark.parametrize("names", [(0,), (0, 5), (7, 0, 0), (2**40, 3)])
def test_a_stream_is_the_same_every_time(names: tuple[int, ...]) -> None:
    first, second = (torch.rand(5, generator=stream_generator(Stream.PRIOR, *names)) for _ in range(2))
    other = torch.rand(5, generator=stream_generator(Stream.SAMPLING_NOISE, *names))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert 0 <= stream_seed(Stream.PRIOR, *names) < 2**63
    drawn = [np.random.default_rng(seed_sequence(Stream.DATA_ORDER, *names)).integers(0, 2**60) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_known_values() -> None:
    """What a seed means is fixed: samples of shared models must not change."""
    values = [stream_seed(Stream.PRIOR, 0, 0), stream_seed(Stream.TRAINING_NOISE, 3, 1, 0)]
    assert values == [3542883155007454814, 5012628953840853262]
