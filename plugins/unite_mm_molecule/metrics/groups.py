"""The headings under which tables show the metrics of generated molecules."""

from collections.abc import Iterable

from unite_mm_schemas.metrics import Metric

OWN_BONDS = "by the samples' own bonds"
EDM = "EDM: distance table"
ADIT = "ADiT: OpenBabel's bonds"
POSEBUSTERS = "PoseBusters"
DISTANCE = "distance to held-out ones"
MEANS = "means of the valid samples"
TOLD = "what the denoiser is told"


def grouped(group: str, metrics: Iterable[Metric]) -> list[Metric]:
    """The same metrics under a heading."""
    return [metric.model_copy(update={"group": group}) for metric in metrics]
