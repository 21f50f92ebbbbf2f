"""What a plugin says of its metrics beyond the scores themselves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SweepMetric:
    """The number by which settings of one model are compared.

    Attributes:
        metric: name of a metric in the scores of generation.
        title: what a table calls it.
        lower_is_better: whether less of it is better.
    """

    metric: str
    title: str
    lower_is_better: bool = True
