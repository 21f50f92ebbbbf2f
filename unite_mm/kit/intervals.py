"""Shares, means and quantiles as metrics with their counts and 95 % intervals."""

import math
from collections.abc import Sequence

from unite_mm_schemas.metrics import Metric

Z_95 = 1.959963984540054
"""Standard normal quantile of 0.975."""


def wilson(count: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of the share `count / total` (Wilson 1927); (0, 1) when nothing was counted.

    Raises:
        ValueError: not 0 <= count <= total.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share")
    if total == 0:
        return 0.0, 1.0
    share = count / total
    scale = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    # Rounding must not push the interval off a share of exactly 0 or 1.
    return (0.0 if count == 0 else centre - half), (1.0 if count == total else centre + half)


T_95 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448),
    *(2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484),
    *(2.0452, 2.0423),
)
"""Quantiles of 0.975 of Student's t, of 1 to 30 degrees of freedom."""


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of a few values, such as those of several seeds (Student's t); None below two."""
    total = len(values)
    if total < 2:
        return None
    centre = math.fsum(values) / total
    variance = math.fsum((value - centre) ** 2 for value in values) / (total - 1)
    freedom = total - 1
    # Beyond the table the first terms of the expansion around the normal quantile are exact to 1e-4.
    beyond = Z_95 + (Z_95**3 + Z_95) / (4 * freedom) + (5 * Z_95**5 + 16 * Z_95**3 + 3 * Z_95) / (96 * freedom**2)
    half = (T_95[freedom - 1] if freedom <= len(T_95) else beyond) * math.sqrt(variance / total)
    return centre - half, centre + half


def share(name: str, title: str, count: int, total: int, definition: str) -> Metric:
    """The share `count / total` with its Wilson interval; without a value where `total` is 0."""
    return Metric(
        name=name,
        title=title,
        value=count / total if total else None,
        count=count,
        total=total,
        interval=wilson(count, total) if total else None,
        definition=definition,
    )


def mean(name: str, title: str, values: Sequence[float], definition: str, unit: str = "") -> Metric:
    """The mean of `values` with its normal interval (none below two values); without a value where there are none."""
    total = len(values)
    if total == 0:
        return Metric(name=name, title=title, value=None, unit=unit, total=0, definition=definition)
    centre = math.fsum(values) / total
    interval = None
    if total > 1:
        variance = math.fsum((value - centre) ** 2 for value in values) / (total - 1)
        half = Z_95 * math.sqrt(variance / total)
        interval = (centre - half, centre + half)
    return Metric(
        name=name, title=title, value=centre, unit=unit, total=total, interval=interval, definition=definition
    )


def quantile(name: str, title: str, values: Sequence[float], level: float, definition: str, unit: str = "") -> Metric:
    """A quantile, linear between order statistics, with the interval between two of these.

    The interval comes from the normal approximation of the binomial; there is none where it would leave the values.

    Raises:
        ValueError: not 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"{level} is no level of a quantile")
    ordered = sorted(values)
    total = len(ordered)
    if total == 0:
        return Metric(name=name, title=title, value=None, unit=unit, total=0, definition=definition)
    place = level * (total - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    value = below if below == above else below + (above - below) * (place - math.floor(place))
    half = Z_95 * math.sqrt(total * level * (1 - level))
    low, high = math.floor(total * level - half), math.ceil(total * level + half)
    interval = (ordered[low], ordered[high]) if low >= 0 and high < total else None
    return Metric(name=name, title=title, value=value, unit=unit, total=total, interval=interval, definition=definition)


def median(name: str, title: str, values: Sequence[float], definition: str, unit: str = "") -> Metric:
    """The median of `values`: their `quantile` at 0.5."""
    return quantile(name, title, values, 0.5, definition, unit)
