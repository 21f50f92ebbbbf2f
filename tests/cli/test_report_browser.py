"""The report in a real browser: it works, asks for nothing, and runs no text of data. Skipped without Chromium."""

import asyncio
import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Page, find_chromium, in_browser
from helpers.molecules_by_hand import FIVE_BONDS, from_smiles
from PIL import Image

from unite_mm.cli.main import run
from unite_mm.progress import Silent
from unite_mm.reporting.page import report_page
from unite_mm.reporting.runs import Evaluated, Run
from unite_mm_image.report.views import ImageViews
from unite_mm_molecule.config import MoleculeConfig
from unite_mm_molecule.molecule import Molecule
from unite_mm_molecule.report.views import MoleculeViews
from unite_mm_schemas.metrics import Histogram, Metric, MetricsReport, Score
from unite_mm_schemas.views import Fact, Gallery, GalleryItem, Views

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed"),
]

HOSTILE = "<script>document.title = 'run'</script>\"'><img src=x onerror=\"document.title = 'run'\">\x1b[31m{{7*7}}"
NOVEL = from_smiles("OC1CC1F")


class Known:
    """A data set that holds ethanol alone."""

    description = "one molecule"

    def smiles(self, split: str) -> list[str]:
        return ["CCO"]


def molecules_page(molecules: list[Molecule], *, pairs: bool = True) -> str:
    views = MoleculeViews(MoleculeConfig())
    galleries = [views.samples(molecules, Known(), Silent(), 1)]  # type: ignore[arg-type]
    if pairs:
        galleries.append(views.reconstructions(molecules[:2], molecules[:2], Silent(), 1))
    metric = Metric(name="validity", title=HOSTILE, value=0.5, count=1, total=2, group=HOSTILE, definition=HOSTILE)
    histogram = Histogram(name="h", title=HOSTILE, samples={HOSTILE: 0.5, "b": 0.5}, reference={HOSTILE: 1.0})
    score = Score(kind="generation", metrics=(metric,), histograms=(histogram,), notes=(HOSTILE,))
    report = MetricsReport(modality="qm9", data=HOSTILE, source="x", scores=(score,))
    kept = Views(modality="qm9", galleries=tuple(one for one in galleries if one is not None))
    return report_page([Run(HOSTILE, evaluations=(Evaluated("qm9", report, kept),))])


@cache
def small_page() -> str:
    return molecules_page([replace(from_smiles("CCO"), name=HOSTILE), NOVEL, FIVE_BONDS])


def written(tmp_path: Path, page: str) -> Path:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def check_quiet(page: Page, path: Path) -> None:
    """Nothing went wrong, and nothing but the file itself was asked for."""
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith("data:")] == [path.resolve().as_uri()]


async def canvas(page: Page, gallery: str) -> Any:
    """The pixels (N, 3) of the 3D view of a gallery."""
    await page.run(f"document.querySelector('[data-gallery={gallery}]').scrollIntoView()")
    await page.until(f"document.querySelector('[data-gallery={gallery}] .card')")
    await page.run(f"document.querySelector('[data-gallery={gallery}]').scrollIntoView()")
    await page.until(f"document.querySelector('[data-gallery={gallery}] .mol-space[data-drawn]')")
    box = await page.run(
        f"(() => {{ const box = document.querySelector('[data-gallery={gallery}] canvas').getBoundingClientRect();"
        " return [box.left, box.top, box.right, box.bottom] })()"
    )
    await asyncio.sleep(0.3)
    picture = Image.open(io.BytesIO(await page.picture())).convert("RGB").crop([round(edge) for edge in box])
    return np.asarray(picture).reshape(-1, 3)


