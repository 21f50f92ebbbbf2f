"""Metrics as text, for tables on the screen and in model cards."""

from unite_mm_schemas.metrics import Metric, Score


def shown(metric: Metric, value: float) -> str:
    """A value in the metric's own way: shares in percent, others with their unit."""
    unit = "%" if is_share(metric) else metric.unit
    return f"{bare(metric, value)} {unit}" if unit else bare(metric, value)


def bare(metric: Metric, value: float) -> str:
    """A value in the metric's own way, without its unit."""
    return f"{100 * value:.2f}" if is_share(metric) else f"{value:.4g}"


def is_share(metric: Metric) -> bool:
    """Whether a metric is a share, which is shown in percent."""
    return metric.count is not None and not metric.unit


def metric_groups(score: Score) -> dict[str, list[Metric]]:
    """The metrics of each group, in the order in which groups first appear."""
    groups: dict[str, list[Metric]] = {}
    for metric in score.metrics:
        groups.setdefault(metric.group, []).append(metric)
    return groups
