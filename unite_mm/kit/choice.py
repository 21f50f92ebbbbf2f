"""Choosing some of many things."""


def spread_evenly(total: int, most: int) -> list[int]:
    """Indices of at most `most` of `total` things, spread evenly over all, ascending."""
    count = min(total, most)
    return [k * total // count for k in range(count)]
