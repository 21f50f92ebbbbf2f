"""Some of many things, spread evenly."""

import pytest

from unite_mm.kit.choice import spread_evenly


@pytest.mark.parametrize(
    ("total", "most", "places"),
    [(0, 5, []), (3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 5, [0, 2, 4, 6, 8]), (10, 3, [0, 3, 6]), (4, 0, [])],
)
def test_places_by_hand(total: int, most: int, places: list[int]) -> None:
    assert spread_evenly(total, most) == places


def test_places_are_distinct_ascending_and_as_far_apart_as_can_be() -> None:
    for total, most in ((1000, 7), (1000, 999), (12_345, 100)):
        places = spread_evenly(total, most)
        gaps = [after - before for before, after in zip(places, [*places[1:], total], strict=True)]
        assert len(places) == most and min(gaps) >= total // most and max(gaps) <= -(-total // most)
