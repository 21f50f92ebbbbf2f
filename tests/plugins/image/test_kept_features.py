"""Features of a reference split are computed once for the same data and network, and anew for any other."""

from pathlib import Path

import pytest
import torch
from helpers.image_files import Recorder, folder, opened, pictures
from helpers.image_networks import small_network

from unite_mm.errors import UsageError
from unite_mm_image.config import ImageMetrics
from unite_mm_image.metrics import kept_features
from unite_mm_image.metrics.features import Extractor, Features, open_extractor
from unite_mm_image.metrics.image_sets import SplitSet
from unite_mm_image.metrics.kept_features import features_of_reference

COMPUTED = ["Features of the reference"]
"""Titles of the bars that computing shows."""


def found(
    source: Path, cache: Path, extractor: Extractor, split: str = "train", **changes: int
) -> tuple[Features, list[str]]:
    """The features of a split and what was computed for them, in what might be another process."""
    progress = Recorder()
    images = SplitSet(opened(source, cache, **changes), split)
    features = features_of_reference(images, extractor, progress)
    return features, [title.partition(" / ")[0] for title in progress.titles]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folder(tmp_path / "images", pictures(lambda index: f"{'ab'[index % 2]}/{index}.png", 12))


@pytest.fixture
def extractor(tmp_path: Path) -> Extractor:
    return open_extractor(ImageMetrics(features=str(small_network(tmp_path / "small.pt"))))


def test_the_second_time_nothing_is_computed(source: Path, extractor: Extractor, tmp_path: Path) -> None:
    first, computed = found(source, tmp_path / "cache", extractor)
    assert computed == COMPUTED
    again = open_extractor(ImageMetrics(features=str(tmp_path / "small.pt")))
    second, computed = found(source, tmp_path / "cache", again)
    assert computed == []
    assert torch.equal(first.pool, second.pool) and second.logits is None and second.notes == first.notes


def test_other_images_another_split_size_or_network_are_computed(
    source: Path, extractor: Extractor, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    found(source, cache, extractor)
    assert found(source, cache, extractor, "test")[1] == COMPUTED
    assert found(source, cache, extractor, size=12)[1] == COMPUTED
    other = folder(tmp_path / "others", pictures(lambda index: f"{'ab'[index % 2]}/{index}.png", 12, first=50))
    assert found(other, cache, extractor)[1] == COMPUTED
    network = torch.jit.load(str(tmp_path / "small.pt"))
    with torch.no_grad():
        next(network.parameters()).mul_(2)
    network.save(str(tmp_path / "small.pt"))  # another network under the same name
    changed = open_extractor(ImageMetrics(features=str(tmp_path / "small.pt")))
    assert found(source, cache, changed)[1] == COMPUTED
    assert found(source, cache, extractor)[1] == []


def test_damage_is_noticed_and_the_features_are_computed_anew(
    source: Path, extractor: Extractor, tmp_path: Path
) -> None:
    first, _ = found(source, tmp_path / "cache", extractor)
    file = next((tmp_path / "cache" / "image").glob("features-*/features.npz"))
    file.write_bytes(file.read_bytes()[:-40])
    second, computed = found(source, tmp_path / "cache", extractor)
    assert computed == COMPUTED and torch.equal(first.pool, second.pool)
    assert found(source, tmp_path / "cache", extractor)[1] == []


def test_what_cannot_be_kept_is_computed_every_time(
    source: Path, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network without a hash, more images than are kept."""
    cache = tmp_path / "cache"
    unknown = Extractor(extractor.network, "small.pt")
    assert [found(source, cache, unknown)[1] for _ in range(2)] == [COMPUTED, COMPUTED]
    monkeypatch.setattr(kept_features, "MOST_KEPT", 3)
    assert [found(source, cache, extractor)[1] for _ in range(2)] == [COMPUTED, COMPUTED]
    assert not list(cache.glob("image/features-*"))


def test_what_fails_leaves_nothing(source: Path, extractor: Extractor, tmp_path: Path) -> None:
    broken = Extractor(torch.nn.Identity(), "broken.pt", identity="1")
    with pytest.raises(UsageError, match=r"broken\.pt: returns"):
        found(source, tmp_path / "cache", broken)
    assert not list((tmp_path / "cache").glob("image/features-*/*"))
