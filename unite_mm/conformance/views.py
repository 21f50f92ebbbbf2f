"""The check of what a plugin adds to the HTML report."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unite_mm.conformance.report import Finding, calling
from unite_mm.conformance.subject import Subject
from unite_mm.contract import ReportViews
from unite_mm.errors import UniteError
from unite_mm_schemas.views import Gallery


def report_views(subject: Subject) -> Iterator[Finding]:
    """What the plugin adds to the report, if anything, are galleries in JSON, and files that are there."""
    with calling("report_views()"):
        views = subject.modality.report_views()
    if views is None:
        return
    if not isinstance(views, ReportViews):
        raise UniteError(f"report_views() returns {type(views).__name__}", "return an instance of ReportViews, or None")
    yield from _missing_files(views)
    samples, outputs, generated = subject.samples, subject.outputs, subject.generated
    for some in (generated, generated[:1]):
        with calling("ReportViews.samples()", "show any sample: those of an untrained model may be unsound"):
            shown = views.samples(some, None, subject.progress, 1)
        yield from _mistakes(shown, "samples", len(some))
    with calling("ReportViews.reconstructions()", "show any pair: outputs of an untrained model may be unsound"):
        shown = views.reconstructions(samples, outputs, subject.progress, 1)
    yield from _mistakes(shown, "reconstructions", len(samples))


def _missing_files(views: ReportViews) -> Iterator[Finding]:
    for path in (*views.scripts, *views.styles, *views.licences):
        if not Path(path).is_file():
            yield Finding(
                f"the report needs {Path(path).name}, which is not at {path}",
                "ship it as package data of the plugin, in the wheel too",
            )
    if views.scripts and not views.renderer:
        yield Finding("ReportViews has scripts but no `renderer`", "name what a script registers")


def _mistakes(shown: Any, kind: str, count: int) -> Iterator[Finding]:
    """What is wrong with a gallery."""
    if shown is None:
        return
    what = f"ReportViews.{kind}()"
    if not isinstance(shown, Gallery) or shown.kind != kind:
        raise UniteError(f"{what} returns no Gallery of kind {kind!r}", "return one, or None")
    with calling(f"the JSON of what {what} returns"):
        shown.model_dump_json()
    if shown.total != count:
        yield Finding(f"{what}: total is {shown.total} for {count} samples", "count all, whatever is shown of them")
    declared = {tag.name for tag in shown.tags}
    for name in sorted({name for item in shown.items for name in item.tags} - declared):
        yield Finding(f"{what}: items have the tag {name!r}, which Gallery.tags lacks", "declare it, or leave it out")
