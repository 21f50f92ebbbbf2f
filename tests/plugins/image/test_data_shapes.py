"""The rendered shapes: deterministic, balanced, antialiased, told apart by their class."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import opened
from PIL import Image

from unite_mm.contract import SPLITS
from unite_mm_image.data.native import label_of
from unite_mm_image.data.shapes import CLASSES, SIZES, ShapePixels, render_shape, scene


def test_the_rendered_set_needs_neither_files_nor_a_cache(tmp_path: Path) -> None:
    for source in (None, "shapes"):
        data = opened(source, tmp_path / "never-made")
        assert data.card.splits == SIZES == {split: data.size(split) for split in SPLITS}
        assert data.card.kept == data.card.read == 60_000
        assert data.classes == CLASSES and len(set(CLASSES)) == 10
        assert data.statistics == {"classes": list(CLASSES), "class_counts": [5000] * 10}
        targets = data.targets("test")
        assert targets is not None and (targets.kind, targets.names) == ("classes", CLASSES)
        assert targets.values[:12].tolist() == [*range(10), 0, 1]
    assert not (tmp_path / "never-made").exists()
    assert opened(None, tmp_path, condition="none").labels("train") is None


def test_any_order_and_any_process_renders_the_same(tmp_path: Path) -> None:
    data = opened(None, tmp_path, size=12)
    indices = torch.tensor([49_999, 3, 17, 3])
    first = data.batch("train", indices)
    assert first.condition.tolist() == [9, 3, 7, 3] and first.pixels.shape == (4, 3, 12, 12)
    assert torch.equal(first.pixels[1], first.pixels[3])
    assert torch.equal(opened(None, tmp_path, size=12).batch("train", indices.flip(0)).pixels.flip(0), first.pixels)
    assert [label_of(image) for image in data.samples("test", torch.arange(3))] == [0, 1, 2]
    code = "import hashlib; from unite_mm_image.data.shapes import render_shape; print(hashlib.sha256(b''.join("
    code += "render_shape('test', i, 16, 'rgb').tobytes() for i in range(20))).hexdigest())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.strip()
    assert (
        there == hashlib.sha256(b"".join(render_shape("test", i, 16, "rgb").tobytes() for i in range(20))).hexdigest()
    )


def test_scenes_are_as_they_were() -> None:
    # Seeds of Python's random numbers are promised to last: trained models keep meeting the images they know.
    what = scene("validation", 4321)
    assert what.shape == 1
    np.testing.assert_allclose(
        [what.x, what.y, what.radius, what.tilt],
        [0.495171767981726, 0.42814928355803195, 0.411186060197631, 0.19137768958505783],
        atol=1e-12,
    )


def test_sets_too_large_to_keep_are_rendered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([0, 50_000, 55_001])
    kept = ShapePixels(8, "rgb")[rows]
    monkeypatch.setattr(ShapePixels, "_CACHED_BYTES", 0)
    fresh = ShapePixels(8, "rgb")
    assert np.array_equal(fresh[rows], kept) and fresh[rows[:0]].shape == (0, 8, 8, 3)
    assert np.array_equal(kept[2], render_shape("test", 1, 8, "rgb"))
    with pytest.raises(IndexError):
        fresh[np.array([60_000])]


def test_no_two_images_are_alike_within_or_across_splits(tmp_path: Path) -> None:
    data = opened(None, tmp_path, colours="grey")
    rows = torch.cat([data.pixels(split, torch.arange(1000)) for split in SPLITS]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 3000


def test_shapes_stand_out_lie_inside_and_have_soft_edges() -> None:
    for index in range(200):
        what = scene("train", index)
        assert what.radius <= what.x <= 1 - what.radius and what.radius <= what.y <= 1 - what.radius
        pixels = render_shape("train", index, 32, "grey")[..., 0].astype(int)
        assert pixels.max() - pixels.min() > 0.25 * 255
    # A white circle on black, so to speak: its edge takes values in between.
    image = render_shape("train", 0, 64, "rgb").astype(int)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 64
    large, small = (Image.fromarray(render_shape("train", 12, size, "rgb")) for size in (64, 32))
    gap = np.abs(np.asarray(large.reduce(2), dtype=int) - np.asarray(small, dtype=int))
    assert gap.mean() < 3  # the same scene at either size


def test_classes_can_be_told_apart_by_their_outlines() -> None:
    # Nearest neighbour of the outlines, brought to one place and size: no colour, no position.
    def outline(split: str, index: int) -> np.ndarray:
        pixels = render_shape(split, index, 48, "grey")[..., 0].astype(float)
        what = scene(split, index)
        front = 255 * sum(a * b for a, b in zip((0.299, 0.587, 0.114), what.colour, strict=True))
        cover = Image.fromarray((np.abs(pixels - front) < 38).astype(np.uint8) * 255)
        left, top, reach = what.x * 48, what.y * 48, what.radius * 48
        box = (round(left - reach), round(top - reach), round(left + reach), round(top + reach))
        return np.asarray(cover.crop(box).resize((12, 12), Image.Resampling.BOX), dtype=float).ravel()

    known = np.stack([outline("train", i) for i in range(400)])
    asked = np.stack([outline("test", i) for i in range(200)])
    nearest = ((asked[:, None] - known[None]) ** 2).sum(-1).argmin(1) % 10
    assert (nearest == np.arange(200) % 10).mean() > 0.9
