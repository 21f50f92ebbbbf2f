"""Figures that others have published for molecules, where metric and data are those of a report."""

from collections.abc import Sequence

from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.views import Published

QM9 = "QM9, DFT geometries"
"""How the description of QM9 begins, as its data-set card has it."""

_UNITE = "S. Duggal, X. Bai et al. 2026, arXiv 2603.22283: QM9, 10,000 samples, 33M parameters, 8,000 epochs"

_FIGURES = (
    Published(system="UNITE-S", kind="generation", metric="validity_adit", value=0.9490, source=_UNITE),
    Published(system="UNITE-S", kind="generation", metric="uniqueness_adit", value=0.9971, source=_UNITE),
    Published(system="UNITE-S", kind="reconstruction", metric="match_geometry", value=0.9937, source=_UNITE),
    Published(system="UNITE-S", kind="reconstruction", metric="rmsd_geometry", value=0.039, source=_UNITE),
)


def published_figures(report: MetricsReport) -> Sequence[Published]:
    """The figures for QM9's own geometries; none for other data."""
    return _FIGURES if report.data.startswith(QM9) else ()