async def shows_a_molecule(page: Page, gallery: str) -> None:
    """The 3D view of a gallery is drawn, in several colours, and turns when that is asked for."""
    before = await canvas(page, gallery)
    assert len(np.unique(before // 32, axis=0)) > 8, "the canvas is blank"
    assert np.array_equal(before, await canvas(page, gallery))
    turn = f"document.querySelector('[data-gallery={gallery}] .mol-toggle').click()"
    await page.run(turn)
    await asyncio.sleep(1)
    await page.run(turn)
    assert not np.array_equal(before, await canvas(page, gallery))


def test_molecules_turn_filters_filter_and_nothing_hostile_runs(tmp_path: Path) -> None:
    path = written(tmp_path, small_page())

    async def use(page: Page) -> None:
        await page.open(path)
        await shows_a_molecule(page, "gallery-0")
        assert await page.run("document.title") == f"{HOSTILE} – unite-mm".replace("\x1b", "\\x1b")  # noqa: RUF001
        chips = "[...document.querySelectorAll('[data-gallery=gallery-0] .chip')]"
        assert await page.run(f"{chips}.map((chip) => chip.textContent)") == [
            "all3", "valid2", "novel1", "in the training data1", "invalid1",
        ]  # fmt: skip
        cards = "document.querySelectorAll('[data-gallery=gallery-0] .card')"
        for tag, titles in (
            ("novel", ["OC1CC1F"]),
            ("known", ["CCO"]),
            ("invalid", ["C with 5 bonds"]),
            ("valid", ["CCO", "OC1CC1F"]),
        ):
            await page.run(f"document.querySelector('[data-gallery=gallery-0] [data-tag={tag}]').click()")
            assert await page.run(f"[...{cards}].map((card) => card.title)") == titles
        facts = await page.run("document.querySelector('[data-gallery=gallery-0] .facts').innerText")
        assert HOSTILE[:200].replace("\x1b", "\\x1b") in facts
        await page.run(f"{cards}[1].click()")
        assert "OC1CC1F" in await page.run("document.querySelector('[data-gallery=gallery-0] .facts h3').textContent")
        assert await page.run(f"{cards}[0].querySelectorAll('svg path').length") > 2
        await shows_a_molecule(page, "gallery-1")
        assert "RMSD" in await page.run("document.querySelector('[data-gallery=gallery-1] .facts').innerText")
        await page.run("document.querySelector('[data-chart]').scrollIntoView()")
        await page.until("document.querySelector('[data-chart][data-ready] canvas')")
        assert not await page.run("document.querySelector('.scores details').open")
        await page.run("document.querySelector('[data-open]').click()")
        assert await page.run("[...document.querySelectorAll('.scores details')].every((one) => one.open)")
        check_quiet(page, path)

    in_browser(use)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(tmp_path: Path, dark: bool) -> None:
    path = written(tmp_path, small_page())

    async def use(page: Page) -> None:
        await page.open(path)
        corner = (await canvas(page, "gallery-0"))[0]
        assert (int(corner.sum()) < 200) == dark  # the 3D view lies on the page's own ground
        assert await page.run("document.documentElement.scrollWidth") <= 390
        back = await page.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(int(part) for part in back[4:-1].split(",")) < 200) == dark
        check_quiet(page, path)

    in_browser(use, width=390, height=844, phone=True, dark=dark)


def test_a_phone_shows_whole_tables(tmp_path: Path) -> None:
    """The figures and the configuration of a real model, none of whose columns is out of sight."""
    path = tmp_path / "report.html"
    assert run(["report", "qm9-tiny", "-o", str(path)]) == 0

    async def use(page: Page) -> None:
        await page.open(path)
        tables = "[...document.querySelectorAll('table.settings, table.scores')].filter((one) => one.offsetParent)"
        assert await page.run(f"{tables}.length") >= 4
        assert await page.run(f"{tables}.filter((one) => one.offsetWidth > one.parentElement.clientWidth).length") == 0
        check_quiet(page, path)

    in_browser(use, width=390, height=844, phone=True)


@pytest.mark.parametrize("count", [1, 10_000])
def test_one_sample_and_ten_thousand(tmp_path: Path, count: int) -> None:
    content: Any = {"drawing": [["M10 10L90 90", "#000000", 2.0]], "models": []}
    items = tuple(GalleryItem(title=f"sample {k}", facts=(Fact(label="k", text=str(k)),), content=content)
                  for k in range(count))  # fmt: skip
    gallery = Gallery(kind="samples", title="many", total=count, items=items)
    evaluated = Evaluated("qm9", None, Views(modality="qm9", galleries=(gallery,)))
    path = written(tmp_path, report_page([Run("a", evaluations=(evaluated,))]))
    assert path.stat().st_size < 20_000_000

    async def use(page: Page) -> None:
        await page.open(path)
        await page.until("document.querySelector('[data-gallery][data-ready]')", 20)
        first = await page.run("document.querySelectorAll('.card').length")
        assert first <= min(count, 200)  # the others are made when they are scrolled to
        if count > 1:
            await page.run("document.querySelector('.cards').scrollTo(0, 1e9)")
            await page.until(f"document.querySelectorAll('.card').length > {first}")
        check_quiet(page, path)

    in_browser(use)


def test_images_lie_under_a_slider(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green")]
    pictures[0].info["label"] = 0
    pictures[1].info["label"] = 1
    views = ImageViews()
    galleries = (views.samples(pictures, None, Silent()), views.reconstructions(pictures, pictures[::-1], Silent()))
    kept = Views(modality="image", galleries=tuple(one for one in galleries if one is not None))
    path = written(tmp_path, report_page([Run("pictures", evaluations=(Evaluated("image", None, kept),))]))

    async def use(page: Page) -> None:
        await page.open(path)
        await page.until("document.querySelector('[data-gallery=gallery-1] .img-slider')")
        await page.run("document.querySelector('[data-gallery=gallery-0] [data-tag=class-1]').click()")
        assert await page.run("document.querySelectorAll('[data-gallery=gallery-0] .card').length") == 1
        clip = "document.querySelector('.img-over').style.clipPath"
        assert "50%" in await page.run(clip)
        await page.run(
            "(() => { const slider = document.querySelector('.img-slider'); slider.value = 80;"
            " slider.dispatchEvent(new Event('input')); })()"
        )
        assert "20%" in await page.run(clip)
        loaded = "[...document.querySelectorAll('img')].every((image) => image.complete && image.naturalWidth === 16)"
        await page.until(loaded)
        check_quiet(page, path)

    in_browser(use)
