"""Latents, variations and paths of images, of which a class may be known."""

import torch
from helpers.image_models import make_model
from PIL import Image

from unite_mm.sampling.variations import known_conditions


def images(labels: list[int | None]) -> list[Image.Image]:
    """Plain images, some of a class."""
    found = []
    for index, label in enumerate(labels):
        image = Image.new("RGB", (8, 8), (40 * index, 90, 200 - 40 * index))
        if label is not None:
            image.info["label"] = label
        found.append(image)
    return found


def test_decoded_latents_are_reconstructions() -> None:
    model, samples = make_model(), images([0, None, 2])
    decoded, expected = model.decode(model.encode(samples)), model.reconstruct(samples)
    assert [one.tobytes() for one in decoded] == [one.tobytes() for one in expected]
    assert [one.info for one in decoded] == [one.info for one in expected]


def test_the_class_of_an_image_is_known_whatever_the_others_are() -> None:
    model = make_model()
    for labels in ([0, None, 2], [2], [None, None]):
        latents = model.encode(images(labels))
        found = known_conditions(model.modules_of("image").condition, latents)
        assert [None if one is None else int(one) for one in found] == labels


def test_variations_have_the_class_of_their_input() -> None:
    model = make_model()
    found = model.variations(images([2, None]), 0.5, 2, solver="euler", steps=2)
    assert [one.info.get("label") for one in found] == [2, 2, None, None]


def test_a_path_of_one_class_keeps_it() -> None:
    model = make_model()
    same, mixed = (
        model.interpolate(*images(labels), 3, "flow", solver="euler", steps=2) for labels in ([1, 1], [0, 2])
    )
    assert same.conditions is not None and same.conditions.tolist() == [1, 1, 1] and mixed.conditions is None
    ends = model.reconstruct(images([1, 1]))
    assert [one.tobytes() for one in (same[0], same[-1])] == [one.tobytes() for one in ends]
    assert torch.is_tensor(same.conditions)
