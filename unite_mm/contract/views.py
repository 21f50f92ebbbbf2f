"""What a plugin adds to the HTML report: optional; without it the report shows tables and the plugin's PNGs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unite_mm.contract.data import Reference
from unite_mm.progress import Progress
from unite_mm_schemas.metrics import MetricsReport
from unite_mm_schemas.views import Gallery, Published


class ReportViews:
    """What a modality adds to the HTML report; each part may be left out.

    A gallery holds data alone. What draws them is JavaScript that the plugin ships as package data and the report
    copies into its one file, where no network is allowed. A script calls

        uniteReport.register(NAME, {thumbnail(item, host), detail(item, host)})

    with NAME as in `renderer`. Both functions get an item of the gallery as it is in JSON (`title`, `facts`, `content`)
    and an empty element to fill: `thumbnail` a small picture in the grid, `detail` the large view of the selected item.
    `detail` may return a function that is called before its element is used again. Texts go into the page by
    `textContent`, never as HTML: they may hold anything. `uniteReport.make(NAME, CLASS, TEXT)` makes an element so; the
    last two may be left out.

    Attributes:
        renderer: name under which a script registers what draws the items; empty: items are shown by title and facts.
        scripts: JavaScript files, in the order in which they are run.
        styles: CSS files; `--accent`, `--text`, `--muted`, `--surface`, `--line`, `--good` and `--bad` are the colours
            of the page, light and dark.
        licences: texts of the licences of what others have written among these.
        headlines: names of the metrics that stand on top of the report, in order; empty: the first of each score.
    """

    renderer: str = ""
    scripts: Sequence[Path] = ()
    styles: Sequence[Path] = ()
    licences: Sequence[Path] = ()
    headlines: Sequence[str] = ()

    def samples(
        self, samples: Sequence[Any], reference: Reference | None, progress: Progress, workers: int = 0
    ) -> Gallery | None:
        """A gallery of generated samples; here none.

        Of many samples it shows some, and `Gallery.notes` says how they were chosen: 10,000 molecules must stay far
        below 20 MB and take seconds.

        Args:
            samples: native samples, at least one.
            reference: what they were compared with, if there is anything.
            progress: where to show progress.
            workers: processes; 0: all cores.
        """
        del samples, reference, progress, workers
        return None

    def reconstructions(
        self, inputs: Sequence[Any], outputs: Sequence[Any], progress: Progress, workers: int = 0
    ) -> Gallery | None:
        """A gallery of inputs with their reconstructions; here none.

        Args:
            inputs: native samples, at least one.
            outputs: their reconstructions, in the same order.
            progress: where to show progress.
            workers: processes; 0: all cores.
        """
        del inputs, outputs, progress, workers
        return None

    def published(self, report: MetricsReport) -> Sequence[Published]:
        """Figures of others for metrics of a report, where metric and data are the same; here none."""
        del report
        return ()
