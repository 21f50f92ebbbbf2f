"""What the report shows of images."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unite_mm.progress import Silent
from unite_mm_image.report.views import EXACT_SIDE, LARGEST_SIDE, MOST_IMAGES, MOST_PAIRS, ImageViews
from unite_mm_schemas.views import Gallery

VIEWS = ImageViews()


class Named:
    """A reference that knows the names of the classes."""

    description = "two classes"
    classes = ("cat", "<b>dog</b>")


def picture(side: int = 8, seed: int = 0, label: Any = None, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    if label is not None:
        image.info["label"] = label
    return image


def samples(pictures: list[Image.Image], reference: Any = None) -> Gallery:
    found = VIEWS.samples(pictures, reference, Silent())
    assert found is not None
    return found


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def images_of(found: Gallery, place: int = 0) -> list[str]:
    content = found.items[place].content
    assert isinstance(content, dict) and isinstance(content["images"], list)
    return [str(one) for one in content["images"]]


@pytest.mark.parametrize("side", [8, EXACT_SIDE, EXACT_SIDE + 1, LARGEST_SIDE, LARGEST_SIDE + 100])
def test_small_images_are_kept_exactly_and_large_ones_small(side: int) -> None:
    (uri,) = images_of(samples([picture(side)]))
    shown = opened(uri)
    assert shown.size == (min(side, LARGEST_SIDE),) * 2
    if side <= EXACT_SIDE:
        assert uri.startswith("data:image/png;base64,")
        assert np.array_equal(np.asarray(shown), np.asarray(picture(side)))
    else:
        assert uri.startswith("data:image/webp;base64,")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_images_of_any_mode_are_shown(mode: str) -> None:
    assert opened(images_of(samples([picture(mode=mode)]))[0]).mode == "RGB"


def test_images_are_filtered_by_class() -> None:
    found = samples([picture(label=k % 2) for k in range(5)], Named())
    assert [(tag.name, tag.title, tag.total) for tag in found.tags] == [
        ("class-0", "cat", 3),
        ("class-1", "<b>dog</b>", 2),
    ]
    assert [item.tags for item in found.items] == [("class-0",), ("class-1",)] * 2 + [("class-0",)]
    assert found.items[1].title == "<b>dog</b>"
    assert samples([picture(label=k) for k in range(2)]).tags[1].title == "class 1"


def test_one_class_and_many_are_no_filters() -> None:
    assert samples([picture(label=0)] * 2).tags == ()
    many = samples([picture(label=k) for k in range(40)])
    assert many.tags == () and many.items[0].tags == ()


def test_of_many_images_some_are_shown() -> None:
    found = samples([picture(2, k) for k in range(1000)])
    assert (len(found.items), found.total) == (MOST_IMAGES, 1000)
    assert found.notes == (f"{MOST_IMAGES} of 1,000 are shown, spread evenly over all.",)
    assert len(found.model_dump_json()) < 1_000_000


def test_pairs_come_with_their_difference_the_worst_first() -> None:
    inputs = [picture(seed=k, label=k) for k in range(3)]
    outputs = [inputs[0], picture(seed=9), inputs[2].point(lambda value: min(255, value + 8))]
    found = VIEWS.reconstructions(inputs, outputs, Silent())
    assert found is not None
    assert [item.facts[0].text for item in found.items] == ["2", "3", "1"]
    assert found.items[2].title == "exact"
    before, after, apart = (np.asarray(opened(uri)) for uri in images_of(found, 2))
    assert np.array_equal(before, after) and not apart.any()
    mean = np.square(np.asarray(inputs[2], dtype=float) - np.asarray(outputs[2], dtype=float)).mean()
    assert found.items[1].title == f"{10 * np.log10(255**2 / mean):.1f} dB"


def test_inputs_are_shown_as_the_model_sees_them() -> None:
    found = VIEWS.reconstructions([picture(20)] * (MOST_PAIRS + 50), [picture(8)] * (MOST_PAIRS + 50), Silent())
    assert found is not None and len(found.items) == MOST_PAIRS
    assert {opened(uri).size for uri in images_of(found)} == {(8, 8)}


def test_the_assets_are_there() -> None:
    assert all(path.is_file() for path in (*VIEWS.scripts, *VIEWS.styles))
