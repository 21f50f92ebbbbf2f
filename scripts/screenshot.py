"""A picture of a report as a browser shows it: `python scripts/screenshot.py report.html picture.png`.

Needs Chromium, and aiohttp, as the tests of the report do. With `--phone` and `--dark` as a phone and in the dark.
"""

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from helpers.browser import Page, find_chromium, in_browser

_READY = "!document.querySelector('[data-gallery]') || document.querySelector('.mol-space[data-drawn], .card img')"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A picture of a report as a browser shows it.")
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--phone", action="store_true", help="as wide as a phone")
    parser.add_argument("--dark", action="store_true", help="in the dark")
    asked = parser.parse_args()
    if find_chromium() is None:
        parser.error("no Chromium is installed")

    async def use(page: Page) -> bytes:
        await page.open(asked.report)
        await page.until(_READY)
        await asyncio.sleep(0.5)  # until what is drawn is on the screen
        return await page.picture()

    width, height = (390, 844) if asked.phone else (1280, 900)
    asked.picture.write_bytes(in_browser(use, width=width, height=height, phone=asked.phone, dark=asked.dark))


if __name__ == "__main__":
    main()
